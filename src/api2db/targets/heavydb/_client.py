"""One session on a HeavyDB server, by the client's Thrift calls; a connection in doubt is not used again."""

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from api2db.errors import ConnectionBrokenError, TargetUnavailableError, from_extra
from api2db.targets.server import Server

if TYPE_CHECKING:
    from heavydb import Connection

Protocol = Literal["binary", "http", "https"]
PORTS: dict[Protocol, int] = {"binary": 6274, "http": 6278, "https": 443}
# Everything that DBHandler.cpp says of an ended session: HeavyDB since 6, then three texts of OmniSci 5. Errors begin
# with them; "session" alone may be part of a table's or column's name.
_ENDED = re.compile(
    r"session not valid( or expired)?\.|idle session timeout\.|maximum active session timeout\.", re.IGNORECASE
)
# Thrift logs failures that it also raises.
logging.getLogger("thrift.transport.TSocket").setLevel(logging.CRITICAL)


class RefusedByServerError(Exception):
    """The server refused a call; the connection is sound."""


class Session:
    """A session that is opened when it is first needed.

    Args:
        server: The server and the user.
        protocol: ``"binary"``, ``"http"`` or ``"https"``.
        timeout_s: How long one answer may take, seconds.
    """

    def __init__(self, server: Server, protocol: Protocol, timeout_s: float) -> None:
        self._server = server
        self._protocol = protocol
        self._timeout_s = timeout_s
        self._client: Any = None
        self._transport: Any = None
        self._id = ""

    @property
    def id(self) -> str:
        """The session's id. Whoever has it may act in its name until the session ends."""
        return self._id

    def connect(self) -> None:
        """Open a session, unless there is one.

        Raises:
            TargetUnavailableError: The server cannot be reached, or refuses the login.
        """
        if self._client is not None:
            return
        self._client, self._transport, self._id = _opened(self._server, self._protocol, self._timeout_s)

    def close(self) -> None:
        """End the session; never raises."""
        if self._client is not None:
            with suppress(Exception):
                self._client.disconnect(self._id)
            self._drop()

    def end(self, other: str) -> None:
        """End another session of ours, so that no later call of it is carried out."""
        with suppress(RefusedByServerError):  # it has ended already
            self._call(lambda client: client.disconnect(other))

    def ask(self, name: str, *arguments: Any) -> Any:
        """Make a call that may be repeated; it is, after the session has ended or the connection broke.

        Raises:
            RefusedByServerError: The server refused the call.
            ConnectionBrokenError: There was no answer.
        """
        try:
            return self.do(name, *arguments)
        except TargetUnavailableError:
            return self.do(name, *arguments)

    def do(self, name: str, *arguments: Any) -> Any:
        """Make a call once.

        Raises:
            RefusedByServerError: The server refused the call.
            TargetUnavailableError: The session has ended; nothing was done.
            ConnectionBrokenError: There was no answer.
        """
        self.connect()
        try:
            return self._call(lambda client: getattr(client, name)(self._id, *arguments))
        except RefusedByServerError as error:
            if not _ENDED.match(str(error)):
                raise
            self._drop()
            raise TargetUnavailableError(f"HeavyDB at {self._server.place} has ended the session: {error}") from None

    def number(self, sql: str) -> int:
        """The single number that a query returns."""
        found = self.ask("sql_execute", sql, True, None, -1, -1)
        return int(found.row_set.columns[0].data.int_col[0])

    def execute(self, sql: str) -> None:
        """Run a statement that may be repeated."""
        self.ask("sql_execute", sql, True, None, -1, -1)

    def _call(self, call: Callable[[Any], Any]) -> Any:
        from heavydb.thrift.ttypes import TDBException

        self.connect()
        try:
            return call(self._client)
        except TDBException as error:
            raise RefusedByServerError(" ".join(str(error.error_msg).split())) from None
        except Exception as error:  # after half a message, the connection cannot be used any more
            self._drop()
            raise ConnectionBrokenError(
                f"the connection to HeavyDB at {self._server.place} broke: {_said(error)}"
            ) from error

    def _drop(self) -> None:
        """Drop the connection without another message to the server."""
        transport, self._client, self._transport = self._transport, None, None
        with suppress(Exception):
            transport.close()


def client_connection(server: Server, protocol: Protocol, timeout_s: float) -> "Connection":
    """A connection of the client's own class.

    Its constructor would open it and ask the server before a timeout could be set, so the constructor is not called.

    Raises:
        TargetUnavailableError: The server cannot be reached, or refuses the login.
        MissingExtraError: The client is not installed.
    """
    client, transport, session = _opened(server, protocol, timeout_s)
    from heavydb import Connection

    made = Connection.__new__(Connection)
    vars(made).update(
        sessionid=None,
        _closed=0,
        _user=server.username,
        _password=server.password(),
        _host=server.host,
        _port=server.port,
        _dbname=server.database,
        _transport=transport,
        _protocol=protocol,
        _socket=None,
        _tdf=None,
        _rbc=None,
        _client=client,
        _session=session,
    )
    return made


def _opened(server: Server, protocol: Protocol, timeout_s: float) -> tuple[Any, Any, str]:
    """A client, its transport, and the id of the session that it opened."""
    client, transport = thrift_client(server, protocol, timeout_s)
    password = server.password()
    try:
        transport.open()
        return client, transport, client.connect(server.username, password, server.database)
    except Exception as error:  # noqa: BLE001 - whatever the transport raises, no session was opened
        transport.close()
        said = server.without_secret(_said(error))
        raise TargetUnavailableError(f"HeavyDB at {server.place} can't be reached: {said}") from None


def thrift_client(server: Server, protocol: Protocol, timeout_s: float) -> tuple[Any, Any]:
    """A client that is not connected yet, and its transport, which the caller opens."""
    with from_extra("pyheavydb", "omnisci"):
        from heavydb.thrift.Heavy import Client
        from thrift.protocol import TBinaryProtocol, TJSONProtocol
        from thrift.transport import THttpClient, TSocket, TTransport
    if protocol == "binary":
        socket = TSocket.TSocket(server.host, server.port)
        socket.setTimeout(timeout_s * 1000)
        transport = TTransport.TBufferedTransport(socket)
        reading = TBinaryProtocol.TBinaryProtocolAccelerated(transport)
        # The protocol that writes in C copies the bytes of a load several times, and takes ten times as long.
        return Client(reading, TBinaryProtocol.TBinaryProtocol(transport)), transport
    http = THttpClient.THttpClient(f"{protocol}://{server.host}:{server.port}")
    http.setTimeout(timeout_s * 1000)
    return Client(TJSONProtocol.TJSONProtocol(http)), http


def _said(error: Exception) -> str:
    said = getattr(error, "error_msg", None) or getattr(error, "message", None) or str(error)
    return " ".join(str(said).split()) or type(error).__name__
