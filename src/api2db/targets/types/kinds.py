"""What stands in frames, and the Arrow type in which it is carried: the rows of the table of types."""

from typing import NamedTuple

import pyarrow as pa

from api2db.frames import JSON

__all__ = ["KINDS", "Kind"]


class Kind(NamedTuple):
    """A kind of column.

    Attributes:
        name: Ours, for tests and docs.
        frame: What it is in a frame: dtypes, and Python's classes in a column of objects.
        type: The Arrow type that it becomes.
        is_written: Whether it is a class of its own that becomes text.
    """

    name: str
    frame: str
    type: pa.DataType
    is_written: bool = False


KINDS = (
    Kind("bool", "`bool`, `boolean`, bool in `object`", pa.bool_()),
    Kind("int8", "`int8`, `Int8`", pa.int8()),
    Kind("int16", "`int16`, `Int16`", pa.int16()),
    Kind("int32", "`int32`, `Int32`", pa.int32()),
    Kind("int64", "`int64`, `Int64`, int in `object`, also beside None", pa.int64()),
    Kind("uint8", "`uint8`, `UInt8`", pa.uint8()),
    Kind("uint16", "`uint16`, `UInt16`", pa.uint16()),
    Kind("uint32", "`uint32`, `UInt32`", pa.uint32()),
    Kind("uint64", "`uint64`, `UInt64`, int from 2⁶³ to 2⁶⁴ in `object`", pa.uint64()),
    Kind("large int", "int of up to 38 digits in `object`", pa.decimal128(38, 0)),
    Kind("float32", "`float32`, `Float32`, `float16`", pa.float32()),
    Kind("float64", "`float64`, `Float64`, float in `object`, also beside int where that is exact", pa.float64()),
    Kind("text", "`str`, `string`, `string[pyarrow]`, str in `object`", pa.string()),
    Kind("category", "`category` of text", pa.dictionary(pa.int32(), pa.string())),
    Kind("category of ints", "`category` of another type, such as int", pa.dictionary(pa.int32(), pa.int64())),
    Kind("bytes", "bytes, bytearray", pa.binary()),
    Kind("decimal", "Decimal of up to 38 digits, such as 12 with 2 behind the point", pa.decimal128(12, 2)),
    Kind("wide decimal", "Decimal of 39 to 76 digits", pa.decimal256(50, 5)),
    Kind("date", "datetime.date", pa.date32()),
    Kind("time", "datetime.time", pa.time64("us")),
    Kind("time of nanoseconds", "Arrow's `time64[ns]`", pa.time64("ns")),
    Kind("naive", "`datetime64[us]`, coarser ones, datetime.datetime", pa.timestamp("us")),
    Kind("naive of nanoseconds", "`datetime64[ns]`", pa.timestamp("ns")),
    Kind("zoned", "`datetime64[us, zone]`, datetime.datetime with a zone", pa.timestamp("us", "UTC")),
    Kind("zoned of nanoseconds", "`datetime64[ns, zone]`", pa.timestamp("ns", "UTC")),
    Kind("timedelta", "`timedelta64[us]`, coarser ones, datetime.timedelta", pa.duration("us")),
    Kind("timedelta of nanoseconds", "`timedelta64[ns]`", pa.duration("ns")),
    Kind("JSON", "dict, list, tuple, set, nested ones, NumPy arrays, classes that are mixed", JSON),
    Kind("UUID", "uuid.UUID", pa.string(), is_written=True),
    Kind("period", "`period`, `interval`", pa.string(), is_written=True),
    Kind("nothing", "nothing but None, NaN, NaT and NA", pa.null()),
)
