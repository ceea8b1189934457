"""Dtypes are named as the DataFrame had them."""

import pandas as pd
import pyarrow as pa
import pytest

from api2db.frames import JSON, dtypes_of, merge_dtypes, to_batch
from tests.frames.examples import every_kind

_TEXT = str(pd.Series(["a"]).dtype)


@pytest.mark.parametrize(
    "name", sorted(set(every_kind()) - {"period", "interval", "sparse", "arrow_list", ">i8", "category_of_nothing"})
)
def test_a_frame_can_be_cast_to_the_dtypes_it_had(name: str) -> None:
    frame = pd.DataFrame({"c": every_kind()[name]})
    read = to_batch(frame).to_pandas()
    cast = read.astype(dtypes_of(to_batch(frame).schema))
    expected = "category" if frame.dtypes["c"].name == "category" else frame.dtypes["c"]
    assert cast.dtypes["c"] == expected


def test_a_schema_that_no_dataframe_made_names_dtypes_that_lose_nothing() -> None:
    types = {
        "int64": pa.field("", pa.int64(), nullable=False),
        "Int64": pa.field("", pa.int64()),
        "UInt8": pa.field("", pa.uint8()),
        "uint8": pa.field("", pa.uint8(), nullable=False),
        "boolean": pa.field("", pa.bool_()),
        "bool": pa.field("", pa.bool_(), nullable=False),
        "float64": pa.field("", pa.float64()),
        "datetime64[us]": pa.field("", pa.timestamp("us")),
        "datetime64[ns, Europe/Paris]": pa.field("", pa.timestamp("ns", "Europe/Paris")),
        "timedelta64[ms]": pa.field("", pa.duration("ms")),
        "category": pa.field("", pa.dictionary(pa.int32(), pa.utf8())),
        _TEXT: pa.field("", pa.utf8()),
        "object": pa.field("", JSON),
    }
    schema = pa.schema([field.with_name(name) for name, field in types.items()])
    assert dtypes_of(schema) == {name: name for name in types}


@pytest.mark.parametrize("type_", [pa.decimal128(5, 2), pa.date32(), pa.time64("us"), pa.binary()])
def test_what_pandas_has_no_dtype_for_is_object(type_: pa.DataType) -> None:
    assert dtypes_of(pa.schema({"c": type_})) == {"c": "object"}


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ("int64", "int64", "int64"),
        ("int64", "Int64", "Int64"),
        ("int8", "int32", "int32"),
        ("int64", "float64", "float64"),
        ("Int64", "float64", "float64"),
        ("int32", "float64", "float64"),
        ("datetime64[s]", "datetime64[us]", "datetime64[us]"),
        ("category", _TEXT, "object"),
        ("bool", "boolean", "boolean"),
        ("int64", _TEXT, "object"),
    ],
)
def test_merged_dtypes_hold_both(old: str, new: str, merged: str) -> None:
    both = {"a": merged, "b": "boolean", "c": "Int8", "d": "float64"}
    assert merge_dtypes({"a": old, "b": "bool", "d": "float64"}, {"a": new, "c": "int8", "d": "float64"}) == both
    assert merge_dtypes({"a": new}, {"a": old}) == {"a": merged}


def test_a_column_of_nulls_takes_the_first_real_dtype() -> None:
    nulls, ints = to_batch(pd.DataFrame({"a": [None], "b": [1]})), to_batch(pd.DataFrame({"a": [1], "b": [1]}))
    assert dtypes_of(nulls.schema) == {"b": "int64"}
    assert merge_dtypes(dtypes_of(nulls.schema), dtypes_of(ints.schema)) == {"a": "Int64", "b": "int64"}
    assert merge_dtypes(dtypes_of(ints.schema), dtypes_of(nulls.schema)) == {"a": "Int64", "b": "int64"}


def test_the_first_dtypes_are_taken_as_they_are() -> None:
    assert merge_dtypes({}, {"a": "int64"}) == {"a": "int64"}
