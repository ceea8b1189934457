"""A database of MySQL or MariaDB: its transactions, dialect and errors, and how its connections are opened."""

import logging
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from api2db.errors import (
    BatchRefusedError,
    ConnectionBrokenError,
    TargetError,
    TargetUnavailableError,
    from_extra,
)
from api2db.targets.mysql._catalogue import HIDDEN_COLUMN, needing_columns, redefined
from api2db.targets.mysql._connection import connection_class, mysql_arguments
from api2db.targets.mysql._dialect import (
    NO_DATABASE,
    NO_PRIMARY_KEY,
    NO_ROOM_CODES,
    UNFIT_KEYS,
    check_column_name,
    code_of,
    fold,
    is_broken,
    is_refused,
    quote,
    text_of,
)
from api2db.targets.mysql._session import Learnt, MysqlSession
from api2db.targets.port import Column
from api2db.targets.server import Server
from api2db.targets.sql import MAX_CONNECTIONS, Session
from api2db.targets.sql.pool import Connections, unreachable
from api2db.targets.sql.port import Dialect, NoDatabaseError
from api2db.targets.types import MARIADB, MYSQL, from_mysql

if TYPE_CHECKING:
    import pymysql

logger = logging.getLogger(__name__)
_ANSWER_S = 60  # seconds; a COMMIT may wait for a standby; after that it continues, and the ledger tells its outcome
# Seconds; less than the session's wait_timeout, which frees the locks of a client that is frozen, or whose machine has
# vanished, between two statements. In the middle of a LOAD DATA, net_read_timeout does that.
_IDLE_S = 20
# What the driver raises if the other side does not speak the protocol.
_GARBLED = (ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)
_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES,"
    "NO_AUTO_VALUE_ON_ZERO',"
    " time_zone = '+00:00', wait_timeout = 30, net_read_timeout = 10, innodb_lock_wait_timeout = 10,"
    " lock_wait_timeout = 10,"
    " autocommit = 1, character_set_connection = utf8mb4, default_storage_engine = InnoDB,"
    # Limits meant for people are off: a batch that exceeds one would exceed it at each try.
    " sql_safe_updates = 0, sql_big_selects = 1, sql_select_limit = DEFAULT"
    " /*!50720 , max_execution_time = 0 */ /*M! , max_statement_time = 0 */,"
    # Joins without an index use hashing; MariaDB does so only on request.
    " join_buffer_size = 4194304 /*M! , join_cache_level = 4, join_buffer_space_limit = 16777216 */"
)
# Names may contain the end of a line.
_REST_OF_LINE = r"(?:'(?:[^']|'')*'|`(?:[^`]|``)*`|[^'`\n])*"
# With this level, the first of two streams that find a key absent locks the gap, so that they do not both insert it.
_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"


class MysqlDatabase:
    """A database, used by connections of a pool.

    Args:
        creates: Whether it is created if it is missing.
    """

    def __init__(self, server: Server, max_connections: int = MAX_CONNECTIONS, *, creates: bool = True) -> None:
        self._server = server
        self._connections = Connections(_Opener(server, creates=creates), server, max_connections)
        self._connection: pymysql.Connection[Any] | None = None
        self._is_mariadb = False
        self._needs_primary_key: bool | None = None
        self._learnt = Learnt()
        self.dialect = self._dialect()

    def connect(self) -> None:
        if not self._connections.reached:
            self._connections.reach(self._look_at)

    def close(self) -> None:
        self._needs_primary_key = None
        self._connections.leave()

    def end_waiting(self) -> None:
        self._connections.end_waiting()

    def second(self) -> None:
        return None

    def end_silent(self, stream: str) -> None:
        """The server ends it by itself; see ``_SESSION``."""

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        pymysql = _library()
        self.connect()
        with self._connections.lent() as connection:
            self._connection = connection
            try:
                connection.begin()
                with connection.working():
                    yield MysqlSession(connection, self._learnt, self._hidden_key, is_mariadb=self._is_mariadb)
                connection.commit()
            except (pymysql.Error, OSError) as error:
                raise self._translated(error) from None
            finally:
                self._connection = None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with self.transaction() as session:
            yield session

    def _look_at(self, connection: Any) -> None:
        self._is_mariadb = "MariaDB" in str(connection.get_server_info())
        self.dialect = self._dialect()

    def _dialect(self) -> Dialect:
        """The SQL of this server. Names have no schema, because the connection is to its database.

        A read without a lock would be of the snapshot that the transaction's first read created.
        """
        join = partial(_join, self._learnt)
        return Dialect(
            types=MARIADB if self._is_mariadb else MYSQL,
            type_of=from_mysql,
            exact_text="CAST({} AS BINARY)",
            quote=quote,
            table=quote,
            check_column_name=check_column_name,
            fold=fold,
            key_type=partial(_key_type, "utf8mb4_nopad_bin" if self._is_mariadb else "utf8mb4_0900_bin"),
            locking=" FOR UPDATE",
            current=" FOR UPDATE",
            schemas="SHOW DATABASES",
            insert_ignore=lambda insert: insert.replace("INSERT INTO", "INSERT IGNORE INTO", 1),
            join=join,
            update_from=partial(_update_from, join),
            create_table=self._create_table,
            # DDL commits by itself, so that readers would see the table without its rows.
            replacement=lambda _old, _wanted: None,
            drop_surplus=_drop_surplus,
        )

    def _create_table(self, table: str, columns: Sequence[str], keys: Sequence[str]) -> str:
        """In a database of another character set, the table gets its own, to hold all characters."""
        unique = [f"UNIQUE KEY ({', '.join(keys)})"] if keys else []
        letters = "" if self._holds_all_letters() else " CHARACTER SET utf8mb4"
        primary = [] if any(column.endswith("PRIMARY KEY") for column in columns) else self._hidden_key()
        return f"CREATE TABLE {table} ({', '.join([*columns, *unique, *primary])}){letters}"

    def _hidden_key(self) -> list[str]:
        """An invisible column, if the server accepts no table without a primary key."""
        if self._needs_primary_key is None and self._connection is not None:
            with self._connection.cursor() as cursor:
                cursor.execute("SHOW SESSION VARIABLES LIKE 'sql_require_primary_key'")
                self._needs_primary_key = cursor.fetchone() == ("sql_require_primary_key", "ON")
        return [HIDDEN_COLUMN] if self._needs_primary_key else []

    def _holds_all_letters(self) -> bool:
        if self._connection is None:
            return False
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT @@character_set_database")
            return bool(cursor.fetchone() == ("utf8mb4",))

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        raise AssertionError("the dialect has no replacement")

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        """Read the column again, because the server may give a type another name."""
        if wider.declared == column.declared:
            return wider
        name, quoted = quote(column.name), quote(table)
        [(_, said, *_)] = session.rows(f"SHOW CREATE TABLE {quoted}")
        session.run(f"ALTER TABLE {quoted} MODIFY COLUMN {name} {redefined(str(said), name, wider.declared)}")
        return next((found for found in session.columns(table) or [] if found.name == column.name), wider)

    def _translated(self, error: Exception) -> TargetError:
        said = self._server.without_secret(text_of(error))
        if code_of(error) in UNFIT_KEYS:
            return BatchRefusedError(f"{said}; create the table yourself, or choose keys that the server can index")
        if is_refused(error):
            return BatchRefusedError(said)
        if is_broken(error):
            return ConnectionBrokenError(f"the connection to {self._server.place} broke: {said}")
        if code_of(error) == NO_PRIMARY_KEY:
            said = f"{said}; run: ALTER TABLE … ADD COLUMN {HIDDEN_COLUMN}"
        return TargetUnavailableError(f"the server at {self._server.place} says: {said}")


def _key_type(collation: str, declared: str) -> str:
    """A type that can be indexed, under a collation that distinguishes trailing spaces, as utf8mb4_bin does not."""
    if declared == "longtext":
        return f"varchar(255) COLLATE {collation}"
    return "varbinary(255)" if declared == "longblob" else declared


def _join(learnt: Learnt, table: str, staged: str, keys: Sequence[str]) -> str:
    """Join in the order that an index serves. The server believes that the staged table is empty, and often errs."""
    same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
    if learnt.indexed is None:
        return f"{table} AS old JOIN {staged} AS new ON {same}"
    if learnt.indexed:
        return f"{staged} AS new STRAIGHT_JOIN {table} AS old ON {same}"
    return f"{table} AS old STRAIGHT_JOIN {staged} AS new ON {same}"


def _update_from(
    join: Callable[[str, str, Sequence[str]], str], table: str, staged: str, values: Sequence[str], keys: Sequence[str]
) -> str:
    sets = ", ".join(f"old.{value} = new.{value}" for value in values)
    return f"UPDATE {join(table, staged, keys)} SET {sets}"


def _drop_surplus(session: Session, table: str, surplus: Sequence[str]) -> Sequence[str]:
    """A column that an index, a view, a trigger or another column names stays, because the server would break that.

    The table is rebuilt (FORCE): columns dropped instantly would still count.
    """
    needing = needing_columns(session, table)
    kept = [name for name in surplus if needing is None or _is_named_elsewhere(quote(name).lower(), needing)]
    if dropped := [f"DROP COLUMN {quote(name)}" for name in surplus if name not in kept]:
        session.run(f"ALTER TABLE {quote(table)} {', '.join(dropped)}, FORCE")
    return kept


def _is_named_elsewhere(name: str, needing: str) -> bool:
    """Whether a name occurs beside the column's own line, which in MariaDB has its CHECK (json_valid(…)) too."""
    own = re.search(rf"^  {re.escape(name)} {_REST_OF_LINE}", needing, re.MULTILINE)
    return needing.count(name) > (own.group().count(name) if own else 1)


class _Opener:
    """Opens connections to a database, which it creates if it is missing."""

    def __init__(self, server: Server, *, creates: bool) -> None:
        self._server = server
        self._creates = creates

    def open(self) -> "pymysql.Connection[Any]":
        pymysql = _library()
        try:
            return self._connected(self._server.database)
        except (pymysql.Error, OSError, *_GARBLED) as error:
            if code_of(error) == NO_DATABASE and not self._creates:
                raise NoDatabaseError(f"there is no database {self._server.place}") from None
            if code_of(error) == NO_DATABASE:
                self._make_database()
                return self.open()
            said = self._server.without_secret(text_of(error))
            said = f"the server at {self._server.place} can't be reached: {said}"
            raise unreachable(said, is_full=code_of(error) in NO_ROOM_CODES) from None

    def clean(self, connection: "pymysql.Connection[Any]") -> None:
        """Remove what a trigger or an error has left: settings, locks, temporary tables, variables."""
        resettable: Any = connection
        resettable.reset()
        with connection.cursor() as cursor:
            for statement in ("SET NAMES utf8mb4", _SESSION, _ISOLATION):
                cursor.execute(statement)

    def roll_back(self, connection: "pymysql.Connection[Any]") -> bool:
        pymysql = _library()
        try:
            connection.rollback()
        except (pymysql.Error, OSError):
            return False
        return True

    def idle_s(self) -> float:
        return _IDLE_S

    def _connected(self, database: str | None) -> "pymysql.Connection[Any]":
        connection: pymysql.Connection[Any] = connection_class()(
            **mysql_arguments(self._server, database),
            local_infile=True,
            read_timeout=_ANSWER_S,
            write_timeout=_ANSWER_S,
            init_command=_SESSION,
            autocommit=True,
        )
        with connection.cursor() as cursor:
            cursor.execute(_ISOLATION)
        return connection

    def _make_database(self) -> None:
        pymysql = _library()
        try:
            connection = self._connected(None)
            with connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS {quote(self._server.database)} CHARACTER SET utf8mb4")
        except (pymysql.Error, OSError) as error:
            raise self._server.database_missing(text_of(error), "CREATE") from None
        logger.info("the database %s was created", self._server.database)


@cache
def _library() -> Any:
    with from_extra("pymysql", "mysql"):
        import pymysql
    return pymysql
