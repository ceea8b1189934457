"""The JSON format: ``pandas.read_json(path, orient="table")`` can read it, and reading it here is exact.

The text is the table schema of pandas: ``{"schema": {...}, "data": [{column: value, ...}, ...]}``. Under
``schema.api2db``, which pandas ignores, are the Arrow schema and the encoding of each column. Numbers have every digit
that they need. Infinities and NaN are text, because JSON has none. Decimals, dates and times are text, and so are ints
beyond 2^53 in a column with nulls, which pandas would round. Bytes are base64. Durations are counts of their unit.
Nested cells are JSON itself, or text if they would not be read back letter by letter.
"""

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import FormatError, FrameError
from api2db.formats.folder_types import types_as_text, types_from_text
from api2db.frames import JSON, base64_texts, decode_cell, encode_cell, is_bytes, is_json, is_text, times_of, to_batch

_Encoding = Literal["value", "float", "int", "text", "count", "base64", "cells", "cell_texts"]

_ROWS_AT_ONCE = 10_000
_LARGEST_INT64 = 2**63 - 1
_LARGEST_WHOLE_FLOAT = 2**53
_types = pa.types


@dataclass(frozen=True)
class _Column:
    """A column in values that JSON can write, or nearly; ``encoding`` says how they are read back."""

    name: str
    encoding: _Encoding
    values: pa.Array
    described: dict[str, object]
    categories: "_Column | None" = None


def write(table: pa.Table, file: BinaryIO) -> None:
    """Write a table; nested columns become JSON cells.

    Raises:
        FrameError: Two columns have one name.
    """
    batch = to_batch(table)
    columns = [_encoded(array, name) for name, array in zip(batch.schema.names, batch.columns, strict=True)]
    file.write(b'{"schema":' + _dumped(_schema(batch.schema, columns)) + b',"data":[')
    file.writelines(separator + _dumped(rows)[1:-1] for separator, rows in _row_groups(columns, batch.num_rows))
    file.write(b"]}\n")


def read(file: BinaryIO) -> pa.Table:
    """Read a table: exactly if it was written here, and as pandas does if pandas wrote it."""
    content = file.read()
    document = json.loads(content)
    if not isinstance(document, dict) or not {"schema", "data"} <= document.keys():
        raise ValueError('it is not in the format that pandas calls orient="table"')
    if "api2db" not in document["schema"]:
        return _read_by_pandas(content)
    return _decoded_table(document["schema"]["api2db"], document["data"])


def _read_by_pandas(content: bytes) -> pa.Table:
    frame = pd.read_json(BytesIO(content), orient="table", precise_float=True)
    return pa.Table.from_batches([to_batch(frame)])


def _dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _schema(schema: pa.Schema, columns: list[_Column]) -> dict[str, object]:
    ours = {
        "version": 1,
        "arrow": types_as_text(schema),
        "columns": [_kept(column) for column in columns],
    }
    described = [{"name": column.name} | column.described for column in columns]
    return {"fields": described, "pandas_version": "1.4.0", "api2db": ours}


def _kept(column: _Column) -> dict[str, object]:
    categories = column.categories
    if categories is None:
        return {"encoding": column.encoding}
    kept = {"encoding": categories.encoding, "values": list(_plain_values(categories, 0, len(categories.values)))}
    return {"encoding": column.encoding, "categories": kept}


def _row_groups(columns: list[_Column], rows: int) -> Iterator[tuple[bytes, list[dict[str, object]]]]:
    names = [column.name for column in columns]
    for start in range(0, rows, _ROWS_AT_ONCE):
        values = [_plain_values(column, start, _ROWS_AT_ONCE) for column in columns]
        yield b"," if start else b"", [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def _plain_values(column: _Column, start: int, length: int) -> list[Any]:
    values: list[Any] = column.values.slice(start, length).to_pylist()
    if column.encoding == "float":
        return [value if value is None or math.isfinite(value) else _float_text(value) for value in values]
    if column.encoding == "cells":
        return [None if text is None else decode_cell(text) for text in values]
    return values


def _float_text(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _encoded(array: pa.Array, name: str) -> _Column:
    type_ = array.type
    if _types.is_dictionary(type_):
        return _encoded_dictionary(array, name)
    if is_json(type_):
        return _encoded_cells(array, name)
    if _types.is_floating(type_):
        return _Column(name, "float", array, {"type": "number", "extDtype": _number_name(array)})
    if _types.is_integer(type_):
        return _encoded_ints(array, name, "int")
    if _types.is_boolean(type_):
        return _Column(name, "value", array, {"type": "boolean", "extDtype": "boolean" if array.null_count else "bool"})
    if _types.is_null(type_):
        return _Column(name, "value", array, {"type": "any"})
    if is_text(type_):
        return _Column(name, "value", array, {"type": "string"})
    return _encoded_as_text(array, name)


def _encoded_ints(array: pa.Array, name: str, encoding: _Encoding) -> _Column:
    if array.null_count and not _survives_as_float(array):
        return _Column(name, encoding, array.cast(pa.utf8()), {"type": "string"})
    return _Column(name, encoding, array, {"type": "integer", "extDtype": _number_name(array)})


def _survives_as_float(array: pa.Array) -> bool:
    # pandas makes this of ints with nulls before it converts them to Int64.
    bounds = pc.min_max(array).as_py()
    return all(bound is None or abs(bound) <= _LARGEST_WHOLE_FLOAT for bound in bounds.values())


def _number_name(array: pa.Array) -> str:
    name = {"float": "float32", "double": "float64"}.get(str(array.type), str(array.type))
    if array.null_count and _types.is_integer(array.type):
        return name.replace("uint", "UInt").replace("int", "Int", 1)
    return name


def _encoded_as_text(array: pa.Array, name: str) -> _Column:
    type_ = array.type
    if is_bytes(type_):
        return _Column(name, "base64", base64_texts(array), {"type": "string"})
    if _types.is_duration(type_):
        return _counted(array, name)
    for texts in _texts(array):
        if _comes_back(texts, array):
            return _Column(name, "text", texts, _described_text(array))
    return _counted(array, name)


def _texts(array: pa.Array) -> Iterator[pa.Array]:
    yield array.cast(pa.utf8())
    if _types.is_timestamp(array.type) and array.type.tz is not None:
        # If an offset has seconds, as in most places in the 19th century, Arrow writes only its minutes.
        yield array.cast(pa.timestamp(array.type.unit, "UTC")).cast(pa.utf8())


def _comes_back(texts: pa.Array, array: pa.Array) -> bool:
    try:
        return bool(_decoded_texts(texts, array.type).equals(array))
    except pa.ArrowException:
        return False


def _counted(array: pa.Array, name: str) -> _Column:
    if not _types.is_temporal(array.type):
        raise FrameError(f"column {name!r} of type {array.type} has no JSON form; cast it to text first")
    return _encoded_ints(_count_of(array), name, "count")


def _count_of(array: pa.Array) -> pa.Array:
    return array.view(pa.int32() if array.type.bit_width == 32 else pa.int64()).cast(pa.int64())


def _described_text(array: pa.Array) -> dict[str, object]:
    if not _types.is_timestamp(array.type) or not _fits_nanoseconds(array):
        return {"type": "string"}
    return {"type": "datetime"} | ({} if array.type.tz is None else {"tz": array.type.tz})


def _fits_nanoseconds(array: pa.Array) -> bool:
    try:
        array.cast(pa.timestamp("ns", array.type.tz))
    except pa.ArrowInvalid:
        return False
    return True


def _encoded_dictionary(array: pa.DictionaryArray, name: str) -> _Column:
    categories = _encoded(array.dictionary, name)
    values = _encoded(array.dictionary.take(array.indices), name)
    described: dict[str, object] = {"type": "any"}
    if categories.encoding in ("value", "int") and not categories.values.null_count:
        described |= {"constraints": {"enum": categories.values.to_pylist()}, "ordered": array.type.ordered}
    return _Column(name, values.encoding, values.values, described, categories)


def _encoded_cells(array: pa.Array, name: str) -> _Column:
    texts = array.storage
    exact = all(text is None or _is_kept_by_json(text) for text in texts.to_pylist())
    return _Column(name, "cells" if exact else "cell_texts", texts, {"type": "any"})


def _is_kept_by_json(text: str) -> bool:
    try:
        value = json.loads(text, parse_int=_int64)
        return value is not None and encode_cell(value) == text
    except (ValueError, RecursionError, FrameError):
        return False


def _int64(digits: str) -> int:
    # pandas refuses a whole file because of one larger int.
    value = int(digits)
    if abs(value) > _LARGEST_INT64:
        raise ValueError(f"{digits} has more than 64 bits")
    return value


def _decoded_table(ours: dict[str, Any], rows: list[dict[str, Any]]) -> pa.Table:
    if ours["version"] != 1:
        raise FormatError(
            f"a JSON file has version {ours['version']} of api2db's own part; read it with a newer api2db"
        )
    schema = types_from_text(ours["arrow"])
    arrays = [
        _decoded_column(kept, [row[field.name] for row in rows], field.type)
        for field, kept in zip(schema, ours["columns"], strict=True)
    ]
    table = pa.Table.from_arrays(arrays, schema=schema)
    table.validate(full=True)
    return table


def _decoded_column(kept: dict[str, Any], values: list[Any], type_: pa.DataType) -> pa.Array:
    if not _types.is_dictionary(type_):
        return _decoded(kept["encoding"], values, type_)
    own = kept["categories"]
    categories = _decoded(own["encoding"], own["values"], type_.value_type)
    indices = pc.index_in(_decoded(kept["encoding"], values, type_.value_type), categories, skip_nulls=True)
    if indices.null_count != values.count(None):
        raise ValueError("a value is not one of its column's categories")
    return pa.DictionaryArray.from_arrays(indices.cast(type_.index_type), categories, ordered=type_.ordered)


def _decoded(encoding: _Encoding, values: list[Any], type_: pa.DataType) -> pa.Array:
    match encoding:
        case "value":
            return pa.array(values, type_)
        case "float":
            return pa.array([None if value is None else float(value) for value in values], type_)
        case "text":
            return _decoded_texts(pa.array(values, pa.utf8()), type_)
        case "int":
            return _decoded_ints(values, type_)
        case "count":
            return _decoded_ints(values, pa.int32() if type_.bit_width == 32 else pa.int64()).view(type_)
        case "base64":
            return pa.array(
                [None if value is None else base64.b64decode(value, validate=True) for value in values], type_
            )
        case "cells" | "cell_texts":
            return _decoded_cells(values, encoded=encoding == "cells")
    raise ValueError(f"no column is encoded as {encoding!r}")


def _decoded_texts(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    return times_of(texts, type_) if _types.is_time(type_) else texts.cast(type_)


def _decoded_ints(values: list[Any], type_: pa.DataType) -> pa.Array:
    return pa.array([int(value) if isinstance(value, str) else value for value in values], type_)


def _decoded_cells(values: list[Any], *, encoded: bool) -> pa.Array:
    texts = [None if value is None else encode_cell(value) if encoded else value for value in values]
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))
