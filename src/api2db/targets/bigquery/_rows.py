"""Rows as the Storage Write API takes them: every column of the table, in Arrow's plainest types, in small requests."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from api2db.errors import RowsRefusedError
from api2db.frames import is_json
from api2db.targets.bigquery._stream import LARGEST_REQUEST_BYTES
from api2db.targets.port import Column

_REQUEST_BYTES = 7 << 20  # of Arrow's buffers
_BESIDE_BYTES = 64 << 10  # the stream's name and the like


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """What each request has; a column that nothing can be written into is left out."""
    return pa.schema([(column.name, _plain(column.type)) for column in columns if not pa.types.is_null(column.type)])


def conformed(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """All columns of a table in its order, those that the rows have not as nulls."""
    names = [column.name for column in columns if not pa.types.is_null(column.type)]
    known = {column.name: column for column in columns}
    arrays = [
        rows.column(name) if name in rows.column_names else pa.nulls(rows.num_rows, known[name].type) for name in names
    ]
    return pa.table(arrays, names=names)


def as_sent(rows: pa.Table, columns: Sequence[Column]) -> pa.RecordBatch:
    """Rows, cast to the types of their columns, under the schema that each request has."""
    schema = schema_of(columns)
    table = conformed(rows, columns)
    arrays = [_as(_whole(column), field.type) for column, field in zip(table.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def ends_of_requests(batch: pa.RecordBatch) -> list[int]:
    """After how many rows each request ends.

    Raises:
        RowsRefusedError: Rows that no request holds.
    """
    room = LARGEST_REQUEST_BYTES - _BESIDE_BYTES - batch.schema.serialize().size  # the first request has the schema too
    slices = list(_slices(batch, 0, room))
    too_large = [start for start, rows in slices if rows.num_rows == 1 and _size(rows) > room]
    if too_large:
        reason = (
            "the row has more bytes than BigQuery takes in one request, which is 10 MB with the names of all columns"
        )
        raise RowsRefusedError(dict.fromkeys(too_large, reason))
    return [start + rows.num_rows for start, rows in slices]


def _slices(batch: pa.RecordBatch, start: int, room: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    if batch.num_rows == 1 or (batch.nbytes <= _REQUEST_BYTES and _size(batch) <= room):
        yield start, batch
        return
    middle = batch.num_rows // 2
    yield from _slices(batch.slice(0, middle), start, room)
    yield from _slices(batch.slice(middle), start + middle, room)


def _size(batch: pa.RecordBatch) -> int:
    """As it is sent."""
    return int(pa.ipc.get_record_batch_size(batch))


def _plain(type_: pa.DataType) -> pa.DataType:
    if is_json(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(type_.value_type)
    return pa.int64() if pa.types.is_duration(type_) else type_


def _as(array: pa.Array, type_: pa.DataType) -> pa.Array:
    if is_json(array.type):
        array = array.storage
    if pa.types.is_list(type_):  # BigQuery has no null in place of a list
        array = pa.array([each or [] for each in array.to_pylist()], type_) if array.null_count else array
    return array if array.type.equals(type_) else array.cast(type_)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
