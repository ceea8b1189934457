"""What comes back to pandas is what went in."""

import decimal

import pandas as pd
import pyarrow as pa
import pytest

from api2db.frames import conform, to_batch, to_pandas, unify
from tests.frames.examples import every_kind, objects

# pandas 2 gives a fixed offset back as another class of the same zone.
_CHANGED = {"offset", "period", "interval", "category_of_intervals", "sparse", "arrow_list", ">i8", "uuid", "array"}


@pytest.mark.parametrize("name", sorted(set(every_kind()) - _CHANGED))
def test_a_column_comes_back_as_it_went_in(name: str) -> None:
    frame = pd.DataFrame({"c": every_kind()[name]})
    read = to_pandas(to_batch(frame))
    if name == "int_and_none":
        frame = frame.astype("Int64")
    if name == "object_text":
        frame = frame.astype(read.dtypes["c"])
    if name == "category_of_nothing":
        read, frame = read.astype(object), frame.astype(object)
    pd.testing.assert_frame_equal(read, frame, check_categorical=False)


def test_ints_and_booleans_with_nulls_are_never_floats() -> None:
    read = to_pandas(to_batch([{"n": 2**60 + 1, "u": 2**64 - 1, "b": True}, {}]))
    assert read.dtypes.astype(str).to_dict() == {"n": "Int64", "u": "UInt64", "b": "boolean"}
    assert read["n"][0] == 2**60 + 1


def test_a_column_that_other_frames_lack_keeps_its_ints() -> None:
    batches = [to_batch(pd.DataFrame({"a": [1], "b": [2]})), to_batch(pd.DataFrame({"b": [3]}))]
    schema = unify([batch.schema for batch in batches])
    assert schema is not None
    read = to_pandas(pa.Table.from_batches([conform(batch, schema) for batch in batches]))
    assert read["a"].isna().tolist() == [False, True]
    assert read["b"].tolist() == [2, 3]
    assert str(read.dtypes["a"]) == "Int64"


def test_json_cells_are_dicts_and_lists_again_in_their_place() -> None:
    frame = pd.DataFrame({"a": [1, 2], "j": objects({"k": [1]}, None), "z": ["x", "y"]})
    read = to_pandas(to_batch(frame))
    assert list(read) == ["a", "j", "z"]
    assert read["j"].tolist() == [{"k": [1]}, None]


def test_a_frame_of_json_alone_keeps_its_rows() -> None:
    assert to_pandas(to_batch([{"j": [1]}, {"j": {}}]))["j"].tolist() == [[1], {}]


def test_no_rows_and_no_columns_come_back_empty() -> None:
    assert to_pandas(to_batch([])).shape == (0, 0)
    assert to_pandas(to_batch(pd.DataFrame({"a": pd.Series([], dtype="Int64")}))).dtypes["a"] == "Int64"


def test_decimals_are_decimals() -> None:
    assert to_pandas(to_batch([{"d": decimal.Decimal("1.50")}]))["d"].tolist() == [decimal.Decimal("1.50")]
