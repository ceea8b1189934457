"""A JSON cell holds what was in the cell."""

import datetime
import decimal
import enum
import json
import pathlib
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from api2db.errors import FrameError
from api2db.frames import JSON, decode_cell, encode_cell, is_json


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, (2, None)]}, '{"a": [1, [2, null]]}'),
        ({"é": "日本"}, '{"é": "日本"}'),
        ({"nan": float("nan"), "inf": float("-inf")}, '{"nan": null, "inf": "-Infinity"}'),
        ({1: "x", None: "y", datetime.date(2020, 1, 1): "z"}, '{"1": "x", "null": "y", "2020-01-01": "z"}'),
        ({3, 1, 2}, "[1, 2, 3]"),
        ([decimal.Decimal("1.50"), decimal.Decimal("NaN")], '["1.50", null]'),
        ([datetime.datetime(2020, 1, 1, 5, tzinfo=datetime.UTC)], '["2020-01-01T05:00:00+00:00"]'),
        ([datetime.timedelta(seconds=1)], '["P0DT0H0M1S"]'),
        ([pd.NaT, pd.NA, None], "[null, null, null]"),
        ([pd.Timestamp(1)], '["1970-01-01T00:00:00.000000001"]'),
        (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
        (np.array([1, "NaT"], "M8[ns]"), '["1970-01-01T00:00:00.000000001", null]'),
        (np.array(5), "[5]"),
        (
            [np.int64(1), np.float32(0.5), np.bool_(True), np.datetime64("2020")],
            '[1, 0.5, true, "2020-01-01T00:00:00"]',
        ),
        ([uuid.UUID(int=5), b"\xff", Colour.RED], '["00000000-0000-0000-0000-000000000005", "/w==", "red"]'),
        ([pathlib.PurePosixPath("a/b"), pa.scalar(5)], '["a/b", 5]'),
        (pd.Series([1.5, np.nan]), "[1.5, null]"),
    ],
)
def test_a_cell_is_written_as_json(value: object, text: str) -> None:
    assert encode_cell(value) == text


@given(
    some.recursive(
        some.none()
        | some.booleans()
        | some.integers()
        | some.floats(allow_nan=False, allow_infinity=False)
        | some.text(),
        lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    )
)
def test_what_json_can_say_comes_back_as_it_was(value: object) -> None:
    assert decode_cell(encode_cell(value)) == value
    assert json.loads(encode_cell(value)) == value


def test_a_cell_that_holds_itself_is_refused() -> None:
    cell: list[object] = []
    cell.append(cell)
    with pytest.raises(FrameError, match="holds itself"):
        encode_cell(cell)


@pytest.mark.parametrize("value", [object(), 1j, np.longdouble(1), {datetime.date(2020, 1, 1): "a", "2020-01-01": "b"}])
def test_what_has_no_exact_json_form_is_refused(value: object) -> None:
    with pytest.raises(FrameError):
        encode_cell(value if isinstance(value, dict) else [value])


def test_only_json_columns_are_json() -> None:
    assert is_json(JSON)
    assert is_json(pa.json_(pa.large_utf8()))
    assert not is_json(pa.utf8())
    assert not is_json(pa.uuid())
