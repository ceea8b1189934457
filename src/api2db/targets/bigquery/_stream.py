"""A write stream of BigQuery: requests of Arrow rows, each at an offset, are sent ahead of the answers."""

import queue
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from google.api_core import exceptions
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.rpc import code_pb2

from api2db.errors import BatchRefusedError, ConnectionBrokenError, RowsRefusedError, TargetUnavailableError
from api2db.frames import is_json
from api2db.targets.bigquery._client import CALL_S
from api2db.targets.port import Column

_LARGEST_REQUEST_BYTES = 10_000_000  # bytes, Google's quota; its newest library says 20 MB, its documentation 10
_REQUEST_BYTES = 7 << 20  # bytes of Arrow's buffers
_BESIDE_BYTES = 64 << 10  # bytes for the stream's name and other fields
_ANSWER_S = 120.0
_TYPE = re.compile(r"ARRAY<(?P<element>\w+)>|(?P<name>\w+)(\((?P<first>\d+)(, (?P<second>\d+))?\))?")
# With these codes the server says that it did not accept a request, and never will.
_CERTAIN = {code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND, code_pb2.PERMISSION_DENIED, code_pb2.FAILED_PRECONDITION}
# A call that ends like this may have met a row that ends every call. A call that ends by a fault of the server has
# not, however long that lasts. Source: AppendRowsResponse, which says to retry after INTERNAL.
_ROWS_MAY_BREAK = exceptions.InvalidArgument
_NAMES = {"INTEGER": "INT64", "FLOAT": "DOUBLE", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
_EXTRA_FIELDS = int(types.StorageError.StorageErrorCode.SCHEMA_MISMATCH_EXTRA_FIELDS)
_STREAM_FAULTS = {
    int(types.StorageError.StorageErrorCode.STREAM_FINALIZED),
    int(types.StorageError.StorageErrorCode.STREAM_NOT_FOUND),
    int(types.StorageError.StorageErrorCode.TABLE_NOT_FOUND),
    int(types.StorageError.StorageErrorCode.INVALID_STREAM_STATE),
}


class NotInError(Exception):
    """Requests that the server did not accept, for certain.

    Attributes:
        taken: How many requests before them it accepted.
        error: The error to raise.
    """

    def __init__(self, taken: int, error: TargetUnavailableError | BatchRefusedError) -> None:
        super().__init__(str(error))
        self.taken = taken
        self.error = error


def new_stream(client: BigQueryWriteClient, table: str) -> types.WriteStream:
    """Create a stream whose rows are visible at once; the answer has the schema that the API knows."""
    wanted = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
    return client.create_write_stream(parent=table, write_stream=wanted, retry=None, timeout=CALL_S)


def unknown_column(stream: types.WriteStream, columns: Sequence[Column]) -> Column | None:
    """The first column that the Write API does not know as the table has it; None if it knows all."""
    seen = {field.name.casefold(): field for field in stream.table_schema.fields}
    for column in columns:
        known = seen.get(column.name.casefold())
        if known is None or not _is_known_as(column, known):
            return column
    return None


def _is_known_as(column: Column, field: types.TableFieldSchema) -> bool:
    """Whether the Write API knows a column by the table's type, length and precision."""
    found = _TYPE.match(column.declared)
    if found is None or field.type_ == types.TableFieldSchema.Type.TYPE_UNSPECIFIED:
        return True
    is_list = field.mode == types.TableFieldSchema.Mode.REPEATED
    name, first, second = found["element"] or found["name"], *(int(found[part] or 0) for part in ("first", "second"))
    if (field.type_.name, is_list) != (_NAMES.get(name, name), found["element"] is not None):
        return False
    return is_list or (first, second) == (int(field.precision or field.max_length), int(field.scale))


def finalized_rows(client: BigQueryWriteClient, name: str) -> int | None:
    """Finalize a stream, and return its final row count; None if the server no longer knows the stream."""
    try:
        return int(client.finalize_write_stream(name=name, retry=None, timeout=CALL_S).row_count)
    except exceptions.NotFound:
        return None


class WriteStream:
    """One connection to one write stream.

    Args:
        client: Google's client.
        name: The stream.
        schema: The schema of every request.
    """

    def __init__(self, client: BigQueryWriteClient, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.schema = schema
        self._client = client
        self._requests: queue.SimpleQueue[tuple[int, pa.RecordBatch] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[types.AppendRowsResponse | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="api2db-bigquery-answers", daemon=True)
        self._begun = False

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent."""
        return not self._begun or self._thread.is_alive()

    def append(self, offset: int, batches: Sequence[pa.RecordBatch]) -> None:
        """Send rows, one request for each batch, and wait for the answers.

        Raises:
            NotInError: The server did not accept a request.
            ConnectionBrokenError: The server ended the call as invalid, which a row may cause.
            TargetUnavailableError: An answer is missing; the row count tells what was accepted.
        """
        for batch in batches:
            self._requests.put((offset, batch))
            offset += batch.num_rows
        if not self._begun:
            self._begun = True
            self._thread.start()
        for number in range(len(batches)):
            self._wait(number)

    def close(self) -> None:
        """Send no more."""
        self._requests.put(None)

    def _wait(self, number: int) -> None:
        try:
            answer = self._answers.get(timeout=_ANSWER_S)
        except queue.Empty:
            raise TargetUnavailableError(f"BigQuery has not answered for {_ANSWER_S:.0f} seconds") from None
        if isinstance(answer, BaseException):
            broken = ConnectionBrokenError if isinstance(answer, _ROWS_MAY_BREAK) else TargetUnavailableError
            raise broken(f"the connection to the write stream broke: {_said(answer)}") from answer
        if answer.error.code:
            error = _sorted(answer)
            if answer.error.code in _CERTAIN:
                raise NotInError(number, error)
            raise TargetUnavailableError(str(error))

    def _read(self) -> None:
        header = (("x-goog-request-params", f"write_stream={self.name}"),)
        try:
            # Without retry=None the client would repeat the call with the rest of the requests.
            for answer in self._client.append_rows(self._sent(), metadata=header, retry=None, timeout=None):
                self._answers.put(answer)
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the answer
            self._answers.put(error)
        else:
            self._answers.put(ConnectionError("the server has closed it"))

    def _sent(self) -> Iterator[Any]:
        is_first = True
        while (item := self._requests.get()) is not None:
            yield self._request(*item, is_first=is_first)
            is_first = False

    def _request(self, offset: int, batch: pa.RecordBatch, *, is_first: bool) -> Any:
        request = types.AppendRowsRequest.pb(types.AppendRowsRequest())
        # The name is optional after the first request, but not every emulator knows that.
        request.write_stream = self.name
        request.offset.value = offset
        if is_first:
            request.trace_id = "api2db"
            request.arrow_rows.writer_schema.serialized_schema = self.schema.serialize().to_pybytes()
        request.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
        return request


def _sorted(answer: types.AppendRowsResponse) -> TargetUnavailableError | BatchRefusedError:
    if answer.row_errors:
        return RowsRefusedError({int(each.index): str(each.message) for each in answer.row_errors})
    message, storage = str(answer.error.message), _storage_code(answer.error)
    if storage == _EXTRA_FIELDS:
        return TargetUnavailableError(
            f"the Write API does not know a new column yet, which takes Google some minutes: {message}"
        )
    if answer.error.code == code_pb2.INVALID_ARGUMENT and storage not in _STREAM_FAULTS:
        return BatchRefusedError(message)
    return TargetUnavailableError(f"the write stream can't be used any more: {message}")


def _storage_code(status: Any) -> int:
    for detail in status.details:
        storage = types.StorageError.pb(types.StorageError())
        if detail.Unpack(storage):
            return int(storage.code)
    return 0


def _said(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", None) or error).split()) or type(error).__name__


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The schema of each request; columns that nothing can be written into are left out."""
    return pa.schema([(column.name, _plain(column.type)) for column in columns if not pa.types.is_null(column.type)])


def conformed(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """All columns of a table in its order; missing ones are null."""
    names = [column.name for column in columns if not pa.types.is_null(column.type)]
    known = {column.name: column for column in columns}
    arrays = [
        rows.column(name) if name in rows.column_names else pa.nulls(rows.num_rows, known[name].type) for name in names
    ]
    return pa.table(arrays, names=names)


def as_sent(rows: pa.Table, columns: Sequence[Column]) -> pa.RecordBatch:
    """Rows, cast to the types of their columns, under the schema of each request."""
    schema = schema_of(columns)
    table = conformed(rows, columns)
    arrays = [_as(_whole(column), field.type) for column, field in zip(table.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def ends_of_requests(batch: pa.RecordBatch) -> list[int]:
    """After how many rows each request ends.

    Raises:
        RowsRefusedError: Some rows are too large for a request.
    """
    # The first request has the schema too.
    room = _LARGEST_REQUEST_BYTES - _BESIDE_BYTES - batch.schema.serialize().size
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
    """The size in bytes when sent."""
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
    if pa.types.is_list(type_):  # BigQuery has no null instead of a list
        array = pa.array([each or [] for each in array.to_pylist()], type_) if array.null_count else array
    return array if array.type.equals(type_) else array.cast(type_)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
