"""Arrow tables and batches as one batch of plain columns: nested values as JSON cells, views and run ends decoded."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import FrameError
from api2db.frames._cells import json_array
from api2db.frames._columns import column_names, index_names
from api2db.frames._kinds import JSON
from api2db.frames._objects import array_of_objects

Rows: TypeAlias = pa.RecordBatch | pa.Table

_types = pa.types
_LONGEST_DECIMAL128, _MOST_DIGITS = 38, 76
_DAY_MS = 86_400_000
# Smaller chunks are faster to join than to slice.
_ROWS_A_CHUNK = 1_000
_WIDE_BYTES = 2**31


def rows_of_table(table: pa.Table) -> Rows:
    """Convert the columns of a table to plain types."""
    return _plain_rows(table.columns, table.schema)


def rows_of_batch(batch: pa.RecordBatch) -> Rows:
    """Convert the columns of a batch to plain types."""
    return _plain_rows(batch.columns, batch.schema)


def rows_of_columns(columns: Sequence[pa.Array | pa.ChunkedArray], schema: pa.Schema) -> Rows:
    """Return a table if columns have many chunks, because joining the chunks would copy the frame."""
    if any(isinstance(column, pa.ChunkedArray) for column in columns):
        return pa.Table.from_arrays(columns, schema=schema)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def one_batch(rows: Rows) -> pa.RecordBatch:
    """Return the rows without chunks."""
    if isinstance(rows, pa.RecordBatch):
        return rows
    columns = list(map(one_chunk, rows.columns))
    fields = [field.with_type(column.type) for field, column in zip(rows.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, rows.schema.metadata))


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Join the values of a column; more than 2 GiB of text or bytes then gets wider offsets."""
    if column.num_chunks == 1:
        return column.chunk(0)
    if _types.is_dictionary(column.type):
        # Joined dictionaries may be too long for narrow indices.
        column = column.cast(pa.dictionary(pa.int32(), column.type.value_type, ordered=column.type.ordered))
    if column.nbytes >= _WIDE_BYTES and (_types.is_string(column.type) or _types.is_binary(column.type)):
        column = column.cast(pa.large_utf8() if _types.is_string(column.type) else pa.large_binary())
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _plain_rows(columns: Sequence[pa.Array | pa.ChunkedArray], schema: pa.Schema) -> Rows:
    columns = [_with_chunks_where_plain(column) for column in columns]
    known = _plain_schemas.of(schema)
    return _made_plain(columns, schema) if known is None else rows_of_columns(columns, known)


def _with_chunks_where_plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return column if isinstance(column, pa.Array) or _keeps_chunks(column) else one_chunk(column)


def _keeps_chunks(column: pa.ChunkedArray) -> bool:
    if column.num_chunks < 2 or not _is_plain(column.type):
        return False
    return len(column) >= _ROWS_A_CHUNK * column.num_chunks or bool(column.nbytes >= _WIDE_BYTES)


class _PlainSchemas:
    """The last few schemas that are plain already: checking a schema again costs more than a tiny frame does."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._recent: tuple[tuple[pa.Schema, pa.Schema], ...] = ()

    def of(self, schema: pa.Schema) -> pa.Schema | None:
        return next((plain for known, plain in self._recent if schema.equals(known, check_metadata=True)), None)

    def add(self, schema: pa.Schema, plain: pa.Schema) -> None:
        self._recent = ((schema, plain), *self._recent[: self._size - 1])


_plain_schemas = _PlainSchemas(4)


def _made_plain(arrays: Sequence[pa.Array | pa.ChunkedArray], schema: pa.Schema) -> Rows:
    index = [name for name in schema.names if _is_nameless_index(name)]
    if index:
        arrays, schema = _with_index_as_columns(arrays, schema, index)
    names = column_names(schema.names)
    plain = [plain_column(array, name) for array, name in zip(arrays, names, strict=True)]
    fields = [(name, array.type) for name, array in zip(names, plain, strict=True)]
    metadata = (schema.metadata or {}).get(b"pandas")
    recast = tuple(name for name, array in zip(names, plain, strict=True) if array.type != schema.field(name).type)
    pandas = None if metadata is None else {b"pandas": _without_index(metadata, recast)}
    rows = rows_of_columns(plain, pa.schema(fields, pandas))
    as_they_are = not index and all(one is other for one, other in zip(plain, arrays, strict=True))
    if as_they_are and pa.date64() not in schema.types:  # the values of date64 decide
        _plain_schemas.add(schema, rows.schema)
    return rows


def _is_nameless_index(name: str) -> bool:
    return name.startswith("__index_level_") and name.endswith("__")


def _with_index_as_columns(
    arrays: Sequence[pa.Array | pa.ChunkedArray], schema: pa.Schema, index: list[str]
) -> tuple[list[pa.Array | pa.ChunkedArray], pa.Schema]:
    """Rename or drop the columns that pandas creates for an index without a name, as ``index_names`` decides."""
    described = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    levels = [level for level in described.get("index_columns", index) if isinstance(level, str)]
    others = [name for name in schema.names if name not in index]
    names = index_names(
        [None if level in index else level for level in levels],
        [_types.is_integer(schema.field(level).type) for level in levels],
        [name for name in others if name not in levels],
    )
    kept = [(name, level) for name, level in zip(names, levels, strict=bool(names)) if level in index]
    places = [schema.get_field_index(name) for name in [*(level for _, level in kept), *others]]
    fields = [
        schema.field(place).with_name(name)
        for place, name in zip(places, [*(name for name, _ in kept), *others], strict=True)
    ]
    return [arrays[place] for place in places], pa.schema(fields, schema.metadata)


@lru_cache(maxsize=256)
def _without_index(metadata: bytes, recast: tuple[str, ...]) -> bytes:
    described = json.loads(metadata)
    described["index_columns"] = []
    described["columns"] = [
        column | {"numpy_type": "object", "metadata": None} if column.get("field_name") in recast else column
        for column in described["columns"]
        if not _is_nameless_index(str(column.get("field_name")))
    ]
    return json.dumps(described).encode()


def plain_column(column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array | pa.ChunkedArray:
    """Convert as ``plain_array`` does, but a column that is plain already keeps its chunks."""
    column = _with_chunks_where_plain(column)
    return column if isinstance(column, pa.ChunkedArray) else plain_array(column, name)


def _is_plain(type_: pa.DataType) -> bool:
    told_by_values = _types.is_date64(type_) or _types.is_dictionary(type_)
    made_otherwise = _types.is_nested(type_) or _types.is_interval(type_) or _types.is_run_end_encoded(type_)
    is_extension = isinstance(type_, pa.BaseExtensionType)
    return not (told_by_values or made_otherwise or is_extension) and _plain_type(type_) is None


def plain_array(array: pa.Array, name: str) -> pa.Array:
    """Convert an array to a type that files and tables know.

    Nested values become JSON cells. Views, run ends, half floats, narrow decimals and other extension types become the
    values that they represent. Dates in milliseconds that are not whole days become times. A dictionary stays one.

    Raises:
        FrameError: A nested cell has no JSON form.
    """
    type_ = array.type
    if isinstance(type_, pa.BaseExtensionType):
        return _plain_extension(array, name)
    if _types.is_run_end_encoded(type_):
        return plain_array(pc.run_end_decode(array), name)
    if _types.is_nested(type_) or _types.is_interval(type_):
        return _json(array.to_pylist(), name)
    if _types.is_dictionary(type_):
        return _plain_dictionary(array, name)
    if _types.is_date64(type_):
        return _plain_dates(array)
    plain = _plain_type(type_)
    return array if plain is None else array.cast(plain)


def _plain_dates(array: pa.Array) -> pa.Array:
    """Convert milliseconds that are not whole days to times, because files would cut them."""
    ticks = array.view(pa.int64()).fill_null(0).to_numpy()
    return array if not (ticks % _DAY_MS).any() else array.view(pa.timestamp("ms"))


def _plain_type(type_: pa.DataType) -> pa.DataType | None:
    if _types.is_string_view(type_):
        return pa.utf8()
    if _types.is_binary_view(type_) or _types.is_fixed_size_binary(type_):
        return pa.binary()
    if _types.is_float16(type_):
        return pa.float32()
    if _types.is_decimal(type_) and type_.scale < 0:
        return _whole_decimal(type_.precision - type_.scale)
    if _types.is_decimal32(type_) or _types.is_decimal64(type_):
        return pa.decimal128(type_.precision, type_.scale)
    return None


def _whole_decimal(digits: int) -> pa.DataType:
    """Write out the zeros of a negative scale, which neither Parquet nor most databases support."""
    if digits > _MOST_DIGITS:
        return pa.utf8()
    return pa.decimal128(digits, 0) if digits <= _LONGEST_DECIMAL128 else pa.decimal256(digits, 0)


def _plain_dictionary(array: pa.DictionaryArray, name: str) -> pa.Array:
    values = plain_array(array.dictionary, name)
    if isinstance(values.type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(values.type, values.storage.take(array.indices))
    # One index width, so that the types of two frames, and later of all chunks of a batch, agree.
    return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), values, ordered=array.type.ordered)


def _plain_extension(array: pa.ExtensionArray, name: str) -> pa.Array:
    extension = array.type.extension_name
    if extension == "arrow.json":
        return pa.ExtensionArray.from_storage(JSON, array.storage.cast(pa.utf8()))
    if extension == "arrow.uuid":
        return array_of_objects(array.to_pylist(), name)
    if extension == "arrow.bool8":
        return array.storage.cast(pa.bool_())
    if extension in ("pandas.period", "pandas.interval"):
        return array_of_objects([None if cell is None else str(cell) for cell in _pandas_cells(array)], name)
    return plain_array(array.storage, name)


def _pandas_cells(array: pa.Array) -> list[Any]:
    series = array.to_pandas()
    return [None if missing else cell for cell, missing in zip(series, series.isna(), strict=True)]


def _json(cells: list[Any], name: str) -> pa.Array:
    try:
        return json_array(cells)
    except FrameError as error:
        raise FrameError(f"column {name!r}: {error}") from error
