"""The spec's Stream2Sql: frames into SQL databases."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from api2db.errors import ConfigurationError, MissingExtraError, TargetUnavailableError
from api2db.journal import Durability
from api2db.stream._journalled import journalled
from api2db.stream._places import relative_to_home
from api2db.stream.stream import Stream
from api2db.targets.duckdb import DuckdbDatabase, duckdb_engine
from api2db.targets.port import LedgerTarget
from api2db.targets.sql import Database, IfExists, SchemaRule, SqlTarget
from api2db.targets.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Stream2Sql"]

_log = logging.getLogger(__name__)
_IF_EXISTS = ("append", "replace", "fail")
_DRIVERS = {"duckdb": "duckdb", "sqlite": "sqlite"}
_PLANNED = ("postgresql", "mysql", "mariadb", "amazon_aurora", "oracle", "microsoft_sql")


class Stream2Sql(Stream):
    """Streams the frames of a collector into a table of a SQL database, exactly once.

    Args:
        name: The collector's, and the table's unless ``table`` is given.
        db_name: For ``duckdb`` and ``sqlite`` a file; a relative path is below the project's folder.
        dialect: ``"duckdb"`` or ``"sqlite"``; the servers follow.
        username: Not needed for an embedded database.
        password: Not needed for an embedded database.
        host: Not needed for an embedded database.
        auth_path: Not needed for an embedded database.
        port: Not needed for an embedded database.
        if_exists: ``"append"``: adds to the table; ``"replace"``: the table is the newest frame; ``"fail"``: waits
            while
            there is a table that this stream has not made.
        chunk_size: The most rows of one transaction; 0 for no limit of its own.
        store: Whether a Store is what it serves.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
        NotImplementedError: The dialect is not supported yet.

    Attributes:
        driver: The driver in SQLAlchemy's terms.
        engine_str: What ``sqlalchemy.create_engine`` takes.
        log_str: Names the stream in log lines.
        con: A SQLAlchemy engine on the database once ``connect`` has been called, else None.
        connected: Whether the database was reached last time.
    """

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
        home: str | os.PathLike[str] | None = None,
        durability: Durability = "full",
        max_backlog_bytes: int | None = None,
        schema: SchemaRule = "evolve",
        table: str | None = None,
        stream_id: str | None = None,
    ) -> None:
        if if_exists not in _IF_EXISTS:
            raise ConfigurationError(f"if_exists must be one of {', '.join(_IF_EXISTS)}, not {if_exists!r}")
        super().__init__(
            name,
            chunk_size=chunk_size,
            stream_type=f"sql.{dialect}",
            store=store,
            home=home,
            durability=durability,
            max_backlog_bytes=max_backlog_bytes,
            schema=schema,
            table=table,
            stream_id=stream_id,
        )
        self.db_name = db_name
        self.dialect = dialect
        self.username = username
        self.host = host
        self.auth_path = auth_path
        self.port = port
        self.if_exists: IfExists = if_exists  # type: ignore[assignment]
        self._password = password
        self.con: Engine | None = None
        self._reached = False
        self.load()

    def load(self) -> None:
        """Set ``driver``, ``engine_str`` and ``log_str`` for the dialect.

        Raises:
            NotImplementedError: The dialect is not supported yet.
            ConfigurationError: There is no such dialect, or the file is none.
        """
        if self.dialect in _PLANNED:
            raise NotImplementedError(f"dialect={self.dialect!r} is not supported yet; use 'duckdb' or 'sqlite'")
        if self.dialect not in _DRIVERS:
            known = ", ".join([*_DRIVERS, *_PLANNED])
            raise ConfigurationError(f"dialect must be one of {known}, not {self.dialect!r}")
        if not self.db_name or self.db_name == ":memory:" or "\0" in self.db_name:
            raise ConfigurationError(f"db_name must be the path of a database file, not {self.db_name!r}")
        self._file = self.home / self.db_name
        self.driver = _DRIVERS[self.dialect]
        self.engine_str = f"{self.driver}:///{self._file}"
        self.log_str = f"{self.name} → {self.describe()}"

    @property
    def connected(self) -> bool:
        """Whether the database was reached when it was last tried."""
        return self._worker.settled if self._worker is not None and self._worker.settled else self._reached

    @property
    def identity(self) -> str:
        """Who the stream is across restarts: the database and the table."""
        return self.stream_id or f"{self.dialect}:{relative_to_home(self._file, self.home)}#{self.table_name}"

    @property
    def embedded_file(self) -> Path:
        """The database file, which only one process may have open."""
        return self._file.resolve()

    def describe(self) -> str:
        """The database and the table, for a person's eyes."""
        return f"{self.dialect} {relative_to_home(self._file, self.home)}#{self.table_name}"

    def connect(self) -> bool:
        """Reach the database, and make ``con``.

        Returns:
            Whether it was reached; where not, the log says why.
        """
        try:
            target = self._target()
            target.connect()
            target.close()
            self.con = self.con or self._engine()
        except (TargetUnavailableError, MissingExtraError) as error:
            _log.warning("%s can't be reached: %s", self.log_str, error)
            self._reached = False
        else:
            self._reached = True
        return self._reached

    @journalled
    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        """Journal a frame, and wait until it is in the table, or parked.

        Args:
            data: The frame.
            retry_depth: How often an unavailable database is tried again before the frame is parked in
                ``STORE/upload_failed/<collector>/sql.<dialect>/<timestamp_ns>.parquet``; it is delivered first later
                on.
        """
        self._stream(data, retry_depth)

    def _engine(self) -> "Engine":
        if self.dialect == "duckdb":
            return duckdb_engine(self.engine_str, self.embedded_file)
        return create_engine(self.engine_str, poolclass=NullPool)

    def _database(self) -> Database:
        return DuckdbDatabase(self.embedded_file) if self.dialect == "duckdb" else SqliteDatabase(self.embedded_file)

    def _target(self) -> LedgerTarget:
        return SqlTarget(self._database(), self.table_name, self.if_exists, self.schema_rule)
