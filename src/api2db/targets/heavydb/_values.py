"""Cast values for HeavyDB, which matches types exactly: kinds that it lacks become text or numbers."""

import re
from collections.abc import Sequence
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames import base64_texts, is_bytes, is_text
from api2db.targets.port import Column
from api2db.targets.types import HEAVYDB

_types = pa.types
_NAMES = {"INT": "INTEGER", "STR": "TEXT", "BOOL": "BOOLEAN"}
_WHOLE = {"TINYINT": pa.int8(), "SMALLINT": pa.int16(), "INTEGER": pa.int32(), "BIGINT": pa.int64()}
_NOT_NULL = " NOT NULL"
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY_S = 86_400
_FIRST_WORD = re.compile(r"\w+")


def declared_type(column: Any) -> str:
    """A column's type in SQL, from the server's Thrift structures."""
    from heavydb.common.ttypes import TDatumType, TEncodingType

    said = column.col_type
    name: str = TDatumType._VALUES_TO_NAMES[said.type]  # noqa: SLF001 - Thrift's only way from a number to a name
    name = _NAMES.get(name, name)
    encoding = TEncodingType._VALUES_TO_NAMES[said.encoding]  # noqa: SLF001
    if name == "DECIMAL":
        name = f"DECIMAL({said.precision},{said.scale})"
    elif name == "TIMESTAMP":
        name = f"TIMESTAMP({said.precision})"
    elif name == "TEXT":
        name = f"TEXT ENCODING DICT({said.comp_param})" if encoding == "DICT" else "TEXT ENCODING NONE"
    elif encoding == "DATE_IN_DAYS" and said.comp_param == 16:
        name = "DATE ENCODING DAYS(16)"
    elif encoding == "FIXED":
        name = f"{name} ENCODING FIXED({said.comp_param})"
    return name + ("[]" if said.is_array else "") + ("" if said.nullable else _NOT_NULL)


def rows_of(row_set: Any) -> list[tuple[Any, ...]]:
    """The rows of an answer by columns, from the server's Thrift structures; dates as days, times as ticks."""
    columns = [_cells(said.col_type, column) for said, column in zip(row_set.row_desc, row_set.columns, strict=True)]
    return list(zip(*columns, strict=True))


def _cells(said: Any, column: Any) -> list[Any]:
    from heavydb.common.ttypes import TDatumType

    name = TDatumType._VALUES_TO_NAMES[said.type]  # noqa: SLF001 - Thrift's only way from a number to a name
    data = column.data
    if data.arr_col:
        return [None if null else _cells(said, each) for null, each in zip(column.nulls, data.arr_col, strict=True)]
    part = {"FLOAT": data.real_col, "DOUBLE": data.real_col, "DECIMAL": data.real_col}.get(name)
    values = part if part is not None else data.int_col or data.str_col or []
    if name == "DATE":
        values = [value // _DAY_S for value in values]
    return [None if null else value for null, value in zip(column.nulls, values, strict=True)]


def shaped(values: pa.ChunkedArray, home: Column) -> pa.ChunkedArray:
    """Values in a kind that the column can have, as the table of types says."""
    type_ = values.type
    if _types.is_dictionary(type_):
        return shaped(values.cast(type_.value_type), home)
    if _types.is_timestamp(type_) and type_.tz and _types.is_timestamp(home.type):
        return values.cast(pa.timestamp(type_.unit, "UTC")).cast(pa.timestamp(type_.unit))
    if _types.is_duration(type_) and _types.is_integer(home.type):
        return _nanoseconds(values)
    if _types.is_string(home.type) and _is_written_as_text(type_):
        return pa.chunked_array([_as_text(values.combine_chunks())], pa.string())
    return values


def is_not_null(column: Column) -> bool:
    """Whether the column takes no NULL."""
    return column.declared.endswith(_NOT_NULL)


def empty_texts(rows: pa.Table) -> list[str]:
    """The columns with an empty text, which is NULL there."""
    texts = [name for name in rows.column_names if is_text(rows.column(name).type)]
    return [name for name in texts if pc.any(pc.equal(rows.column(name), "")).as_py()]


def encoded(rows: pa.Table, columns: Sequence[Column]) -> bytes:
    """Encode rows, cast to the columns' types, as an Arrow stream with the one record batch of a load."""
    homes = {column.name: column for column in columns}
    arrays = [_on_the_wire(rows.column(name).combine_chunks(), homes[name]) for name in rows.column_names]
    batch = pa.record_batch(arrays, rows.column_names)
    sink = BytesIO()  # its bytes can be read without another copy
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def _on_the_wire(array: pa.Array, column: Column) -> pa.Array:
    """HeavyDB matches types exactly: integers in the type's own width, decimals as their digits, text as utf8."""
    if isinstance(array, pa.ChunkedArray):  # it has no chunks
        array = pa.array([], array.type)
    if _types.is_decimal(array.type):
        return _digits(array)
    if _types.is_integer(array.type):
        found = _FIRST_WORD.match(column.declared)
        return array.cast(_WHOLE[found[0]] if found else array.type)
    return array.cast(pa.string()) if _types.is_large_string(array.type) else array


def _digits(array: pa.Array) -> pa.Array:
    """Decimals as integers without their point. They have at most 18 digits: the low half of Arrow's 128 bits."""
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    halves = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset :][: 2 * len(array) : 2]
    return pa.array(halves, pa.int64(), mask=~valid)


def _nanoseconds(values: pa.ChunkedArray) -> pa.ChunkedArray:
    ticks, factor = values.cast(pa.int64()), _NS[values.type.unit]
    try:
        return pc.multiply_checked(ticks, factor)
    except pa.ArrowInvalid:  # so that only these rows do not fit
        return pc.multiply(ticks.cast(pa.decimal128(19, 0)), pa.scalar(Decimal(factor), pa.decimal128(10, 0)))


def _is_written_as_text(type_: pa.DataType) -> bool:
    is_number = _types.is_decimal(type_) or _types.is_uint64(type_)
    return bool(is_bytes(type_) or is_number or (_types.is_time(type_) and HEAVYDB.column(type_) != "TIME"))


def _as_text(array: pa.Array) -> pa.Array:
    return base64_texts(array) if is_bytes(array.type) else array.cast(pa.string())
