"""Stream2Omnisci, which loads frames into HeavyDB, formerly OmniSci."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Unpack

import pandas as pd

from api2db.delivery import Group
from api2db.errors import BatchRefusedError, ConfigurationError, InvalidNameError
from api2db.frames import encode_cell
from api2db.stream._credentials import credentials, given_password
from api2db.stream._options import StreamOptions, one_of, passes_options_to
from api2db.stream.stream import Stream
from api2db.targets.heavydb import PORTS, SUFFIX, HeavydbTarget, Protocol, client_connection, quoted
from api2db.targets.server import Server

if TYPE_CHECKING:
    from heavydb import Connection

_ANSWER_S = 60


class Stream2Omnisci(Stream):
    """Loads the frames of a collector into the table ``<name>_stream`` of a HeavyDB (OmniSci) database.

    Column names get the suffix ``_t`` there, and text is dictionary-encoded.

    Args:
        name: The collector's name.
        db_name: The database, which must exist.
        username: The user.
        password: The password.
        host: The server.
        auth_path: Instead of these, a JSON file with ``username``, ``password``, ``host``, and optionally ``port``.
            A value ``$NAME`` in it stands for that environment variable.
        protocol: ``"binary"``, ``"http"`` or ``"https"``.
        chunk_size: The most rows of one load; 0 for no limit.
        store: Whether it serves a Store; then it has no worker.
        table: The table's name; ``<name>_stream`` by default.
        port: The server's port; by default that of the protocol: 6274, 6278 or 443.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.

    Attributes:
        log_str: The stream's name in log lines.
        con: The client's connection after ``connect`` has been called, else None; the stream itself has another one.
        connected: Whether a given connection is open.
    """

    @passes_options_to(Stream.__init__)
    def __init__(
        self,
        name: str,
        db_name: str,
        username: str | None = None,
        password: str | None = None,
        host: str | None = None,
        auth_path: str | None = None,
        protocol: str = "binary",
        chunk_size: int = 0,
        store: bool = False,
        *,
        table: str | None = None,
        port: int | str = "",
        **options: Unpack[StreamOptions],
    ) -> None:
        table = table or f"{name}_stream"
        super().__init__(name, chunk_size=chunk_size, stream_type="omnisci", store=store, table=table, **options)
        given = {"username": username, "password": given_password(password), "host": host, "port": port}
        self.protocol: Protocol = one_of(protocol, PORTS, "protocol")
        self._server = self._found_server(given, _checked_text(db_name, "db_name"), auth_path)
        self._check_table_name()
        self.db_name = db_name
        self.username, self.host, self.auth_path = self._server.username, self._server.host, auth_path
        self.log_str = f"{self.name} → {self.describe()}"
        self.con: Connection | None = None
        self.connected: Callable[[Connection | None], bool] = _is_open

    @property
    def identity(self) -> str:
        """The identity of the stream across restarts: the server, the database and the table."""
        return self.stream_id or f"omnisci:{self._server.place}#{self.table_name}"

    def describe(self) -> str:
        """Return the database and the table, for display."""
        return f"omnisci {self._server.place}#{self.table_name}"

    def connect(self) -> "Connection | None":
        """Reach the database, and set ``con``.

        Returns:
            The connection; None if there is none, and the log says why.
        """
        if self.connected(self.con):
            return self.con
        self.con = None
        self._try_to_reach(self._connect)
        return self.con

    def stop(self, timeout: float | None = None) -> None:
        """Stop the worker after its current batch, and close ``con``; rows that are not delivered stay on disk.

        Args:
            timeout: How long to wait for that, in seconds; None for as long as it takes.
        """
        super().stop(timeout)
        if self.con is not None:
            with suppress(Exception):
                self.con.close()
            self.con._closed = 1  # noqa: SLF001 - else it would speak to the server once more when it is collected
            self.con._transport.close()  # noqa: SLF001 - which it leaves open
            self.con = None

    @staticmethod
    def cast_categorical(data: pd.DataFrame, dtypes: "pd.Series[Any]") -> pd.DataFrame:
        """Make text categorical, with nulls as ``""``, and append ``_t`` to the columns' names.

        Lists, dicts and the like become their JSON text, as they are in the table.

        The stream does not use this method; it is for loading frames in another way.

        Args:
            data: A frame, which stays as it is.
            dtypes: Its types; columns of text and objects among them are cast.

        Returns:
            Another frame.
        """
        found = data.copy(deep=False)
        for name in data.columns:
            if name in dtypes.index and _is_text(dtypes[name]):
                filled = data[name].astype(object).where(data[name].notna(), "")
                found[name] = filled.map(_hashable).astype("category")
        return found.rename(columns=lambda name: f"{name}{SUFFIX}")

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        """Journal a frame, and wait until it is in the table, or parked.

        Args:
            data: The frame.
            retry_depth: How often an unavailable server is tried again before the frame is parked in
                ``STORE/upload_failed/<collector>/omnisci/<timestamp_ns>.parquet``. It is delivered first later on.
        """
        self._stream(data, retry_depth)

    def _connect(self) -> None:
        self.con = client_connection(self._server, self.protocol, _ANSWER_S)

    def _target_group(self) -> Group:
        return Group(self._server)

    def _target(self, *, table_is_own: bool = False) -> HeavydbTarget:
        return HeavydbTarget(self._server, self.table_name, self.schema_rule, self.protocol, _ANSWER_S)

    def _found_server(self, given: dict[str, Any], db_name: str, auth_path: str | None) -> Server:
        who = credentials(given, auth_path, self.home)
        if who.tls.mode != "prefer":
            raise ConfigurationError("tls is not for HeavyDB; use protocol='https'")
        port = int(who.port or PORTS[self.protocol])
        return Server(who.host, port, who.username, db_name, who.password_at(port))

    def _check_table_name(self) -> None:
        try:
            quoted(self.table_name)
        except BatchRefusedError as error:
            raise InvalidNameError(f"a table can't be named {self.table_name!r}: {error}") from None


def _is_open(connection: "Connection | None") -> bool:
    return connection is not None and not connection.closed


def _is_text(dtype: Any) -> bool:
    return pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype)


def _hashable(cell: Any) -> Any:
    try:
        hash(cell)
    except TypeError:
        return encode_cell(cell)
    return cell


def _checked_text(given: object, what: str) -> str:
    if isinstance(given, str) and given and "\0" not in given:
        return given
    raise ConfigurationError(f"{what} must be the name of a database, not {given!r}")
