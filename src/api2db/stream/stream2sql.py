"""The spec's Stream2Sql: frames into SQL databases."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import pandas as pd

from api2db.delivery import Group
from api2db.errors import ConfigurationError
from api2db.stream._credentials import credentials, given_password
from api2db.stream._databases import EMBEDDED, SERVERS, embedded, on_server
from api2db.stream._options import (
    IF_EXISTS,
    StreamOptions,
    column_names,
    for_own_table,
    one_of,
    passes_options_to,
    whole_number,
)
from api2db.stream.stream import Stream
from api2db.targets.port import LedgerTarget
from api2db.targets.sql import MAX_CONNECTIONS, IfExists, OnConflict, SqlTarget

if TYPE_CHECKING:
    from sqlalchemy import Engine

_ON_CONFLICT = ("reject", "json")
_DIALECTS = (*EMBEDDED, *SERVERS, "amazon_aurora")
_UNSUPPORTED = ("oracle", "microsoft_sql")


class SqlOptions(TypedDict, total=False):
    """Options of streams and stores into a SQL database; ``Stream2Sql`` describes them."""

    table: str | None
    keys: Sequence[str]
    on_conflict: OnConflict
    tls: str | Mapping[str, str] | None
    engine: str | None
    iam: bool
    region: str | None
    max_connections: int
    table_schema: str | None


class Stream2Sql(Stream):
    """Streams the frames of a collector into a table of a SQL database, exactly once.

    Args:
        name: The collector's, and the table's unless ``table`` is given.
        db_name: For ``duckdb`` and ``sqlite`` a file; a relative path is below the project's folder. Else the name of
            the database, which is made where it is missing.
        dialect: ``"duckdb"``, ``"sqlite"``, ``"postgresql"``, ``"mysql"``, ``"mariadb"`` or ``"amazon_aurora"``.
        username: Who asks; not for an embedded database.
        password: The password; not for an embedded database.
        host: The server; not for an embedded database.
        auth_path: Instead of these, a JSON file with ``username``, ``password``, ``host``, and if need be ``port``,
            ``tls``, ``engine``, ``iam``, ``region``. A value ``$NAME`` in it stands for that environment variable.
        port: The server's port; by default the database's own.
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is the newest frame; ``"fail"``: waits
            while there is a table that this stream has not made.
        chunk_size: The most rows of one transaction; 0 for no limit of its own.
        store: Whether a Store is what it serves.
        keys: A row replaces the one that has the same values in these columns, the last one wins; none: rows are added.
        on_conflict: What becomes of a row with a value that fits no column: ``"reject"``: it is set aside with the
            reason; ``"json"``: such values go into one JSON column ``_extra``, by the names of their columns.
        tls: How the connection is encrypted: ``"disable"``, ``"prefer"``, ``"require"``, ``"verify-ca"`` or
            ``"verify-full"``; or a dict of ``mode``, ``ca``, ``cert`` and ``key``, the last three being files.
        engine: For ``amazon_aurora``: ``"postgresql"`` or ``"mysql"``, where the port does not tell.
        iam: For ``amazon_aurora``: whether each connect asks Amazon for a token instead of using a password.
        region: For ``iam``: Amazon's region.
        max_connections: How many connections the streams of this process share that write into the same database of a
            server as the same user; where they say different numbers, the highest counts.
        table_schema: The table's schema, in which our own tables are too: that of PostgreSQL or DuckDB, the database of
            MySQL and MariaDB, in place of ``db_name``. It is made where it is missing. By default the database's own.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
        NotImplementedError: The dialect is oracle or microsoft_sql: known by name, and not supported yet.

    Attributes:
        driver: The driver in SQLAlchemy's terms.
        engine_str: What ``sqlalchemy.create_engine`` takes.
        log_str: Names the stream in log lines.
        con: A SQLAlchemy engine on the database once ``connect`` has been called, else None.
        connected: Whether the database was reached last time.
    """

    @passes_options_to(Stream.__init__)
    def __init__(
        self,
        name: str,
        db_name: str,
        dialect: str,
        username: str | None = None,
        password: str | None = None,
        host: str | None = None,
        auth_path: str | None = None,
        port: str = "",
        if_exists: str = "append",
        chunk_size: int = 0,
        store: bool = False,
        *,
        table: str | None = None,
        keys: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
        tls: str | Mapping[str, str] | None = None,
        engine: str | None = None,
        iam: bool = False,
        region: str | None = None,
        max_connections: int = MAX_CONNECTIONS,
        table_schema: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        self.if_exists: IfExists = one_of(if_exists, IF_EXISTS, "if_exists")
        self.on_conflict: OnConflict = one_of(on_conflict, _ON_CONFLICT, "on_conflict")
        super().__init__(name, chunk_size=chunk_size, stream_type=f"sql.{dialect}", store=store, table=table, **options)
        if on_conflict == "json" and self.schema_rule == "freeze":
            raise ConfigurationError("on_conflict='json' adds a column _extra, which schema='freeze' forbids; drop one")
        self.db_name = _checked_database(db_name)
        self.dialect = dialect
        self.table_schema = _checked_schema(table_schema)
        self.username = username
        self.host = host
        self.auth_path = auth_path
        self.port = port
        self.keys = column_names(keys, "keys")
        self.max_connections = whole_number(max_connections, "max_connections", least=1)
        self._given = {
            "username": username,
            "password": given_password(password),
            "host": host,
            "port": port,
            "tls": tls,
            "engine": engine,
            "iam": iam,
            "region": region,
        }
        self.con: Engine | None = None
        self.load()

    def load(self) -> None:
        """Settle which database it is: ``driver``, ``engine_str`` and ``log_str`` follow from that.

        Raises:
            NotImplementedError: As the constructor.
            ConfigurationError: There is no such dialect, or what it needs is missing; it is a ValueError.
        """
        if self.dialect in _UNSUPPORTED:
            raise NotImplementedError(f"dialect={self.dialect!r} is not supported; use one of {', '.join(_DIALECTS)}")
        if self.dialect not in _DIALECTS:
            raise ConfigurationError(f"dialect must be one of {', '.join(_DIALECTS)}, not {self.dialect!r}")
        if self.dialect in EMBEDDED:
            self._place = embedded(self.dialect, self.db_name, self.table_schema, self.home)
        else:
            who = credentials(self._given, self.auth_path, self.home)
            self.username, self.host = who.username, who.host
            self._place = on_server(
                self.dialect, self.db_name, self.table_schema, self.table_name, who, self.max_connections
            )
        self.driver = self._place.driver
        self.log_str = f"{self.name} → {self.describe()}"

    @property
    def engine_str(self) -> str:
        """What ``sqlalchemy.create_engine`` takes, password and all: don't print it."""
        return self._place.url

    @property
    def connected(self) -> bool:
        """Whether the database was reached when it was last tried."""
        return self._is_connected

    @property
    def identity(self) -> str:
        """Who the stream is across restarts: the database and the table."""
        return self.stream_id or f"{self._place.name}#{self.table_name}"

    @property
    def embedded_file(self) -> Path | None:
        """The database file, which only one process may have open; None for a server."""
        return self._place.file

    def describe(self) -> str:
        """The database and the table, for a person's eyes."""
        return f"{self._place.name}#{self.table_name}".replace(":", " ", 1)

    def connect(self) -> bool:
        """Reach the database, and make ``con``.

        Returns:
            Whether it was reached; where not, the log says why.
        """
        self._reached = self._try_to_reach(self._connect)
        return self._reached

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        """Journal a frame, and wait until it is in the table, or parked.

        Args:
            data: The frame.
            retry_depth: How often an unavailable database is tried again before the frame is parked in
                ``STORE/upload_failed/<collector>/sql.<dialect>/<timestamp_ns>.parquet``; it is delivered first later
                on.
        """
        self._stream(data, retry_depth)

    def _connect(self) -> None:
        target = self._target()
        try:
            target.connect()
        finally:
            target.close()
        self.con = self.con or self._place.engine()

    def _target_group(self) -> Group:
        return self._place.group

    def _target(self, *, table_is_own: bool = False) -> LedgerTarget:
        return SqlTarget(
            self._place.database(keyed=bool(self.keys)),
            self.table_name,
            for_own_table(self.if_exists, table_is_own=table_is_own),
            self.schema_rule,
            self.keys,
            self.on_conflict,
            in_schema=self.table_schema is not None,
        )


def _checked_database(db_name: object) -> str:
    name = os.fspath(db_name) if isinstance(db_name, os.PathLike) else db_name
    if isinstance(name, str):
        return name
    raise ConfigurationError(f"db_name must be the name or the file of a database, not {db_name!r}")


def _checked_schema(table_schema: object) -> str | None:
    if table_schema is None or (isinstance(table_schema, str) and table_schema):
        return table_schema
    raise ConfigurationError(f"table_schema must be the name of a schema, not {table_schema!r}")
