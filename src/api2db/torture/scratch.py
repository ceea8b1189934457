"""The targets of a torture: a table or folder of its own in the user's target, which is dropped at the end."""

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from sqlalchemy.engine import URL

from api2db.errors import ConfigurationError, TargetUnavailableError, from_extra
from api2db.targets.sqlalchemy import parsed_url
from api2db.texts import redact
from api2db.torture import clients
from api2db.torture.checker import Row

Fault = Literal["kill", "cut", "lost-commit", "server-kill", "disk-full"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
_ON_DISK: Final[tuple[Fault, ...]] = ("kill", "disk-full")
_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
_TLS: Final = ("disable", "prefer", "require")
_ORDER: Final = "api2db_place"
_OURS: Final = ("_api2db_ledger", "_api2db_schema_changes")
_KINDS: Final = "duckdb, sqlite or shards, or the URL of one, of PostgreSQL, MySQL or MariaDB"


class Scratch(Protocol):
    """A target of a torture."""

    @property
    def kind(self) -> str:
        """``"shards"``, or a dialect of Stream2Sql."""

    @property
    def name(self) -> str:
        """The target without a secret, for people."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults that it can have."""

    @property
    def address(self) -> tuple[str, int] | None:
        """The host and port of its server; None without a server."""

    def arguments(self, port: int | None, *, plain: bool) -> dict[str, Any]:
        """Return the stream's arguments; ``port`` is that of a proxy on this machine, ``plain`` forbids TLS to it."""

    def begin(self) -> None:
        """Reach the target before the first row.

        Raises:
            TargetUnavailableError: It can't be reached.
        """

    def keep_order(self) -> None:
        """After the first rows: have the target keep the order in which rows are added."""

    def rows(self) -> Iterator[Row]:
        """Yield its rows in the order in which they were added."""

    def drop(self, stream_key: str) -> None:
        """Remove all that the torture has made."""


@dataclass
class ShardScratch:
    """A folder of Parquet shards."""

    folder: Path
    kind: str = "shards"
    faults: tuple[Fault, ...] = _ON_DISK
    address: tuple[str, int] | None = None

    @property
    def name(self) -> str:
        """See ``Scratch``."""
        return f"Parquet shards in {self.folder}"

    def arguments(self, port: int | None, *, plain: bool) -> dict[str, Any]:
        """See ``Scratch``."""
        return {"path": str(self.folder)}

    def begin(self) -> None:
        """See ``Scratch``."""

    def keep_order(self) -> None:
        """See ``Scratch``; the names of shards have the order."""

    def rows(self) -> Iterator[Row]:
        """See ``Scratch``."""
        return clients.in_shards(self.folder)

    def drop(self, stream_key: str) -> None:
        """See ``Scratch``."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Table:
    """A table of a database with a ledger."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._were_there: list[str] = []

    def begin(self) -> None:
        """See ``Scratch``."""
        self._were_there = [table for table in _OURS if self._has(table)]

    def drop(self, stream_key: str) -> None:
        """See ``Scratch``."""
        self._execute(f"DROP TABLE IF EXISTS {self._table}")
        for table, column, value in zip(_OURS, ("stream", "table_name"), (stream_key, self._table), strict=True):
            if not self._has(table):
                continue
            self._execute(f"DELETE FROM {table} WHERE {column} = '{value}'")  # noqa: S608 - our own names
            if table not in self._were_there and not self._execute(f"SELECT 1 FROM {table} LIMIT 1"):  # noqa: S608
                self._execute(f"DROP TABLE {table}")

    def _has(self, table: str) -> bool:
        raise NotImplementedError

    def _execute(self, statement: str) -> list[Any]:
        raise NotImplementedError


class FileScratch(_Table):
    """A table of a DuckDB or SQLite file."""

    faults: tuple[Fault, ...] = _ON_DISK
    address: tuple[str, int] | None = None

    def __init__(self, kind: str, file: Path, table: str) -> None:
        super().__init__(table)
        self.kind = kind
        self.name = f"{kind} {file}, table {table}"
        self._file = file
        self._is_new = not file.exists()

    def arguments(self, port: int | None, *, plain: bool) -> dict[str, Any]:
        """See ``Scratch``."""
        return {"db_name": str(self._file), "table": self._table}

    def keep_order(self) -> None:
        """See ``Scratch``; the files keep the order of rows by themselves."""

    def drop(self, stream_key: str) -> None:
        """See ``Scratch``."""
        if not self._is_new:
            super().drop(stream_key)
            return
        for end in ("", ".wal", "-journal", "-wal", "-shm"):
            self._file.with_name(f"{self._file.name}{end}").unlink(missing_ok=True)

    def rows(self) -> Iterator[Row]:
        """See ``Scratch``."""
        read = clients.in_duckdb if self.kind == "duckdb" else clients.in_sqlite
        return read(self._file, self._table)

    def _has(self, table: str) -> bool:
        catalogue = "duckdb_tables() WHERE table_name" if self.kind == "duckdb" else "sqlite_master WHERE name"
        return self._file.exists() and bool(self._execute(f"SELECT 1 FROM {catalogue} = '{table}'"))  # noqa: S608

    def _execute(self, statement: str) -> list[Any]:
        if self.kind == "duckdb":
            with from_extra("duckdb", "duckdb"):
                import duckdb

            with duckdb.connect(str(self._file)) as database:
                return database.execute(statement).fetchall()
        import sqlite3

        with closing(sqlite3.connect(self._file)) as connection, connection:
            return connection.execute(statement).fetchall()


@dataclass
class _Server:
    """Where a server is, from a URL."""

    kind: str
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    database: str = ""
    tls: str = "prefer"


class ServerScratch(_Table):
    """A table of PostgreSQL, MySQL or MariaDB."""

    def __init__(self, server: _Server, table: str) -> None:
        super().__init__(table)
        self._server = server
        self.kind = server.kind
        self.name = f"{server.kind} {server.host}:{server.port}/{server.database}, table {table}"
        self.address: tuple[str, int] | None = (server.host, server.port)
        self.faults: tuple[Fault, ...] = tuple(
            fault for fault in FAULTS if server.tls != "require" or fault != "lost-commit"
        )

    def arguments(self, port: int | None, *, plain: bool) -> dict[str, Any]:
        """See ``Scratch``."""
        server = self._server
        return {
            "db_name": server.database,
            "host": server.host if port is None else "127.0.0.1",
            "port": str(port or server.port),
            "username": server.username,
            "password": server.password,
            "tls": "disable" if plain else server.tls,
            "table": self._table,
        }

    def begin(self) -> None:
        """See ``Scratch``."""
        with self._reached():
            super().begin()

    def keep_order(self) -> None:
        """See ``Scratch``."""
        kind = "BIGSERIAL" if self.kind == "postgresql" else "BIGINT NOT NULL AUTO_INCREMENT UNIQUE"
        self._execute(f"ALTER TABLE {self._table} ADD COLUMN {_ORDER} {kind}")

    def rows(self) -> Iterator[Row]:
        """See ``Scratch``."""
        read: Callable[[Any, str, str], Iterator[Row]] = (
            clients.in_postgresql if self.kind == "postgresql" else clients.in_mysql
        )
        with closing(self._client()) as connection:
            yield from read(connection, self._table, _ORDER)

    def drop(self, stream_key: str) -> None:
        """See ``Scratch``."""
        with self._reached():
            super().drop(stream_key)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except self._failures() as error:
            raise TargetUnavailableError(f"{self.name} can't be reached: {redact(_first_line(error))}") from None

    def _has(self, table: str) -> bool:
        schema = "ANY (current_schemas(false))" if self.kind == "postgresql" else "DATABASE()"
        found = f"SELECT 1 FROM information_schema.tables WHERE table_schema = {schema} AND table_name = '{table}'"  # noqa: S608
        return bool(self._execute(found))

    def _execute(self, statement: str) -> list[Any]:
        with closing(self._client()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            found = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
            return found

    def _client(self) -> Any:
        server = self._server
        if self.kind == "postgresql":
            with from_extra("psycopg", "postgresql"):
                import psycopg

            return psycopg.connect(
                host=server.host,
                port=server.port,
                user=server.username,
                password=server.password,
                dbname=server.database,
                sslmode=server.tls,
                connect_timeout=10,
            )
        with from_extra("pymysql", "mysql"):
            import pymysql

        return pymysql.connect(
            host=server.host,
            port=server.port,
            user=server.username,
            password=server.password,
            database=server.database,
            charset="utf8mb4",
            ssl_disabled=server.tls == "disable",
            connect_timeout=10,
        )

    def _failures(self) -> tuple[type[Exception], ...]:
        found: list[type[Exception]] = [OSError]
        with suppress(ImportError):
            import psycopg

            found.append(psycopg.Error)
        with suppress(ImportError):
            import pymysql

            found.append(pymysql.err.MySQLError)
        return tuple(found)


def scratch_in(to: str, home: Path, environment: Mapping[str, str]) -> Scratch:
    """Describe a scratch table or folder in a target.

    Args:
        to: ``duckdb``, ``sqlite`` or ``shards``, for a new file or folder in ``home``; or a URL. A password ``$NAME``
            in it stands for that environment variable.
        home: The torture's folder.
        environment: Environment variables.

    Raises:
        ConfigurationError: There is no such target, or the URL lacks something.
    """
    table = f"api2db_torture_{secrets.token_hex(4)}"
    if to == "shards":
        return ShardScratch(home / "shards")
    if to in {"duckdb", "sqlite"}:
        return FileScratch(to, home / f"torture.{to}", table)
    try:
        url = parsed_url(to)
    except ConfigurationError as error:
        raise ConfigurationError(f"--to must be {_KINDS}; {error}") from None
    kind = url.get_backend_name()
    place = Path(url.database or "").absolute()
    if kind in {"duckdb", "sqlite", "shards"}:
        if not url.database or url.host:
            raise ConfigurationError(f"name a file or folder: {kind}:///relative or {kind}:////absolute")
        return ShardScratch(place / table) if kind == "shards" else FileScratch(kind, place, table)
    if kind in _PORTS:
        return ServerScratch(_server_of(kind, url, environment), table)
    raise ConfigurationError(f"--to must be {_KINDS}, not {kind}")


def _server_of(kind: str, url: URL, environment: Mapping[str, str]) -> _Server:
    parts = {"user": url.username, "host": url.host, "database": url.database}
    missing = [what for what, value in parts.items() if not value]
    if missing:
        raise ConfigurationError(f"the URL lacks the {', '.join(missing)}: {kind}://USER:$PASSWORD@HOST:PORT/DATABASE")
    password = str(url.password or "")
    if password.startswith("$"):
        if password[1:] not in environment:
            raise ConfigurationError(f"the environment variable {password[1:]} is not set")
        password = environment[password[1:]]
    tls = str(url.query.get("tls", "prefer"))
    if tls not in _TLS or set(url.query) - {"tls"}:
        raise ConfigurationError(f"the URL may only have ?tls=, which must be one of {', '.join(_TLS)}")
    port = url.port or _PORTS[kind]
    return _Server(kind, str(url.host), port, str(url.username), password, str(url.database), tls)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
