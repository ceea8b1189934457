"""The gRPC service BigQueryWrite: streams of type COMMITTED, Arrow rows, explicit offsets."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

from tests.servers.bigquery.catalog import ApiError, Catalog, MisfitError, Table, WriteStream
from tests.servers.bigquery.faults import Faults

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryWrite"
LARGEST_REQUEST_BYTES = 10_000_000  # Google's quotas page; larger is INVALID_ARGUMENT
_Code = types.StorageError.StorageErrorCode
_FAULTS = {
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "internal": grpc.StatusCode.INTERNAL,
    "quota": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "cut": grpc.StatusCode.UNAVAILABLE,
}
_TYPES = {"INTEGER": "INT64", "FLOAT": "DOUBLE", "BOOLEAN": "BOOL"}


class _RefusedError(Exception):
    """What ends up in the ``error`` of one answer; the connection goes on."""

    def __init__(self, code: int, message: str, storage: int = 0, rows: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.storage = storage
        self.rows = rows or {}


class WriteApi:
    """The service.

    Attributes:
        forbidden: Whether nobody may use it.
        ends_at: A call that has this value in its first column ends with an error, as by a fault of the server.
        idle_s: A stream without traffic for so long is gone; Google: four days.
    """

    def __init__(self, catalog: Catalog, faults: Faults, wanted_port: int) -> None:
        self._catalog = catalog
        self._faults = faults
        self.forbidden = False
        self.ends_at: Any = None
        self._active: dict[str, object] = {}
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(32), options=options)
        self._server.add_generic_rpc_handlers([self._handlers()])
        self.port = self._listen(wanted_port)

    def start(self) -> None:
        self._server.start()

    def _listen(self, wanted_port: int) -> int:
        try:
            return int(self._server.add_insecure_port(f"127.0.0.1:{wanted_port}"))
        except RuntimeError:
            return int(self._server.add_insecure_port("127.0.0.1:0"))

    def stop(self) -> None:
        self._server.stop(None).wait()

    def expire(self) -> None:
        """Have all streams be gone, as after days without traffic."""
        with self._catalog.lock:
            self._catalog.streams.clear()

    def _handlers(self) -> Any:
        def unary(call: Any, request: Any, answer: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                call, request_deserializer=request.deserialize, response_serializer=answer.serialize
            )

        methods = {
            "CreateWriteStream": unary(self._create, types.CreateWriteStreamRequest, types.WriteStream),
            "FinalizeWriteStream": unary(
                self._finalize, types.FinalizeWriteStreamRequest, types.FinalizeWriteStreamResponse
            ),
            "AppendRows": grpc.stream_stream_rpc_method_handler(
                self._append,
                request_deserializer=_request,
                response_serializer=types.AppendRowsResponse.serialize,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _create(self, request: types.CreateWriteStreamRequest, context: grpc.ServicerContext) -> types.WriteStream:
        self._begin("CreateWriteStream", context)
        if request.write_stream.type_ != types.WriteStream.Type.COMMITTED:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server has streams of type COMMITTED only")
        _, project, _, dataset, _, name = request.parent.split("/")
        with self._catalog.lock:
            table = self._table(project, dataset, name, context)
            stream = self._catalog.new_stream(table)
            fields = [
                types.TableFieldSchema(
                    name=each["name"],
                    type_=_TYPES.get(each["type"], each["type"]),
                    mode=each.get("mode") or "NULLABLE",
                    max_length=int(each.get("maxLength") or 0),
                    precision=int(each.get("precision") or 0),
                    scale=int(each.get("scale") or 0),
                )
                for each in table.seen
            ]
        self._end("CreateWriteStream", context)
        return types.WriteStream(
            name=stream, type_=types.WriteStream.Type.COMMITTED, table_schema=types.TableSchema(fields=fields)
        )

    def _table(self, project: str, dataset: str, name: str, context: grpc.ServicerContext) -> Table:
        try:
            if project == self._catalog.project:
                return self._catalog.table(dataset, name)
            said = f"Not found: Project {project}"
        except ApiError as error:
            said = str(error)
        context.abort(grpc.StatusCode.NOT_FOUND, said)
        raise AssertionError

    def _finalize(
        self, request: types.FinalizeWriteStreamRequest, context: grpc.ServicerContext
    ) -> types.FinalizeWriteStreamResponse:
        self._begin("FinalizeWriteStream", context)
        with self._catalog.lock:
            stream = self._catalog.streams.get(request.name)
            if stream is None:
                context.abort(grpc.StatusCode.NOT_FOUND, f"Requested entity was not found: {request.name}")
                raise AssertionError
            # A guess: to finalize again gives the same count. Google's clients repeat it after UNAVAILABLE.
            stream.finalized = True
            rows = stream.rows
        self._end("FinalizeWriteStream", context)
        return types.FinalizeWriteStreamResponse(row_count=rows)

    def _append(
        self, requests: Iterable[types.AppendRowsRequest], context: grpc.ServicerContext
    ) -> Iterator[types.AppendRowsResponse]:
        me, name, schema = object(), "", None
        for request in requests:
            self._faults.count("AppendRows")
            self._fail("AppendRows", "before", context)
            if self.forbidden:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "Permission 'TABLES_UPDATE_DATA' denied on resource")
            first = not name
            name = request.write_stream or name
            if first and ("x-goog-request-params", f"write_stream={name}") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the routing header x-goog-request-params is missing")
            # A guess: the newer connection is the active one.
            if first:
                self._active[name] = me
            elif self._active.get(name) is not me:  # Google: one active connection to a stream
                context.abort(grpc.StatusCode.ABORTED, "Another connection to the stream was opened")
            if request.arrow_rows.writer_schema.serialized_schema:
                schema = pa.ipc.read_schema(pa.py_buffer(request.arrow_rows.writer_schema.serialized_schema))
            if self.ends_at is not None and schema and self.ends_at in _rows(request, schema).column(0).to_pylist():
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Errors found while processing rows")
            answer = self._answer(name, request, schema)
            self._fail("AppendRows", "after", context)
            yield answer

    def _answer(
        self, name: str, request: types.AppendRowsRequest, schema: pa.Schema | None
    ) -> types.AppendRowsResponse:
        try:
            offset = self._take(name, request, schema)
        except _RefusedError as refused:
            return _refusal(name, refused)
        except MisfitError as misfit:
            storage = int(_Code.SCHEMA_MISMATCH_EXTRA_FIELDS) if misfit.extra else 0
            return _refusal(name, _RefusedError(code_pb2.INVALID_ARGUMENT, str(misfit), storage, misfit.rows))
        result = types.AppendRowsResponse.AppendResult(offset=offset)
        return types.AppendRowsResponse(append_result=result, write_stream=name)

    def _take(self, name: str, request: types.AppendRowsRequest, schema: pa.Schema | None) -> int:
        size = types.AppendRowsRequest.pb(request).ByteSize()
        if size > LARGEST_REQUEST_BYTES:
            raise _RefusedError(code_pb2.INVALID_ARGUMENT, f"the request has {size} bytes, above the limit of 10 MB")
        if schema is None:
            raise _RefusedError(code_pb2.INVALID_ARGUMENT, "the first request has no writer schema")
        rows = _rows(request, schema)
        with self._catalog.lock:
            stream = self._catalog.streams.get(name)
            if stream is None:
                raise _RefusedError(code_pb2.NOT_FOUND, f"no stream {name}", int(_Code.STREAM_NOT_FOUND))
            if stream.finalized:
                raise _RefusedError(
                    code_pb2.INVALID_ARGUMENT, "the stream has been finalized", int(_Code.STREAM_FINALIZED)
                )
            _check_offset(stream, request)
            self._catalog.check(stream.table.seen, rows)
            self._catalog.insert(stream.table, rows)
            offset, stream.rows = stream.rows, stream.rows + int(rows.num_rows)
            return offset

    def _begin(self, method: str, context: grpc.ServicerContext) -> None:
        self._faults.count(method)
        self._fail(method, "before", context)
        if self.forbidden:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Permission 'TABLES_UPDATE_DATA' denied on resource")

    def _end(self, method: str, context: grpc.ServicerContext) -> None:
        self._fail(method, "after", context)

    def _fail(self, method: str, moment: Any, context: grpc.ServicerContext) -> None:
        kind = self._faults.meet(method, moment)
        if kind:
            context.abort(_FAULTS[kind], f"planted {moment} {method}")


def _request(data: bytes) -> Any:
    return types.AppendRowsRequest.deserialize(data)


def _rows(request: types.AppendRowsRequest, schema: pa.Schema) -> pa.Table:
    # A guess: Google lists Utf8 for JSON, and no extension type.
    if any(b"ARROW:extension:name" in (field.metadata or {}) for field in schema):
        raise _RefusedError(code_pb2.INVALID_ARGUMENT, "extension types are not supported")
    try:
        message = pa.ipc.read_message(pa.py_buffer(request.arrow_rows.rows.serialized_record_batch))
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
    except (pa.ArrowException, EOFError, OSError) as error:
        raise _RefusedError(code_pb2.INVALID_ARGUMENT, f"the record batch can't be read: {error}") from error
    return pa.Table.from_batches([batch])


def _check_offset(stream: WriteStream, request: types.AppendRowsRequest) -> None:
    if "offset" not in request:
        return
    offset = types.AppendRowsRequest.pb(request).offset.value
    if offset < stream.rows:
        raise _RefusedError(
            code_pb2.ALREADY_EXISTS, f"the offset {offset} is within the stream", int(_Code.OFFSET_ALREADY_EXISTS)
        )
    if offset > stream.rows:
        raise _RefusedError(
            code_pb2.OUT_OF_RANGE, f"the offset {offset} is beyond the end", int(_Code.OFFSET_OUT_OF_RANGE)
        )


def _refusal(name: str, refused: _RefusedError) -> types.AppendRowsResponse:
    status = status_pb2.Status(code=refused.code, message=str(refused))
    if refused.storage:
        detail = any_pb2.Any()
        storage = types.StorageError(code=refused.storage, entity=name, error_message=str(refused))
        detail.Pack(types.StorageError.pb(storage))
        status.details.append(detail)
    rows = [
        types.RowError(index=row, code=types.RowError.RowErrorCode.FIELDS_ERROR, message=reason)
        for row, reason in refused.rows.items()
    ]
    return types.AppendRowsResponse(error=status, row_errors=rows, write_stream=name)
