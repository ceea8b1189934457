"""A database of PostgreSQL: its transactions, changes of its tables, its errors, and how its connections are opened."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from api2db.errors import BatchRefusedError, ConnectionBrokenError, TargetError, TargetUnavailableError
from api2db.targets.port import Column
from api2db.targets.postgresql._connection import connection_class, library, postgresql_arguments
from api2db.targets.postgresql._dialect import (
    FORBIDDEN,
    LOCKED,
    NAME_TAKEN,
    dialect_in,
    has_no_room,
    is_missing,
    is_refused,
    quote,
)
from api2db.targets.postgresql._replacing import held_columns, make_room
from api2db.targets.postgresql._session import PostgresqlSession
from api2db.targets.server import Server
from api2db.targets.sql import LEDGER_TABLE, MAX_CONNECTIONS, Session
from api2db.targets.sql.pool import IDLE_S, Connections, unreachable
from api2db.targets.sql.port import NoDatabaseError
from api2db.targets.sql.port import quote as quote_of_any_length
from api2db.targets.types import from_postgresql

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)
# These hold for the transaction alone, so that they also work behind a pooler such as pgbouncer. A statement timeout
# would end a large load at each try. Compiling a query of the catalogue takes longer than the query. Without the
# settings of TCP, a machine that vanishes in the middle of a COPY holds the ledger's row for two hours.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '10s';"
    " SET LOCAL idle_in_transaction_session_timeout = '{}s';"
    " SET LOCAL synchronous_commit = 'on'; SET LOCAL TimeZone = 'UTC'; SET LOCAL statement_timeout = 0;"
    " SET LOCAL jit = off; SET LOCAL row_security = on; SET LOCAL tcp_keepalives_idle = 4;"
    " SET LOCAL tcp_keepalives_interval = 2; SET LOCAL tcp_keepalives_count = 3; SET LOCAL tcp_user_timeout = '10s'"
)
# The schema that has our ledger or will get it; then the other schemas in which names are looked up.
_PATH = f"""
    SELECT coalesce((
        SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = to_regclass('{LEDGER_TABLE}') AND relpersistence <> 't'
    ), current_schema()), current_schemas(false)
"""
# The session whose transaction holds a stream's row of the ledger and waits for its client: the version of the row that
# others see names the transaction that has replaced it. A session of another user shows no transaction.
_SILENT = """
    FROM {} AS ledger JOIN pg_stat_activity ON backend_xid = ledger.xmax LEFT JOIN pg_stat_progress_copy USING (pid)
    WHERE stream = ? AND wait_event = 'ClientRead' AND usename = current_user
"""
_IDLE_S = 30  # until the server ends a transaction whose client says nothing
# The same for a load ahead of its turn: longer than such a load waits.
_IDLE_AHEAD_S = 5
_SILENT_S = 2.0  # longer than a client takes to encode the next rows of a COPY, or to send a piece of them


class PostgresqlDatabase:
    """A database, used by connections of a pool; it is created if it is missing.

    Args:
        schema: The schema of the table and of our own tables, created if it is missing; None: by the search path.
        creates: Whether what is missing is created.
        idle_s: After how many seconds the server ends a transaction whose client says nothing; None for the usual.
    """

    def __init__(
        self,
        server: Server,
        max_connections: int = MAX_CONNECTIONS,
        schema: str | None = None,
        *,
        creates: bool = True,
        idle_s: int | None = None,
    ) -> None:
        self._server = server
        self._max_connections = max_connections
        self._idle_s = idle_s
        self._second: PostgresqlDatabase | None = None
        self._schema = schema
        self._creates = creates
        self.dialect = dialect_in(schema)
        self._connections = Connections(_Opener(server, creates=creates), server, max_connections)
        self._path = ""
        self._looked_at: set[str] = set()
        self._kept: set[tuple[str, str]] = set()

    def connect(self) -> None:
        if not self._connections.reached:
            self._connections.reach(self._make_schema)

    def close(self) -> None:
        if self._second is not None:
            self._second.close()
        self._connections.leave()

    def end_waiting(self) -> None:
        if self._second is not None:
            self._second.end_waiting()
        self._connections.end_waiting()

    def second(self) -> "PostgresqlDatabase | None":
        if not self._connections.has_spare:
            return None
        if self._second is None:
            self._second = PostgresqlDatabase(
                self._server, self._max_connections, self._schema, creates=False, idle_s=_IDLE_AHEAD_S
            )
        return self._second

    def end_silent(self, stream: str) -> None:
        silent = _SILENT.format(self.dialect.table(LEDGER_TABLE))
        look = f"SELECT pid, backend_xid::text, state_change, bytes_processed {silent}"
        try:
            with self.transaction() as session:
                before = session.rows(look, (stream,))
            if not before or self._is_free_soon(stream):
                return
            with self.transaction() as session:
                if session.rows(look, (stream,)) != before:
                    return
                ended = session.rows(f"SELECT pg_terminate_backend(pid) {silent}", (stream,))
        except TargetError as error:  # Without this, the row is waited for.
            logger.debug("whether a silent client holds the ledger of %s is unknown: %s", self._server.place, error)
            return
        if ended:
            logger.warning(
                "a load into %s was ended, because its client was silent for %.0f s; its rows are loaded again",
                self._server.place,
                _SILENT_S,
            )

    def _is_free_soon(self, stream: str) -> bool:
        """Wait for a stream's row of the ledger as long as a client may be silent; return whether it is free then."""
        try:
            with self.transaction() as session:
                session.run(f"SET LOCAL lock_timeout = {round(1000 * _SILENT_S)}")
                session.rows(f"SELECT 1 FROM {self.dialect.table(LEDGER_TABLE)} WHERE stream = ? FOR UPDATE", (stream,))
        except TargetUnavailableError:
            return False
        return True

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        psycopg = library()
        self.connect()
        with self._connections.lent() as connection:
            try:
                self._path = self._path or _path(connection, self._schema)
                connection.execute(_BEGIN.format(self._idle_s or _IDLE_S) + self._path)
                with connection.working():
                    yield PostgresqlSession(connection, self._looked_at, self._schema)
                connection.execute("COMMIT")
            except psycopg.Error as error:
                raise self._translated(error, broken=connection.broken) from None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with self.transaction() as session:
            session.run("SET TRANSACTION READ ONLY")
            yield session

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        """Alter the table while it is empty, so that views and grants survive; readers wait for the commit."""
        session.run(f"DELETE FROM {table}")
        known, wanted = ({column.name: column for column in columns} for columns in (old, new))
        self._drop(session, table, [name for name in known if name not in wanted])
        make_room(session, table, sum(name not in known for name in wanted))
        for column in new:
            name, before = quote_of_any_length(column.name), known.get(column.name)
            if before is None:
                session.run(f"ALTER TABLE {table} ADD COLUMN {name} {column.declared}")
            elif before.declared != column.declared:
                _retype(session, f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {column.declared} USING NULL")

    def _drop(self, session: Session, table: str, surplus: Sequence[str]) -> None:
        kept = held_columns(session, table, surplus) if surplus else {}
        for name in surplus:
            if name not in kept:
                session.run(f"ALTER TABLE {table} DROP COLUMN {quote_of_any_length(name)}")
            elif (table, name) not in self._kept:
                self._kept.add((table, name))
                logger.warning("the column %r of %s stays, with nulls: %s", name, table, kept[name])

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        if wider.declared != column.declared:
            if from_postgresql(column.declared) is None:
                raise BatchRefusedError(f"{column.declared} is a type of the table's own")
            name = quote(column.name)
            # Everything can be cast from text; but the text of a real lacks digits of the equal double.
            value = f"{name}::text" if pa.types.is_string(column.type) else name
            alter = f"ALTER TABLE {self.dialect.table(table)} ALTER COLUMN {name} TYPE {wider.declared}"
            session.run(f"{alter} USING {value}::{wider.declared}")
        return wider

    def _make_schema(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        """Create the schema if it is missing; looking for it needs no right to create it."""
        psycopg = library()
        if self._schema is None:
            return
        name = quote(self._schema)
        try:
            if connection.execute("SELECT to_regnamespace(%s) IS NULL", (name,)).fetchone() == (True,):
                if not self._creates:
                    raise NoDatabaseError(f"{self._server.place} has no schema {self._schema}")
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
                logger.info("the schema %s was created", self._schema)
        except psycopg.errors.UniqueViolation:  # another stream made it at the same time
            return
        except psycopg.Error as error:
            said = self._server.without_secret(error)
            raise TargetUnavailableError(
                f"the schema {self._schema} is missing and can't be created: {said}; create it, or grant CREATE on the "
                f"database {self._server.database}"
            ) from None

    def _translated(self, error: "psycopg.Error", *, broken: bool) -> TargetError:
        said = self._server.without_secret(error)
        state = error.sqlstate or ""
        # Two transactions created one table at the same time; the next try finds it.
        if (error.diag.schema_name or "") == "pg_catalog":
            return TargetUnavailableError(f"PostgreSQL at {self._server.place} says: {said}")
        if broken or not state:  # checked first, because poolers report 08P01 for any failure
            return ConnectionBrokenError(f"the connection to {self._server.place} broke: {said}")
        if state == LOCKED and LEDGER_TABLE in said:
            said = f"{said}; a transaction of ours that the server has not ended yet may hold it"
        if state == FORBIDDEN and "new row violates" in said:
            return BatchRefusedError(said)
        if state == NAME_TAKEN:
            return BatchRefusedError(f"{said}: a column that the table computes takes no values, leave it out")
        if is_refused(state):
            return BatchRefusedError(said)
        return TargetUnavailableError(f"PostgreSQL at {self._server.place} says: {said}")


class _Opener:
    """Opens connections to a database, which it creates if it is missing."""

    def __init__(self, server: Server, *, creates: bool) -> None:
        self._server = server
        self._creates = creates

    def open(self) -> "psycopg.Connection[tuple[Any, ...]]":
        psycopg = library()
        try:
            return _connect(self._server, self._server.database)
        except psycopg.Error as error:
            if is_missing(error) and not self._creates:
                raise NoDatabaseError(f"there is no database {self._server.place}") from None
            if is_missing(error):
                self._make_database()
                return self.open()
            said = f"PostgreSQL at {self._server.place} can't be reached: {self._server.without_secret(error)}"
            raise unreachable(said, is_full=has_no_room(error)) from None

    def clean(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        """Remove what a trigger has left: settings, locks, temporary tables, prepared statements."""
        connection.execute("DISCARD ALL")

    def roll_back(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> bool:
        psycopg = library()
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return True
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            return False
        return True

    def idle_s(self) -> float:
        return IDLE_S

    def _make_database(self) -> None:
        psycopg = library()
        try:
            with _connect(self._server, "postgres") as connection:
                connection.execute(f"CREATE DATABASE {quote(self._server.database)}")
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.Error as error:
            raise self._server.database_missing(error, "CREATEDB") from None
        logger.info("the database %s was created", self._server.database)


def _retype(session: Session, alter: str) -> None:
    try:
        session.run(alter)
    except library().errors.FeatureNotSupported as error:
        said = " ".join(str(error).split())
        raise BatchRefusedError(f"{said}: drop what depends on it, put the rows again, and create it again") from error


def _connect(server: Server, database: str) -> "psycopg.Connection[tuple[Any, ...]]":
    connection: psycopg.Connection[tuple[Any, ...]] = connection_class().connect(
        **postgresql_arguments(server, database), autocommit=True, prepare_threshold=None
    )
    return connection


def _path(connection: "psycopg.Connection[tuple[Any, ...]]", schema: str | None) -> str:
    """Pin what names mean: a schema that later precedes the one of our ledger would hide all loaded rows.

    Args:
        schema: The tables' schema; the others are for types and operators of extensions.
    """
    ((found, schemas),) = connection.execute(_PATH).fetchall()
    first = schema or found
    names = ", ".join(map(quote_of_any_length, dict.fromkeys([first, *schemas]))) if first else ""
    return f"; SET LOCAL search_path = {names}" if names else ""
