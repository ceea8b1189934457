"""Frames that hold one of every kind of value."""

import datetime
import decimal
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.frames import JSON

DECIMAL = decimal.Decimal
NEW_YORK = "America/New_York"


def cells(*texts: str | None) -> pa.Array:
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))


def every_type() -> pa.Table:
    """Three rows, of which the second is null, at the ends of what each type holds."""
    date, far = datetime.date(1, 1, 1), datetime.date(9999, 12, 31)
    return pa.table(
        {
            "bool": [True, None, False],
            "int8": pa.array([127, None, -128], pa.int8()),
            "int64": pa.array([2**63 - 1, None, -(2**63)], pa.int64()),
            "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
            "float32": pa.array([0.1, None, 1e-45], pa.float32()),
            "float64": [0.1 + 0.2, None, 5e-324],
            "negative_zero": [-0.0, None, 1.5],
            "infinite": [float("inf"), None, float("-inf")],
            "text": ["", None, 'a"b,\r\n\u2028€😀'],
            "digits": ["001", None, "1e5"],
            "bytes": [b"\x00\xff", None, b""],
            "decimal": pa.array([DECIMAL("1.10"), None, DECIMAL("-" + "9" * 36)], pa.decimal128(38, 2)),
            "fraction": pa.array([DECIMAL("1e-30"), None, DECIMAL(0)], pa.decimal128(38, 30)),
            "wide": pa.array([DECIMAL(1), None, DECIMAL("9" * 60)], pa.decimal256(76, 3)),
            "date": [date, None, far],
            "date64": pa.array([date, None, far], pa.date64()),
            "time": pa.array([datetime.time(1, 2, 3, 4), None, datetime.time(23, 59, 59, 999999)]),
            "second": pa.array([datetime.time(1, 2, 3), None, datetime.time(0)], pa.time32("s")),
            "naive": pa.array([1, None, -1], pa.timestamp("ns")),
            "zoned": pa.array([1, None, -1], pa.timestamp("ns", NEW_YORK)),
            "offset": pa.array([1, None, -1], pa.timestamp("ms", "+01:30")),
            "seconds": pa.array([1, None, -1], pa.timestamp("s")),
            "distant": pa.array([-62135596800000000, None, 253402300799999999], pa.timestamp("us")),
            "farther": pa.array([2**40, None, -(2**40)], pa.timestamp("s")),
            "duration": pa.array([1, None, -(2**63) + 1], pa.duration("ns")),
            "null": pa.nulls(3),
            "category": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int32()), ["x", "y", "unused"]),
            "ordered": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int32()), ["b", "a"], ordered=True),
            "numbers": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int32()), pa.array([5, 6])),
            "nested": cells('{"a": [1, 2.5, "é"]}', None, "[]"),
            "odd_json": cells("null", None, '{"a":1,"a":2}'),
            "big_json": cells("123456789012345678901234567890", None, "1"),
            'strange "na\nme",': [1, 2, 3],
            "": [1, 2, 3],
            "index": [1, 2, 3],
        }
    )


def every_dtype() -> pd.DataFrame:
    """Columns of every dtype that a DataFrame in a pickle may have."""
    return pd.DataFrame(
        {
            "int": [1, 2],
            "int16": np.array([1, 2], "i2"),
            "float32": np.array([1.5, np.nan], "f4"),
            "bool": [True, False],
            "text": ["x", None],
            "object": pd.Series(["x", None], dtype=object),
            "naive": pd.to_datetime(["2020-01-01", "2021-01-01"]),
            "zoned": pd.to_datetime(["2020-01-01", "2021-01-01"]).tz_localize(NEW_YORK),
            "utc": pd.DatetimeIndex(["2020-01-01", pd.NaT]).tz_localize("UTC"),
            "offset": pd.to_datetime(["2020-01-01T00:00:00+01:00", "2021-01-01T00:00:00+01:00"]),
            "duration": pd.to_timedelta([1, 2]),
            "category": pd.Categorical(["x", None], categories=["x", "y"]),
            "ordered": pd.Categorical([2, 1], ordered=True),
            "moments": pd.Categorical(pd.to_datetime(["2020-01-01", "2021-01-01"])),
            "Int64": pd.array([1, None], "Int64"),
            "UInt8": pd.array([1, None], "UInt8"),
            "Float64": pd.array([1.5, None], "Float64"),
            "boolean": pd.array([True, None], "boolean"),
            "python": pd.array(["x", None], "string[python]"),
            "pyarrow": pd.array(["x", None], "string[pyarrow]"),
            "arrow_int": pd.arrays.ArrowExtensionArray(pa.array([1, None], pa.int64())),
            "arrow_list": pd.arrays.ArrowExtensionArray(pa.array([[1], None], pa.list_(pa.int64()))),
            "arrow_decimal": pd.arrays.ArrowExtensionArray(pa.array([DECIMAL("1.5"), None], pa.decimal128(5, 2))),
            "arrow_struct": pd.arrays.ArrowExtensionArray(pa.array([{"a": 1}, None], pa.struct([("a", pa.int64())]))),
            "arrow_time": pd.arrays.ArrowExtensionArray(pa.array([None, None], pa.timestamp("ns", "UTC"))),
            "arrow_dictionary": pd.arrays.ArrowExtensionArray(pa.array(["a", "b"]).dictionary_encode()),
        }
    )


def every_cell() -> list[object]:
    """Values that an object column may hold."""
    return [
        {"a": {"b": [1]}},
        [1, None],
        (1, "x"),
        {1},
        frozenset([2]),
        b"\x00",
        bytearray(b"x"),
        1 << 100,
        DECIMAL("1.50"),
        datetime.date(2020, 1, 1),
        datetime.time(1, 2),
        datetime.datetime(2020, 1, 1),  # noqa: DTZ001
        datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        datetime.timedelta(1),
        uuid.UUID(int=5),
        np.float64(1.5),
        np.int64(2),
        np.bool_(True),
        np.str_("x"),
        np.datetime64("2020-01-01", "ns"),
        np.array([[1, 2], [3, 4]]),
        np.array([{"a": 1}], dtype=object),
        pd.Timestamp("2020-01-01", tz=NEW_YORK),
        pd.Timestamp("2020-01-01"),
        pd.Timedelta(1),
        pd.NA,
        pd.NaT,
        None,
    ]
