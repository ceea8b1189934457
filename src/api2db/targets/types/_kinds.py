"""The rows of the table of types: each kind of value in a frame, and the Arrow type that carries it."""

from typing import NamedTuple

import pyarrow as pa

from api2db.frames import JSON


class ValueKind(NamedTuple):
    """A kind of column.

    Attributes:
        name: Its name in tests and docs.
        frame: Its dtypes in a frame, and its Python classes in a column of objects.
        type: The Arrow type that it becomes.
        is_written: Whether it is a class of its own that is stored as text.
    """

    name: str
    frame: str
    type: pa.DataType
    is_written: bool = False


KINDS = (
    ValueKind("bool", "`bool`, `boolean`, bool in `object`", pa.bool_()),
    ValueKind("int8", "`int8`, `Int8`", pa.int8()),
    ValueKind("int16", "`int16`, `Int16`", pa.int16()),
    ValueKind("int32", "`int32`, `Int32`", pa.int32()),
    ValueKind("int64", "`int64`, `Int64`, int in `object`, also beside None", pa.int64()),
    ValueKind("uint8", "`uint8`, `UInt8`", pa.uint8()),
    ValueKind("uint16", "`uint16`, `UInt16`", pa.uint16()),
    ValueKind("uint32", "`uint32`, `UInt32`", pa.uint32()),
    ValueKind("uint64", "`uint64`, `UInt64`, int from 2⁶³ to 2⁶⁴ in `object`", pa.uint64()),
    ValueKind("large int", "int of up to 38 digits in `object`", pa.decimal128(38, 0)),
    ValueKind("float32", "`float32`, `Float32`, `float16`", pa.float32()),
    ValueKind("float64", "`float64`, `Float64`, float in `object`, also beside int if that is exact", pa.float64()),
    ValueKind("text", "`str`, `string`, `string[pyarrow]`, str in `object`", pa.string()),
    ValueKind("category", "`category` of text", pa.dictionary(pa.int32(), pa.string())),
    ValueKind("category of ints", "`category` of another type, such as int", pa.dictionary(pa.int32(), pa.int64())),
    ValueKind("bytes", "bytes, bytearray", pa.binary()),
    ValueKind("decimal", "Decimal of up to 38 digits, such as 12 with 2 after the point", pa.decimal128(12, 2)),
    ValueKind("wide decimal", "Decimal of 39 to 76 digits", pa.decimal256(50, 5)),
    ValueKind("date", "datetime.date", pa.date32()),
    ValueKind("time", "datetime.time", pa.time64("us")),
    ValueKind("time of nanoseconds", "Arrow's `time64[ns]`", pa.time64("ns")),
    ValueKind(
        "naive", "`datetime64[us]`, coarser ones, datetime.datetime, also beside datetime.date", pa.timestamp("us")
    ),
    ValueKind("naive of nanoseconds", "`datetime64[ns]`", pa.timestamp("ns")),
    ValueKind("zoned", "`datetime64[us, zone]`, datetime.datetime with a zone", pa.timestamp("us", "UTC")),
    ValueKind("zoned of nanoseconds", "`datetime64[ns, zone]`", pa.timestamp("ns", "UTC")),
    ValueKind("timedelta", "`timedelta64[us]`, coarser ones, datetime.timedelta", pa.duration("us")),
    ValueKind("timedelta of nanoseconds", "`timedelta64[ns]`", pa.duration("ns")),
    ValueKind("JSON", "dict, list, tuple, set, nested ones, NumPy arrays, mixed classes", JSON),
    ValueKind("UUID", "uuid.UUID", pa.string(), is_written=True),
    ValueKind("period", "`period`, `interval`, also in `object`", pa.string(), is_written=True),
    ValueKind(
        "written", "paths, IP addresses and networks, Fraction, ZoneInfo, UserString", pa.string(), is_written=True
    ),
    ValueKind("nothing", "only None, NaN, NaT and NA", pa.null()),
)
