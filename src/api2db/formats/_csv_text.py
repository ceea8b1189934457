r"""The CSV format: CSV as in RFC 4180, in UTF-8, with lines that end in ``\r\n``.

Text is always quoted and nothing else is, so an empty cell is a null, ``""`` is an empty text, and text that looks
like a number stays text when read here. The file stores no other types. A folder of shards or composed files keeps
them (``folder_types``), and a column is read with the one known type that holds all its values exactly. Elsewhere ints,
floats, booleans, dates and times are inferred (a column of whole floats is read as ints). Values that can't be inferred
are text: decimals, base64 of bytes, JSON of nested cells, columns with ints beyond a signed 64 bits, and durations,
which are written as ``86400.000005 seconds`` with the digits of their unit.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from api2db.errors import FormatError
from api2db.formats._csv_types import candidates, duration_texts, far_moments, told
from api2db.frames import base64_texts, is_bytes, is_json

_FIELD = re.compile(rb'("(?:[^"]++|"")*+"|[^,\r\n]*+)(,|\r\n|\n|\r|\Z)')
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LARGEST_INT64 = 2**63 - 1
_BLOCK_BYTES = 1 << 20
_LARGEST_BLOCK_BYTES = 2**31 - 1
_TICKS_OF_A_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_FARTHEST_DAYS = 11_247_000  # just inside the years -32767 and 32767
_OLD_DAYS = 3 * 365  # until 1972 some local times had seconds in their offset
_types = pa.types


def write(table: pa.Table, file: BinaryIO) -> None:
    """Write a table. Column names may repeat.

    Raises:
        FormatError: The table has no column.
    """
    if not table.num_columns:
        raise FormatError("a frame without columns has no CSV form; give it one, or use parquet")
    columns = [_written(column) for column in table.columns]
    options = csv.WriteOptions(eol="\r\n", quoting_style="needed", batch_size=10_000)
    csv.write_csv(pa.Table.from_arrays(columns, names=table.column_names), file, options)


def read(file: BinaryIO, known: pa.Schema | None = None) -> pa.Table:
    """Read a table. Column names may repeat.

    Args:
        file: An open file.
        known: The types that columns may have; a name may occur several times.
    """
    content = file.read().removeprefix(_BYTE_ORDER_MARK)
    names, start = _header(content)
    quoted = _are_quoted(content, start, len(names))
    body = pa.py_buffer(content).slice(start)
    if not body.size:
        return pa.Table.from_arrays([pa.nulls(0)] * len(names), names=names)
    types = {place: candidates(known, names[place], is_quoted) for place, is_quoted in quoted.items()}
    as_text = {place for place, is_quoted in quoted.items() if is_quoted or types[place]}
    table = _parsed(body, len(names), {str(place): pa.utf8() for place in as_text})
    values = {place: told(table.column(place), known_types) for place, known_types in types.items() if known_types}
    unread = {place for place, column in values.items() if column is None and not quoted[place]}
    if unread:  # inferred
        table = _parsed(body, len(names), {str(place): pa.utf8() for place in as_text - unread})
    for place, column in values.items():
        if column is not None:
            table = table.set_column(place, str(place), column)
    for place, is_quoted in quoted.items():
        if not is_quoted and _types.is_string(table.column(place).type):
            table = table.set_column(place, str(place), far_moments(table.column(place)))
    table.validate(full=True)
    return table.rename_columns(names)


def _written(column: pa.ChunkedArray) -> pa.ChunkedArray:
    type_ = column.type
    if _types.is_dictionary(type_):
        return _written(column.cast(type_.value_type))
    if is_json(type_):
        return column.cast(pa.utf8())
    if _types.is_decimal(type_):
        return column.cast(pa.utf8())
    if _types.is_duration(type_):
        return pa.chunked_array([duration_texts(chunk) for chunk in column.chunks], pa.utf8())
    if _types.is_date(type_) or _types.is_timestamp(type_):
        return _reachable(column)
    if _types.is_uint64(type_) and (pc.max(column).as_py() or 0) > _LARGEST_INT64:
        return column.cast(pa.utf8())
    if is_bytes(type_):
        return pa.chunked_array([base64_texts(chunk) for chunk in column.chunks], pa.utf8())
    return column


def _reachable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values that Arrow can write: it writes at most five digits of a year, and no seconds of an old offset."""
    bounds = pc.min_max(_days(column)).as_py()
    if bounds["min"] is None:
        return column
    if not (bounds["min"] > -_FARTHEST_DAYS and bounds["max"] < _FARTHEST_DAYS):
        raise FormatError("a date or time is outside the years -32767 to 32767, for which CSV has no text; use parquet")
    zoned = _types.is_timestamp(column.type) and column.type.tz is not None
    return column.cast(pa.timestamp(column.type.unit, "UTC")) if zoned and bounds["min"] < _OLD_DAYS else column


def _days(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if _types.is_date32(column.type):
        return column.cast(pa.int32())
    return pc.divide(column.cast(pa.int64()), _TICKS_OF_A_DAY[getattr(column.type, "unit", "ms")])


def _header(content: bytes) -> tuple[list[str], int]:
    names = []
    for field, separator, end in _fields(content, 0):
        names.append(_unquoted(field).decode())
        if separator != b",":
            return names, end
    raise ValueError("it is empty")


def _unquoted(field: bytes) -> bytes:
    return field[1:-1].replace(b'""', b'"') if field.startswith(b'"') else field


def _are_quoted(content: bytes, start: int, count: int) -> dict[int, bool]:
    """Return the first cell of each column that is not null; columns without one are left out."""
    undecided, place = set(range(count)), 0
    quoted: dict[int, bool] = {}
    for field, separator, _ in _fields(content, start):
        if field and place in undecided:
            undecided.remove(place)
            quoted[place] = field.startswith(b'"')
        if not undecided:
            break
        place = place + 1 if separator == b"," else 0
    return quoted


def _fields(content: bytes, start: int) -> Iterator[tuple[bytes, bytes, int]]:
    while start < len(content):
        match = _FIELD.match(content, start)
        if match is None:
            raise ValueError(f"byte {start} begins a quoted cell that has no end, or text after it")
        start = match.end()
        yield match[1], match[2], start


def _parsed(body: pa.Buffer, columns: int, kinds: dict[str, pa.DataType]) -> pa.Table:
    try:
        return _parsed_in_blocks(body, columns, kinds, _BLOCK_BYTES)
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error):
            raise
        return _parsed_in_blocks(body, columns, kinds, min(body.size + 1, _LARGEST_BLOCK_BYTES))


def _parsed_in_blocks(body: pa.Buffer, columns: int, kinds: dict[str, pa.DataType], block_bytes: int) -> pa.Table:
    return csv.read_csv(
        pa.BufferReader(body),
        csv.ReadOptions(column_names=[str(place) for place in range(columns)], block_size=block_bytes),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=columns > 1),
        csv.ConvertOptions(
            column_types=kinds, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
