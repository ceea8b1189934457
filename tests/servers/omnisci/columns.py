"""Column types: as declared, as Thrift has them, and what a load may bring for each."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from heavydb.common.ttypes import TDatumType, TEncodingType, TTypeInfo

LONGEST_TEXT_BYTES = 32_767
_DECLARED = re.compile(
    r"(?P<name>[A-Z]+)(?:\((?P<one>\d+)(?:,\s*(?P<two>\d+))?\))?"
    r"(?: ENCODING (?P<encoding>DICT|NONE|FIXED|DAYS)(?:\((?P<bits>\d+)\))?)?(?P<notnull> NOT NULL)?"
)
_INTEGERS = {"TINYINT": pa.int8(), "SMALLINT": pa.int16(), "INTEGER": pa.int32(), "BIGINT": pa.int64()}
_SMALLER = {8: pa.int8(), 16: pa.int16(), 32: pa.int32()}
_FLOATS = {"FLOAT": pa.float32(), "DOUBLE": pa.float64()}
_TICKS = {0: 1, 3: 10**3, 6: 10**6, 9: 10**9}
_TICKS_OF = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}
_THRIFT = {"INTEGER": "INT", "TEXT": "STR", "BOOLEAN": "BOOL"}


class RefusedError(Exception):
    """What the server says no with."""


@dataclass(frozen=True)
class ColumnType:
    """A type as it was declared, with what was left out filled in."""

    name: str
    precision: int = 0
    scale: int = 0
    encoding: str | None = None
    bits: int = 0
    notnull: bool = False

    @property
    def duckdb(self) -> str:
        if self.name == "TIMESTAMP":
            return "TIMESTAMP" + {0: "_S", 3: "_MS", 6: "", 9: "_NS"}[self.precision]
        if self.name == "DECIMAL":
            return f"DECIMAL({self.precision},{self.scale})"
        return "VARCHAR" if self.name == "TEXT" else self.name

    @property
    def thrift(self) -> TTypeInfo:
        encodings = {None: "NONE", "NONE": "NONE", "DICT": "DICT", "FIXED": "FIXED", "DAYS": "DATE_IN_DAYS"}
        return TTypeInfo(
            type=TDatumType._NAMES_TO_VALUES[_THRIFT.get(self.name, self.name)],
            encoding=TEncodingType._NAMES_TO_VALUES[encodings[self.encoding]],
            nullable=not self.notnull,
            is_array=False,
            precision=self.precision,
            scale=self.scale,
            comp_param=self.bits,
        )


def parse_type(declared: str) -> ColumnType:
    """A column's type from CREATE TABLE or ALTER TABLE."""
    found = _DECLARED.fullmatch(" ".join(declared.split()))
    if found is None:
        raise RefusedError(f"SQL Error: Encountered {declared!r}")
    name = {"INT": "INTEGER", "NUMERIC": "DECIMAL"}.get(found["name"], found["name"])
    if name not in {*_INTEGERS, *_FLOATS, "BOOLEAN", "DATE", "TIME", "TIMESTAMP", "DECIMAL", "TEXT"}:
        raise RefusedError(f"SQL Error: Type definition for {name} is not known")
    one, two, bits = (int(found[part] or 0) for part in ("one", "two", "bits"))
    encoding = found["encoding"]
    if name == "DECIMAL" and not 0 <= two <= one <= 18:  # 19 digits are said to be taken, but a bigint holds only 18
        raise RefusedError(f"Invalid precision and scale in DECIMAL({one},{two})")
    if name == "TIMESTAMP" and one not in _TICKS:
        raise RefusedError(f"Only TIMESTAMP(n) where n = (0,3,6,9) are supported now, not {one}")
    if name == "TEXT" and encoding is None:
        encoding, bits = "DICT", 32
    if name == "DATE" and encoding is None:
        encoding, bits = "DAYS", 32
    return ColumnType(name, one, two, encoding, bits, bool(found["notnull"]))


def held(column: str, type_: ColumnType, array: pa.Array) -> pa.Array:
    """What a table has for what a load brings: exact types only, and some values become NULL without a word."""
    if type_.notnull and array.null_count:
        raise RefusedError(f"NULL not allowed for column {column}")
    return _HELD[type_.name](type_, array)


def _integers(type_: ColumnType, array: pa.Array) -> pa.Array:
    wanted = _INTEGERS[type_.name]
    _expect(array.type == wanted, wanted)
    bounds = np.iinfo(_SMALLER.get(type_.bits, wanted).to_pandas_dtype())
    if type_.encoding == "FIXED":
        _expect_within(array, int(bounds.min) + 1, int(bounds.max))
    return pc.if_else(pc.equal(array, pa.scalar(int(bounds.min), wanted)), pa.scalar(None, wanted), array)


def _decimals(type_: ColumnType, array: pa.Array) -> pa.Array:
    """The digits without the point: what says so is that Arrow's own decimals are refused by the exact match."""
    _expect(array.type == pa.int64(), pa.int64())
    most = 10**type_.precision - 1
    _expect_within(array, -most, most)
    steps = pa.array([None if value is None else _shifted(value, type_.scale) for value in array.to_pylist()])
    return steps.cast(pa.decimal128(38, type_.scale)).cast(pa.decimal128(type_.precision, type_.scale))


def _shifted(value: int, scale: int) -> Any:
    from decimal import Decimal

    return Decimal(value).scaleb(-scale)


def _floats(type_: ColumnType, array: pa.Array) -> pa.Array:
    wanted = _FLOATS[type_.name]
    _expect(array.type == wanted, "float" if wanted == pa.float32() else "double")
    smallest = np.finfo(wanted.to_pandas_dtype()).tiny
    return pc.if_else(pc.equal(array, pa.scalar(float(smallest), wanted)), pa.scalar(None, wanted), array)


def _booleans(_type: ColumnType, array: pa.Array) -> pa.Array:
    _expect(pa.types.is_boolean(array.type), "boolean")
    return array


def _texts(type_: ColumnType, array: pa.Array) -> pa.Array:
    _expect(pa.types.is_string(array.type) or pa.types.is_binary(array.type), "string")
    array = array.cast(pa.string())
    if (pc.max(pc.binary_length(array)).as_py() or 0) > LONGEST_TEXT_BYTES:
        raise RefusedError(f"String too long for column: the longest is {LONGEST_TEXT_BYTES}")
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


def _dates(type_: ColumnType, array: pa.Array) -> pa.Array:
    _expect(pa.types.is_date(array.type), "date32 or date64")
    if type_.bits == 16:
        _expect_within(array.cast(pa.date32()).cast(pa.int32()), -32_767, 32_767)
    return _but(array.cast(pa.date32()), pa.int32())


def _times(_type: ColumnType, array: pa.Array) -> pa.Array:
    """Seconds are all that there is: what is below them is cut off."""
    _expect(pa.types.is_time(array.type), "time32 or time64")
    ticks = array.cast(pa.int64() if array.type.bit_width == 64 else pa.int32()).cast(pa.int64())
    return _scaled(ticks, array.type.unit, 0).cast(pa.int32()).cast(pa.time32("s"))


def _timestamps(type_: ColumnType, array: pa.Array) -> pa.Array:
    _expect(pa.types.is_timestamp(array.type), "timestamp")
    ticks = _scaled(array.cast(pa.int64()), array.type.unit, type_.precision)
    return _but(ticks.cast(pa.timestamp(_UNITS[type_.precision])), pa.int64())


def _but(array: pa.Array, ticks: pa.DataType) -> pa.Array:
    """The smallest count is NULL."""
    smallest = pa.scalar(int(np.iinfo(ticks.to_pandas_dtype()).min), ticks)
    return pc.if_else(pc.equal(array.cast(ticks), smallest), pa.scalar(None, array.type), array)


def _scaled(ticks: pa.Array, unit: str, precision: int) -> pa.Array:
    source, target = _TICKS_OF[unit], _TICKS[precision]
    if (unit, precision) == ("s", 3):
        return pc.multiply(ticks, 10**6)  # so the server has it
    return pc.divide(ticks, source // target) if source >= target else pc.multiply(ticks, target // source)


def _expect(right: object, what: object) -> None:
    if not right:
        raise RefusedError(f"Expected {what} type")


def _expect_within(array: pa.Array, least: int, most: int) -> None:
    beyond = pc.or_(pc.less(array, least), pc.greater(array, most))
    if pc.any(beyond).as_py():
        raise RefusedError("Invalid data conversion from parquet value: it is out of the column's range")


_HELD: dict[str, Callable[[ColumnType, pa.Array], pa.Array]] = {
    **dict.fromkeys(_INTEGERS, _integers),
    **dict.fromkeys(_FLOATS, _floats),
    "DECIMAL": _decimals,
    "BOOLEAN": _booleans,
    "TEXT": _texts,
    "DATE": _dates,
    "TIME": _times,
    "TIMESTAMP": _timestamps,
}
