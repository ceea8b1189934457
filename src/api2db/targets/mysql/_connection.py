"""A connection of PyMySQL that a server cannot use against its client.

It answers LOAD DATA LOCAL with our own buffer, whatever file the server names. It shows no password to a server that
it cannot authenticate. It notices a network that has fallen silent.
"""

import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from api2db.errors import TargetUnavailableError, from_extra
from api2db.targets.server import Server, Tls

_PACKET_BYTES = 1 << 20
_CONNECT_S = 10
_WORK_S = 3600.0
_RESET = 0x1F
_SHOW_PASSWORD = (b"mysql_clear_password", b"dialog")
# A silence of 20 s ends the connection, also while it waits for an answer. macOS lacks some of these options.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 20_000}


def mysql_arguments(server: Server, database: str | None) -> dict[str, Any]:
    """The arguments of ``pymysql.connect`` for a server; asks for the password.

    The password is in bytes, because the driver would encode text as Latin-1.

    Raises:
        TargetUnavailableError: There is no password at the moment, or a file of TLS cannot be used.
    """
    return {
        "host": server.host,
        "port": server.port,
        "user": server.username,
        "password": server.password().encode(),
        "database": database,
        "charset": "utf8mb4",
        "connect_timeout": _CONNECT_S,
        "ssl": _ssl_context(server.tls),
        "ssl_disabled": server.tls.mode == "disable",
    }


@cache
def connection_class() -> Any:
    """The class, created when it is first needed, because its base is in an extra.

    Raises:
        MissingExtraError: PyMySQL is not installed.
    """
    with from_extra("pymysql", "mysql"):
        from pymysql import err
    result_class = _result_class()

    class BufferConnection(_patient_connection()):  # type: ignore[misc] # as below
        """See the module."""

        to_send: Iterable[memoryview] | None = None
        packet_bytes = _PACKET_BYTES
        _read_timeout: float | None

        def connect(self, sock: Any = None) -> None:
            whole = self._read_timeout
            self._read_timeout = _CONNECT_S  # a greeting never takes as long as a load
            try:
                super().connect(sock or _kept_alive((self.host, self.port)))
            finally:
                self._read_timeout = whole
            with self.cursor() as cursor:
                cursor.execute("SELECT @@max_allowed_packet")
                self.packet_bytes = min(_PACKET_BYTES, int(cursor.fetchone()[0]) // 2)

        def _process_auth(self, plugin_name: bytes, *more: Any) -> Any:
            if plugin_name in _SHOW_PASSWORD and not self._secure:
                raise err.OperationalError(
                    2061, "the server asks for the password in the clear, which is sent only over TLS"
                )
            return super()._process_auth(plugin_name, *more)

        def reset(self) -> None:
            """Reset the session by COM_RESET_CONNECTION, which does not run ``init_command``."""
            self._execute_command(_RESET, b"")
            self._read_ok_packet()

        @contextmanager
        def sending(self, buffers: Iterable[memoryview]) -> Iterator[None]:
            """Send buffers, each created when it is due, for the LOAD DATA LOCAL statement of the block."""
            self.to_send = buffers
            try:
                yield
            finally:
                self.to_send = None

        def _read_query_result(self, unbuffered: bool = False) -> Any:  # noqa: FBT001, FBT002 - as its base has it
            self._result = None
            result = result_class(self)
            result.init_unbuffered_query() if unbuffered else result.read()
            self._result = result
            if result.server_status is not None:
                self.server_status = result.server_status
            return result.affected_rows

    return BufferConnection


@cache
def _patient_connection() -> Any:
    class PatientConnection(_told_connection()):  # type: ignore[misc] # as above
        _read_timeout: float | None
        _write_timeout: float | None

        @contextmanager
        def working(self) -> Iterator[None]:
            """Give statements of the block the time that work on a large table may take.

            A statement that was given up would fail at each try, and its rows would be blamed for that.
            """
            usual = self._read_timeout, self._write_timeout
            self._read_timeout = self._write_timeout = _WORK_S
            try:
                yield
            finally:
                self._read_timeout, self._write_timeout = usual

    return PatientConnection


@cache
def _told_connection() -> Any:
    from pymysql import err
    from pymysql.connections import Connection
    from pymysql.protocol import MysqlPacket

    class Packet(MysqlPacket):  # type: ignore[misc] # PyMySQL has no types
        """Keeps an error's SQLSTATE as ``sqlstate``, because a trigger may raise any error number."""

        def raise_for_error(self) -> None:
            try:
                super().raise_for_error()
            except err.MySQLError as error:
                said: bytes = self._data[3:9]
                error.sqlstate = said[1:].decode("ascii", "replace") if said[:1] == b"#" else ""
                raise

    class ToldConnection(Connection):  # type: ignore[misc] # as above
        def _read_packet(self, packet_type: Any = Packet) -> Any:
            return super()._read_packet(packet_type)

    return ToldConnection


@cache
def _result_class() -> Any:
    from pymysql import err
    from pymysql.connections import MySQLResult

    class Result(MySQLResult):  # type: ignore[misc] # PyMySQL has no types
        """Never opens a file: it sends the buffers of this statement, or nothing."""

        def _read_load_local_packet(self, _packet: Any) -> None:
            connection: Any = self.connection
            buffers, connection.to_send = connection.to_send, None
            answer = _send(connection, buffers or ())
            if buffers is None or not answer.is_ok_packet():
                raise err.OperationalError(2014, "the server asked for a file, which it is never given")
            self._read_ok_packet(answer)

    return Result


def _send(connection: Any, buffers: Iterable[memoryview]) -> Any:
    """Send the buffers in packets, then an empty packet, and read the server's answer.

    If that fails, the connection is closed, because the server would take all that follows for data.
    """
    size = connection.packet_bytes
    try:
        for buffer in buffers:
            for at in range(0, len(buffer), size):
                connection.write_packet(buffer[at : at + size])
        connection.write_packet(b"")
    except BaseException:
        connection._force_close()  # noqa: SLF001 - as its own class closes it
        raise
    return connection._read_packet()  # noqa: SLF001 - as its own class reads it


def _kept_alive(place: tuple[str, int]) -> socket.socket:
    connected = socket.create_connection(place, _CONNECT_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        if hasattr(socket, option):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connected


def _ssl_context(tls: Tls) -> ssl.SSLContext | None:
    """None lets the driver use TLS if the server supports it."""
    if tls.mode in {"disable", "prefer"}:
        return None
    tls.require_files()
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except OSError as error:
        files = ", ".join(filter(None, (tls.ca, tls.cert, tls.key)))
        raise TargetUnavailableError(f"the files of tls can't be used: {error}; look at {files}") from None
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if tls.mode.startswith("verify") else ssl.CERT_NONE
    # Otherwise Python 3.13 refuses the certificates that servers create.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _no_password() -> str:
    """Without it, a key with a password would ask for the password on the terminal."""
    return ""
