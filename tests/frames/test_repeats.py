"""Repeated rows are those that pandas would find."""

from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from api2db.errors import DataError
from api2db.frames import _repeats as repeats
from api2db.frames import duplicate_rows, to_batch
from tests.frames.examples import every_kind

_ROWS = some.lists(
    some.fixed_dictionaries(
        {
            "n": some.sampled_from([None, 0, 1, -1, 2**63 - 1]),
            "f": some.sampled_from([float("nan"), 0.0, -0.0, 1.5]),
            "t": some.sampled_from([None, "", "a"]),
            "b": some.sampled_from([None, True, False]),
        }
    ),
    min_size=1,
)


def _as_pandas_has_it(rows: list[dict[str, Any]]) -> pd.DataFrame:
    dtypes = {"n": "Int64", "f": "float64", "t": "string", "b": "boolean"}
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=dtypes[name]) for name in dtypes})


@given(_ROWS, some.sampled_from([None, ["n"], ["f", "t"], ["t", "b"], []]))
def test_repeated_rows_are_those_that_pandas_finds(rows: list[dict[str, Any]], keys: list[str] | None) -> None:
    frame = _as_pandas_has_it(rows)
    expected = frame.duplicated(subset=keys).tolist() if keys != [] else [False] * len(rows)
    assert duplicate_rows(to_batch(frame), keys).to_pylist() == expected


@given(_ROWS)
def test_rows_that_share_a_hash_by_chance_are_told_apart(rows: list[dict[str, Any]]) -> None:
    frame = _as_pandas_has_it(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "_mix_in", lambda hashes, columns: None)
        assert duplicate_rows(to_batch(frame)).to_pylist() == frame.duplicated().tolist()


@pytest.mark.parametrize("name", every_kind())
def test_every_kind_of_column_can_be_compared(name: str) -> None:
    series = every_kind()[name]
    frame = pd.DataFrame({"c": pd.concat([series, series], ignore_index=True)})
    first = [False, name in ("nothing", "category_of_nothing")]
    assert duplicate_rows(to_batch(frame)).to_pylist() == [*first, True, True]


def test_a_null_and_a_nan_of_arrow_are_both_missing() -> None:
    batch = pa.record_batch({"f": pa.array([None, float("nan"), 1.0, None])})
    assert duplicate_rows(batch).to_pylist() == [False, True, False, True]


def test_no_rows_have_no_repeats() -> None:
    assert duplicate_rows(pa.record_batch({"a": pa.array([], pa.int64())})).to_pylist() == []


def test_an_unknown_key_is_named_with_the_columns_there_are() -> None:
    with pytest.raises(DataError, match="no column is named 'z'; the columns are 'a', 'b'"):
        duplicate_rows(to_batch([{"a": 1, "b": 2}]), ["a", "z"])
