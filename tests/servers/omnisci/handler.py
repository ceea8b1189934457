"""The calls of the protocol, each a method as the client's wheel has them."""

import functools
import secrets
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from heavydb.common.ttypes import TDatumType, TTypeInfo
from heavydb.thrift.Heavy import Iface
from heavydb.thrift.ttypes import (
    TColumn,
    TColumnData,
    TColumnType,
    TDBException,
    TQueryResult,
    TRowSet,
    TTableDetails,
)
from thrift.transport.TTransport import TTransportException

from tests.servers.omnisci.columns import RefusedError
from tests.servers.omnisci.faults import Faults
from tests.servers.omnisci.statements import execute
from tests.servers.omnisci.tables import Tables

VERSION = "8.0.1-tests"
USER, PASSWORD, DATABASE = "admin", "HyperInteractive", "heavyai"
_Call = TypeVar("_Call", bound=Callable[..., Any])


def _in_session(call: _Call) -> _Call:
    @functools.wraps(call)
    def checked(self: "Handler", session: str, *arguments: Any) -> Any:
        if session not in self.sessions:
            raise TDBException(self.faults.session_ended)
        try:
            return call(self, *arguments)
        except RefusedError as error:
            raise TDBException(str(error)) from error

    return checked  # type: ignore[return-value]


class Handler(Iface):  # type: ignore[misc]
    """One server's databases and sessions.

    Attributes:
        sessions: Those that have not ended; a connection that breaks leaves its own behind, as HeavyDB's does.
        loads: How many have been carried out.
        largest_bytes: The largest of them.
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.tables = Tables()
        self.sessions: set[str] = set()
        self.loads = 0
        self.largest_bytes = 0
        self._lock = threading.Lock()

    def connect(self, user: str, passwd: str, dbname: str) -> str:
        if (user, passwd) != (USER, PASSWORD):
            raise TDBException("Authentication failure")
        if dbname != DATABASE:
            raise TDBException(f"Database name {dbname} does not exist.")
        session = secrets.token_hex(16)
        self.sessions.add(session)
        return session

    def disconnect(self, session: str) -> None:
        if session not in self.sessions:
            raise TDBException(self.faults.session_ended)
        self.sessions.discard(session)

    def get_version(self) -> str:
        return VERSION

    @_in_session
    def get_tables(self) -> list[str]:
        return self.tables.names()

    @_in_session
    def get_table_details(self, table_name: str) -> TTableDetails:
        table = self.tables.find(table_name)
        columns = [TColumnType(col_name=name, col_type=type_.thrift) for name, type_ in table.columns.items()]
        return TTableDetails(row_desc=columns, shard_count=table.shards, is_temporary=False, table_type=0)

    @_in_session
    def get_table_epoch_by_name(self, table_name: str) -> int:
        return self.tables.find(table_name).epoch

    @_in_session
    def sql_execute(self, query: str, column_format: Any, nonce: str, first_n: int, at_most_n: int) -> TQueryResult:
        assert column_format, "rows are given by columns only"
        return TQueryResult(row_set=_row_set(execute(self.tables, query)), nonce=nonce)

    @_in_session
    def load_table_binary_arrow(self, table_name: str, arrow_stream: bytes, use_column_names: Any) -> None:
        if self.faults.cut_before_loads:
            self.faults.cut_before_loads -= 1
            raise TTransportException
        batches = _batches(arrow_stream)
        if len(batches) != 1:
            raise RefusedError("Expected a single Arrow record batch. Import aborted")
        table = self.tables.find(table_name)
        with table.lock:
            self.faults.wait()
            if self.faults.refuse:
                raise RefusedError(self.faults.refuse.popleft())
            self.tables.add_rows(table, batches[0], by_name=use_column_names)
        with self._lock:
            self.loads += 1
            self.largest_bytes = max(self.largest_bytes, len(arrow_stream))
            if self.faults.lose_answers:
                self.faults.lose_answers -= 1
                raise TTransportException  # ends the connection instead of an answer

    def __getattribute__(self, name: str) -> Any:
        """A call of the protocol that has no method here is one that it does not know."""
        if name not in Handler.__dict__ and name in Iface.__dict__ and not name.startswith("_"):
            raise TDBException(f"the server of the tests has no {name}")
        return super().__getattribute__(name)


def _batches(stream: bytes) -> list[pa.RecordBatch]:
    try:
        return list(pa.ipc.open_stream(stream))
    except (pa.ArrowInvalid, OSError):
        return []


def _row_set(rows: pa.Table) -> TRowSet:
    columns = [_column(rows.column(name).combine_chunks()) for name in rows.column_names]
    described = [
        TColumnType(col_name=name, col_type=type_) for name, (type_, _) in zip(rows.column_names, columns, strict=True)
    ]
    return TRowSet(row_desc=described, rows=[], columns=[column for _, column in columns], is_columnar=True)


def _column(array: pa.Array) -> tuple[TTypeInfo, TColumn]:
    name, part, values, precision = _as_thrift(array)
    type_ = TTypeInfo(
        type=TDatumType._NAMES_TO_VALUES[name], encoding=0, nullable=True, is_array=False, precision=precision, scale=0
    )
    data = TColumnData(int_col=[], real_col=[], str_col=[], arr_col=[])
    setattr(data, part, values)
    return type_, TColumn(data=data, nulls=array.is_null().to_pylist())


def _as_thrift(array: pa.Array) -> tuple[str, str, list[Any], int]:
    """Its type there, the list that its values go into, and they; times are ticks."""
    type_ = array.type
    if pa.types.is_string(type_):
        return "STR", "str_col", pc.fill_null(array, "").to_pylist(), 0
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        name = {pa.float32(): "FLOAT", pa.float64(): "DOUBLE"}.get(type_, "DECIMAL")
        return name, "real_col", [0.0 if value is None else float(value) for value in array.to_pylist()], 0
    if pa.types.is_boolean(type_):
        return "BOOL", "int_col", [int(value or 0) for value in array.to_pylist()], 0
    if pa.types.is_timestamp(type_):
        digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[type_.unit]
        return "TIMESTAMP", "int_col", pc.fill_null(array.cast(pa.int64()), 0).to_pylist(), digits
    if pa.types.is_date(type_):
        days = pc.fill_null(array.cast(pa.int32()), 0).to_pylist()
        return "DATE", "int_col", [86_400 * day for day in days], 0
    if pa.types.is_time(type_):
        ticks = array.cast(pa.time64("us")).cast(pa.int64())
        return "TIME", "int_col", pc.fill_null(pc.divide(ticks, 10**6), 0).to_pylist(), 0
    names = {8: "TINYINT", 16: "SMALLINT", 32: "INT", 64: "BIGINT"}
    return names.get(type_.bit_width, "BIGINT"), "int_col", [int(value or 0) for value in array.to_pylist()], 0
