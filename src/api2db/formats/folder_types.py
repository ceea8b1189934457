"""The joined types of the files in a folder, so that plain readers can read them together.

A small file keeps the types that the folder's files have had so far. For a folder ``STORE/<name>/<folder>`` it is
``CACHE/<name>_<folder>_types_<fmt>.json``, for any other folder a hidden file in it. Parquet files are written in these
types, because pandas, pyarrow and DuckDB use the types of the first file for all files. CSV files are read with them,
because CSV stores no types. The other formats need no such file.

A column has one type as long as one type holds all its values exactly. Whole numbers beside fractions are floats. In
Parquet, text, numbers and booleans beside JSON are JSON. A column without a common type keeps several types. A type is
durable here before the first file that needs it is written, so after a crash the types are at most too wide.
"""

import base64
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from api2db.disk.atomic import make_folders, removed_on_failure, sweep, sync_folder, write_temporary
from api2db.errors import FormatError, FrameError
from api2db.formats._csv_types import are_alike
from api2db.frames import JSON, cast_exactly, is_json, is_text, widened

_types = pa.types
_FORMATS = ("parquet", "csv")
_VERSION = 1
_DEPTH = 2  # folders of STORE/<name>/<folder> below the project's folder


def types_path(folder: Path, fmt: str) -> Path:
    """The file that keeps the types of a folder."""
    folder = folder.absolute()
    if len(folder.parents) > _DEPTH and folder.parents[1].name == "STORE":
        return folder.parents[_DEPTH] / "CACHE" / f"{folder.parent.name}_{folder.name}_types_{fmt}.json"
    return folder / f".api2db_types_{fmt}.json"


def types_as_text(types: pa.Schema) -> str:
    """Encode types for a JSON file."""
    return base64.b64encode(types.serialize()).decode("ascii")


def types_from_text(text: str) -> pa.Schema:
    """Decode what ``types_as_text`` encoded.

    Raises:
        ValueError: It was not written by ``types_as_text``; TypeError, OSError or pyarrow.ArrowException likewise.
    """
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))


def known_types(folder: Path, fmt: str) -> pa.Schema:
    """Read the types that a folder's files have had so far; a name may occur several times.

    Raises:
        FormatError: The file of types is damaged.
        OSError: It can't be read.
    """
    if fmt not in _FORMATS:
        return pa.schema([])
    path = types_path(folder, fmt)
    try:
        return _parsed(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return pa.schema([])
    except (ValueError, TypeError, KeyError, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise FormatError(
            f"{path} holds no valid types: {error!r}; remove it, and the next file writes it again"
        ) from error


def join_types(
    folder: Path, fmt: str, schemas: Iterable[pa.Schema], owner: str, *, told_apart: bool = False
) -> pa.Schema:
    """Join the types of new rows to those of a folder, durably, and return all of them.

    Args:
        folder: The folder.
        fmt: The format of its files.
        schemas: The schemas of the rows to be written there.
        owner: A name that only one writer uses at a time. It names the temporary file, so that a later call with that
            name removes one that a kill has left.
        told_apart: Whether to refuse a type that can't be told from the known ones of its column when it is read.

    Raises:
        FormatError: The file of types is damaged.
        FrameError: A type can't be told from those of its column; nothing is joined.
        OSError: It can't be read or written.
    """
    known = known_types(folder, fmt)
    if fmt not in _FORMATS:
        return known
    joined = known
    for schema in schemas:
        joined = _joined(joined, schema.remove_metadata(), fmt)
    if not joined.equals(known):
        if told_apart and fmt == "csv":
            _check_told_apart(known, joined)
        content = {"version": _VERSION, "arrow": types_as_text(joined)}
        path = types_path(folder, fmt)
        make_folders(path.parent)
        sweep(path.parent, f"{owner}.types")
        with write_temporary(path.with_name(f"{owner}.types")) as temporary:
            temporary.file.write(json.dumps(content).encode())
        with removed_on_failure(temporary.path):
            temporary.path.replace(path)
        sync_folder(path.parent)
    return joined


def _check_told_apart(known: pa.Schema, joined: pa.Schema) -> None:
    for name in dict.fromkeys(joined.names):
        types = _types_of(joined, name)
        if are_alike(types) and not are_alike(_types_of(known, name)):
            raise FrameError(
                f"the column {name!r} of this folder has {' and '.join(map(str, types))}, which can't be told apart in"
                ' CSV files; use fmt="parquet", or give one of them another name'
            )


def keeps_types(folder: Path, fmt: str) -> bool:
    """Whether a folder's types are kept: always in CACHE; elsewhere once a file of types exists."""
    path = types_path(folder, fmt)
    return path.parent != folder.absolute() or path.exists()


def carry_types(folder: Path, other: Path, owner: str) -> None:
    """Add a folder's types to those of the folder that its files are moved to."""
    for fmt in _FORMATS:
        known = known_types(folder, fmt)
        if len(known):
            join_types(other, fmt, [known], owner)


def types_that_hold(path: Path, fmt: str) -> pa.Schema:
    """The types for reading a file: those of its folder, or of the folder above its partitions."""
    folder = path.parent
    known = known_types(folder, fmt)
    while not len(known) and "=" in folder.name:
        folder = folder.parent
        known = known_types(folder, fmt)
    return known


def in_types(table: pa.Table, known: pa.Schema) -> pa.Table:
    """Convert rows to the types of their folder, as far as these hold each value exactly.

    A column without a value takes the known type, or is left out if none is known. A known column that the rows lack
    is added as nulls. If the known type of a column can't hold one of its values exactly, the column is left as it is.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        types = _types_of(known, field.name)
        if not _types.is_null(field.type):
            columns[field.name] = _widened_column(column, types)
        elif types:
            columns[field.name] = _nulls(table.num_rows, types[0])
    for name in dict.fromkeys(known.names):
        if name not in table.column_names:
            columns[name] = _nulls(table.num_rows, _types_of(known, name)[0])
    if not columns:
        return table
    return pa.table(columns, metadata=_metadata(table.schema, columns))


@lru_cache(maxsize=64)
def _parsed(content: bytes) -> pa.Schema:
    kept = json.loads(content)
    if kept["version"] != _VERSION:
        raise ValueError("it is of another version")
    return types_from_text(kept["arrow"])


def _types_of(known: pa.Schema, name: str) -> list[pa.DataType]:
    return [known.field(place).type for place in known.get_all_field_indices(name)]


def _nulls(rows: int, type_: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(rows, type_)])


def _joined(known: pa.Schema, schema: pa.Schema, fmt: str) -> pa.Schema:
    types = {name: _types_of(known, name) for name in known.names}
    for field in schema:
        type_ = field.type.value_type if _types.is_dictionary(field.type) else field.type
        if not _types.is_null(type_):
            types[field.name] = _with_type(types.get(field.name, []), type_, fmt)
    return pa.schema([(name, type_) for name, all_types in types.items() for type_ in all_types])


def _with_type(types: list[pa.DataType], new: pa.DataType, fmt: str) -> list[pa.DataType]:
    """Add a type; it replaces the first one that it has a common type with."""
    kept: list[pa.DataType] = []
    place = None
    for type_ in types:
        common = _common(type_, new, fmt)
        if common is None:
            kept.append(type_)
        else:
            new, place = common, len(kept) if place is None else place
    kept.insert(len(kept) if place is None else place, new)
    return kept


def _common(one: pa.DataType, other: pa.DataType, fmt: str) -> pa.DataType | None:
    common = widened(one, other)
    if common is not None:
        return common
    if any(map(_types.is_integer, (one, other))) and any(map(_types.is_floating, (one, other))):
        return pa.float64()
    if fmt == "parquet" and any(map(is_json, (one, other))) and any(map(_is_told_apart_by_json, (one, other))):
        return JSON
    return None


def _is_told_apart_by_json(type_: pa.DataType) -> bool:
    kinds = (is_text, _types.is_boolean, _types.is_integer, _types.is_floating)
    return any(is_kind(type_) for is_kind in kinds)


def _widened_column(column: pa.ChunkedArray, types: list[pa.DataType]) -> pa.ChunkedArray:
    if _types.is_dictionary(column.type) or column.type in types:
        return column
    for type_ in types:
        if _common(column.type, type_, "parquet") == type_:
            return _cast(column, type_)
    return column


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    chunks = []
    for chunk in column.chunks:
        cast, inexact = cast_exactly(chunk, to)
        if inexact is not None or (is_json(to) and not _comes_back(cast, chunk)):
            return column
        chunks.append(cast)
    return pa.chunked_array(chunks, to)


def _comes_back(cells: pa.Array, values: pa.Array) -> bool:
    back, inexact = cast_exactly(cells, values.type)
    return inexact is None and bool(back.equals(values))


def _metadata(schema: pa.Schema, columns: dict[str, pa.ChunkedArray]) -> dict[bytes, bytes]:
    """Return the metadata without pandas' description of columns that are gone or have another type now."""
    kept = dict(schema.metadata or {})
    if b"pandas" in kept:
        changed = [field.name for field in schema if getattr(columns.get(field.name), "type", None) != field.type]
        if changed:
            kept[b"pandas"] = _without(kept[b"pandas"], tuple(changed))
    return kept


@lru_cache(maxsize=64)
def _without(metadata: bytes, names: tuple[str, ...]) -> bytes:
    described = json.loads(metadata)
    described["columns"] = [column for column in described["columns"] if column.get("field_name") not in names]
    return json.dumps(described).encode()
