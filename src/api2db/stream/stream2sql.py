"""Stream2Sql, which loads frames into SQL databases."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import pandas as pd
from sqlalchemy import URL

from api2db.delivery import Group
from api2db.errors import ConfigurationError
from api2db.stream._credentials import credentials, given_password, login
from api2db.stream._databases import (
    EMBEDDED,
    EXPERIMENTAL,
    SERVERS,
    DatabaseLocation,
    by_url,
    embedded,
    of_vendor,
    on_server,
)
from api2db.stream._options import (
    IF_EXISTS,
    ON_CONFLICT,
    StreamOptions,
    column_names,
    for_own_table,
    one_of,
    passes_options_to,
    whole_number,
)
from api2db.stream.diagnosis import Diagnosis, Row, diagnosis_of_folder, diagnosis_of_server, found_in_table
from api2db.stream.stream import Stream
from api2db.targets.port import IfExists, LedgerTarget, OnConflict, ReadableTarget
from api2db.targets.sql import MAX_CONNECTIONS, SqlTarget

if TYPE_CHECKING:
    from sqlalchemy import Engine

_DIALECTS = (*EMBEDDED, *SERVERS, "amazon_aurora", *EXPERIMENTAL, "sqlalchemy")


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
    url: str | URL | None


class Stream2Sql(Stream):
    """Loads the frames of a collector into a table of a SQL database, exactly once.

    Args:
        name: The collector's name, and the table's unless ``table`` is given.
        db_name: For ``duckdb`` and ``sqlite`` a file; a relative path is below the project's folder. Else the name of
            the database, which is created if it is missing.
        dialect: ``"duckdb"``, ``"sqlite"``, ``"postgresql"``, ``"mysql"``, ``"mariadb"`` or ``"amazon_aurora"``;
            ``"microsoft_sql"`` or ``"oracle"``, which are experimental; ``"sqlalchemy"`` for any other database
            that SQLAlchemy reaches.
        username: The user; not for an embedded database.
        password: The password; not for an embedded database.
        host: The server; not for an embedded database.
        auth_path: Instead of these, a JSON file with ``username``, ``password``, ``host``, and optionally ``port``,
            ``tls``, ``engine``, ``iam``, ``region``. A value ``$NAME`` in it stands for that environment variable.
        port: The server's port; by default the database's own.
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is the newest frame; ``"fail"``: waits
            while there is a table that this stream has not made.
        chunk_size: The most rows of one transaction; 0 for no limit.
        store: Whether it serves a Store; then it has no worker.
        keys: A row replaces the one with the same values in these columns; the last one wins. Without keys, rows are
            added.
        on_conflict: What happens to a row with a value that fits no column: ``"reject"``: it is set aside with the
            reason; ``"json"``: such values go into one JSON column ``_extra``, under the names of their columns.
        tls: How the connection is encrypted: ``"disable"``, ``"prefer"``, ``"require"``, ``"verify-ca"`` or
            ``"verify-full"``; or a dict of ``mode``, ``ca``, ``cert`` and ``key``, the last three being files.
        engine: For ``amazon_aurora``: ``"postgresql"`` or ``"mysql"``, if the port does not tell.
        iam: For ``amazon_aurora``: whether each connect asks Amazon for a token instead of using a password.
        region: For ``iam``: Amazon's region.
        max_connections: How many connections the streams of this process may share to the same database of a server as
            the same user; of different numbers the highest counts.
        table_schema: The schema of the table, and of api2db's own tables: a schema of PostgreSQL or DuckDB; in MySQL
            and MariaDB a database, in place of ``db_name``. It is created if it is missing. By default the database's
            own.
        url: For ``sqlalchemy``: the URL of SQLAlchemy, as text or as its ``URL``, such as
            ``"cockroachdb://me@host:26257"``. ``username`` and ``password`` can be given apart from it, and the
            database is ``db_name``.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.

    Attributes:
        driver: The driver in SQLAlchemy's terms.
        engine_str: What ``sqlalchemy.create_engine`` takes.
        log_str: The stream's name in log lines.
        con: A SQLAlchemy engine on the database after ``connect`` has been called, else None.
        connected: Whether the last attempt reached the database.
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
        url: str | URL | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        self.if_exists: IfExists = one_of(if_exists, IF_EXISTS, "if_exists")
        self.on_conflict: OnConflict = one_of(on_conflict, ON_CONFLICT, "on_conflict")
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
        self._url: Callable[[], str | URL | None] = lambda: url  # which may have a password, and so is in no repr
        self.con: Engine | None = None
        self.load()

    def load(self) -> None:
        """Determine the database, and with it ``driver``, ``engine_str`` and ``log_str``.

        Raises:
            ConfigurationError: There is no such dialect, or something that it needs is missing; it is a ValueError.
        """
        if self.dialect not in _DIALECTS:
            raise ConfigurationError(f"dialect must be one of {', '.join(_DIALECTS)}, not {self.dialect!r}")
        if self._url() and self.dialect != "sqlalchemy":
            raise ConfigurationError("url is for dialect='sqlalchemy'; drop it, or use that dialect")
        if self.dialect == "sqlalchemy":
            self._place: DatabaseLocation = self._by_url()
        elif self.dialect in EMBEDDED:
            self._place = embedded(self.dialect, self.db_name, self.table_schema, self.home)
        else:
            self._place = self._on_server()
        self.driver = self._place.driver
        self.log_str = f"{self.name} → {self.describe()}"

    def _on_server(self) -> DatabaseLocation:
        who = credentials(self._given, self.auth_path, self.home)
        self.username, self.host = who.username, who.host
        name, schema = self.db_name, self.table_schema
        if self.dialect in EXPERIMENTAL:
            return of_vendor(self.dialect, name, schema, who, self.max_connections, self.home)
        return on_server(self.dialect, name, schema, self.table_name, who, self.max_connections)

    def _by_url(self) -> DatabaseLocation:
        user = login(self._given, self.auth_path, self.home)
        place = by_url(self._url(), self.db_name, self.table_schema, user, self.max_connections, self.home)
        self.username, self.host = place.address.url.username, place.address.url.host
        return place

    @property
    def engine_str(self) -> str:
        """What ``sqlalchemy.create_engine`` takes, including the password: don't print it."""
        return self._place.url

    @property
    def connected(self) -> bool:
        """Whether the last attempt reached the database."""
        return self._is_connected

    @property
    def identity(self) -> str:
        """The identity of the stream across restarts: the database and the table."""
        return self.stream_id or f"{self._place.name}#{self.table_name}"

    @property
    def embedded_file(self) -> Path | None:
        """The database file, which only one process may have open; None for a server."""
        return self._place.file

    def describe(self) -> str:
        """Return the database and the table, for display."""
        return f"{self._place.name}#{self.table_name}".replace(":", " ", 1)

    def connect(self) -> bool:
        """Reach the database, and set ``con``.

        Returns:
            Whether it was reached; if not, the log says why.
        """
        self._reached = self._try_to_reach(self._connect)
        return self._reached

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        """Journal a frame, and wait until it is in the table, or parked.

        Args:
            data: The frame.
            retry_depth: How often an unavailable database is tried again before the frame is parked in
                ``STORE/upload_failed/<collector>/sql.<dialect>/<timestamp_ns>.parquet``. It is delivered first later
                on.
        """
        self._stream(data, retry_depth)

    def diagnose(self) -> Diagnosis:
        """See ``Stream``; a server is also asked for rights, connections and its clock."""
        if self.embedded_file is not None:
            self.head(1)
            return diagnosis_of_folder(self.embedded_file, is_file=True)
        self._reader().close()  # says which library is missing
        return diagnosis_of_server(
            self._place.engine(), self._place.kind_of_server, self._place.schema, self.table_name
        )

    def find(self, where: Mapping[str, str], most: int = 5) -> list[Row]:
        """See ``Stream``."""
        if self.embedded_file is not None and not self.embedded_file.exists():
            return []
        return found_in_table(self._place.engine(), self._place.schema, self.table_name, where, most)

    def _connect(self) -> None:
        target = self._target()
        try:
            target.connect()
        finally:
            target.close()
        self.con = self.con or self._place.engine()

    def _target_group(self) -> Group:
        return self._place.group

    def _reader(self) -> ReadableTarget:
        database = self._place.database(creates=False)
        return SqlTarget(database, self.table_name, "append", "freeze", in_schema=self.table_schema is not None)

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
