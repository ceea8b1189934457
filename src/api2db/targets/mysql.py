"""MySQL and MariaDB: rows as CSV from memory into LOAD DATA LOCAL; multi-row INSERT where the server forbids LOCAL."""

import logging
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv

from api2db.errors import (
    BatchRefusedError,
    ConnectionBrokenError,
    MissingExtraError,
    TargetError,
    TargetUnavailableError,
)
from api2db.targets._encoding import encoded
from api2db.targets._mysql_connection import connection_class, mysql_arguments
from api2db.targets._mysql_values import as_csv, check_held, is_binary, plain_values
from api2db.targets.port import Column
from api2db.targets.server import Server
from api2db.targets.sql import Session
from api2db.targets.types import MARIADB, MYSQL, Types, from_mysql, mysql_name, mysql_type

if TYPE_CHECKING:
    import pymysql

__all__ = ["MysqlDatabase", "mysql_arguments"]

_log = logging.getLogger(__name__)
_types = pa.types
_ANSWER_S = 60  # as when a COMMIT waits for a standby; it goes on then, and the ledger tells of it
_IDLE_S = 20  # less than the session's wait_timeout, which frees what a frozen client has locked
_LONGEST_NAME = 64
_SPACES = " \t\n\v\f\r"
_INSERT_ROWS = 1_000
_ROWS_AT_ONCE = 4_096  # written and sent piece by piece, so that the server works on one while the next is written
_NO_DATABASE, _NO_TABLE, _NOT_ALLOWED = 1049, 1146, 1142
_NO_LOCAL = frozenset({1148, 3948, 3950, 4166})
# Error codes of the server, by the "MySQL Error Message Reference" and MariaDB's list: a row is refused for itself.
_REFUSED = frozenset(
    {1048, 1062, 1118, 1136, 1138, 1264, 1265, 1292, 1300, 1364, 1366, 1406, 1411, 1416, 1451, 1452, 1467, 1586}
    | {1644, 1690, 1846, 1059, 1060, 1166, 3140, 3141, 3157, 3819, 4025, 4078, 1074, 1113, 1117, 1367}
    # A column or a table that it can't make or alter as asked.
    | {1063, 1067, 1101, 1121, 1171, 1293, 1294, 1347, 1348, 1832, 1833, 1834, 3780}
    | {1369, 1526}
)
_NO_PRIMARY_KEY = 3750
_UNFIT_KEYS = frozenset({1071, 1170, 3152})
# Classes of SQLSTATE: data, broken constraints, the CHECK OPTION of a view, and what triggers raise.
_REFUSED_CLASSES = frozenset({"22", "23", "44", "45"})
# The connection broke, by the client's own codes, or the packet was larger than the server takes.
_BROKEN = frozenset(
    {0, 1053, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2055, 4031}
)
# What the driver raises when what answers does not speak the protocol.
_GARBLED = (ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)
_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES,"
    "NO_AUTO_VALUE_ON_ZERO',"
    " time_zone = '+00:00', wait_timeout = 30, innodb_lock_wait_timeout = 10, lock_wait_timeout = 10,"
    " autocommit = 1, character_set_connection = utf8mb4, default_storage_engine = InnoDB,"
    # No limit that is meant for people ends a batch, which would end there each time that it is tried.
    " sql_safe_updates = 0, sql_big_selects = 1, sql_select_limit = DEFAULT"
    " /*!50720 , max_execution_time = 0 */ /*M! , max_statement_time = 0 */,"
    # A join without an index is by hash; MariaDB does so only when told to.
    " join_buffer_size = 4194304 /*M! , join_cache_level = 4, join_buffer_space_limit = 16777216 */"
)
# Two streams that find a key absent would both insert it, did not the first lock the gap where it would be.
_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_WITHOUT_TRANSACTIONS = (
    "SELECT TABLE_NAME, ENGINE, @@lower_case_table_names FROM information_schema.TABLES"
    " JOIN information_schema.ENGINES USING (ENGINE)"
    " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ({}) AND TRANSACTIONS <> 'YES'"
)
_VIEW = (
    "SELECT VIEW_DEFINITION FROM information_schema.VIEWS"
    " WHERE TABLE_SCHEMA = coalesce(?, DATABASE()) AND TABLE_NAME = ?"
)
_FROM = re.compile(r"(?:from|join) \(*`((?:[^`]|``)+)`\.`((?:[^`]|``)+)`")
_ENGINE_WITHOUT_TRANSACTIONS = (
    "SELECT ENGINE FROM information_schema.TABLES JOIN information_schema.ENGINES USING (ENGINE)"
    " WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND TRANSACTIONS <> 'YES'"
)
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")
_DEFINITION = re.compile(
    r"\w+(?:\((?:'(?:[^']|'')*'|[^')])*\))?(?: unsigned)?(?P<zeros>(?: zerofill)?)"
    r"(?P<letters>(?: CHARACTER SET \w+)?(?: COLLATE \w+)?)(?P<more>.*)"
)
_DEMANDED = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
    " AND IS_NULLABLE = 'NO' AND COLUMN_DEFAULT IS NULL AND locate('auto_increment', EXTRA) = 0"
    " AND coalesce(GENERATION_EXPRESSION, '') = ''"
)
# A null there becomes the time of the load or the next number, without a word; a view does not tell which it would.
_MAKING_UP = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
    " AND IS_NULLABLE = 'NO' AND (DATA_TYPE = 'timestamp' OR locate('auto_increment', EXTRA) > 0 OR EXISTS"
    " (SELECT 1 FROM information_schema.VIEWS AS shown WHERE shown.TABLE_SCHEMA = DATABASE() AND shown.TABLE_NAME = ?))"
)
# MariaDB writes NULL where there is no default.
_FILLS = "COLUMN_DEFAULT IS NOT NULL /*M! AND COLUMN_DEFAULT <> 'NULL' */ OR locate('auto_increment', EXTRA) > 0"
_ROW = "_api2db_row"
_ROW_COLUMN = f"{_ROW} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY /*!80023 INVISIBLE */"


class MysqlDatabase:
    """One connection to a database; it is made where it is missing."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: pymysql.Connection[Any] | None = None
        self._local = True
        self._used_s = 0.0
        self._slow: set[str] = set()
        self._needs_primary_key: bool | None = None
        self.seen: dict[str, tuple[Any, list[Column] | None]] = {}
        self.demanded: dict[str, set[str]] = {}
        self.making_up: dict[str, set[str]] = {}
        self.from_staged: bool | None = None

    def connect(self) -> None:
        if self._connection is None:
            self._connection = self._open()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        pymysql = _library()
        if time.monotonic() - self._used_s > _IDLE_S:
            self.close()
        self.connect()
        connection = self._connection
        if connection is None:
            raise ConnectionBrokenError(f"the connection to {self._server.place} was closed meanwhile")
        try:
            connection.begin()
            with connection.working():
                yield _MysqlSession(connection, self)
            connection.commit()
        except (pymysql.Error, OSError) as error:
            raise self._translated(error) from None
        finally:
            self._roll_back(connection)
            self._used_s = time.monotonic()

    @property
    def types(self) -> Types:
        """MariaDB holds JSON as text; MySQL does not."""
        return MARIADB if self._is_mariadb() else MYSQL

    @property
    def local(self) -> bool:
        """Whether LOAD DATA LOCAL may be tried."""
        return self._local

    def forbid_local(self, said: str) -> None:
        """Remember that the server or the user forbids LOCAL, and say so once."""
        if self._local:
            _log.warning("LOAD DATA LOCAL is forbidden (%s): rows go by multi-row INSERT, which is slower", said)
        self._local = False

    def miss_index(self, table: str, keys: Sequence[str]) -> None:
        """Say once what would make the table fast."""
        if table not in self._slow:
            self._slow.add(table)
            name, listed = self.quote(table), ", ".join(map(self.quote, keys))
            _log.warning(
                "%s has no index on its keys, so each batch reads all of it; run: ALTER TABLE %s ADD UNIQUE KEY (%s)",
                table,
                name,
                listed,
            )

    def quote(self, name: str) -> str:
        if not name or "\0" in name or len(name) > _LONGEST_NAME or name[-1] in _SPACES or _beyond(name):
            raise BatchRefusedError(
                f"MySQL can't hold the name {name!r}: it has to be of 1 to 64 characters below U+10000, "
                "without NUL, and without a space, a tab or the end of a line as its last; rename it"
            )
        return f"`{name.replace('`', '``')}`"

    def type_name(self, type_: pa.DataType, *, key: bool = False) -> str | None:
        declared = mysql_type(type_)
        if key and declared in {"longtext", "longblob"}:
            return f"varchar(255) COLLATE {self._exact_collation()}" if declared == "longtext" else "varbinary(255)"
        return declared

    def once(self, insert: str) -> str:
        return insert.replace("INSERT INTO", "INSERT IGNORE INTO", 1)

    def locked(self, select: str) -> str:
        return f"{select} FOR UPDATE"

    def fresh(self, select: str) -> str:
        return self.locked(select)  # a read without a lock is of the snapshot that the first one made

    def update_from(self, table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
        sets = ", ".join(f"old.{value} = new.{value}" for value in values)
        return f"UPDATE {self._joined(table, staged, keys)} SET {sets}"

    def key_twin(self, table: str, staged: str, keys: Sequence[str], texts: Sequence[str]) -> str:
        differs = " OR ".join(f"CAST(old.{text} AS BINARY) <> CAST(new.{text} AS BINARY)" for text in texts)
        return self.fresh(f"SELECT 1 FROM {self._joined(table, staged, keys)} WHERE {differs} LIMIT 1")

    def _joined(self, table: str, staged: str, keys: Sequence[str]) -> str:
        """In the order that an index serves: the server, which takes the staged table for empty, often errs."""
        same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
        if self.from_staged is None:
            return f"{table} AS old JOIN {staged} AS new ON {same}"
        if self.from_staged:
            return f"{staged} AS new STRAIGHT_JOIN {table} AS old ON {same}"
        return f"{table} AS old STRAIGHT_JOIN {staged} AS new ON {same}"

    def create_table(self, table: str, columns: Sequence[str], keys: Sequence[str] = ()) -> str:
        """That of a database in another character set than ours says its own, to hold all letters."""
        unique = [f"UNIQUE KEY ({', '.join(keys)})"] if keys else []
        letters = "" if self._holds_all_letters() else " CHARACTER SET utf8mb4"
        primary = [] if any(column.endswith("PRIMARY KEY") for column in columns) else self.primary_key()
        return f"CREATE TABLE {table} ({', '.join([*columns, *unique, *primary])}){letters}"

    def primary_key(self) -> list[str]:
        """A column that nobody sees, where the server takes no table without a primary key."""
        if self._needs_primary_key is None and self._connection is not None:
            with self._connection.cursor() as cursor:
                cursor.execute("SHOW SESSION VARIABLES LIKE 'sql_require_primary_key'")
                self._needs_primary_key = cursor.fetchone() == ("sql_require_primary_key", "ON")
        return [_ROW_COLUMN] if self._needs_primary_key else []

    def _holds_all_letters(self) -> bool:
        if self._connection is None:
            return False
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT @@character_set_database")
            return bool(cursor.fetchone() == ("utf8mb4",))

    def key_index(self, table: str, keys: Sequence[str]) -> str | None:
        return None  # each statement commits by itself here

    def type_of(self, declared: str) -> pa.DataType:
        return from_mysql(declared)

    def newest(self, old: Sequence[Column], wanted: Sequence[Column]) -> Sequence[Column] | None:
        return None  # DDL commits by itself here, so that readers would see the table without its rows

    def renew(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        raise AssertionError("newest said no")

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        """What the server makes of a type may have another name: so the column is looked at again."""
        if wider.declared == column.declared:
            return wider
        name, quoted = self.quote(column.name), self.quote(table)
        [(_, said, *_)] = session.rows(f"SHOW CREATE TABLE {quoted}")
        session.run(f"ALTER TABLE {quoted} MODIFY COLUMN {name} {_redefined(str(said), name, wider.declared)}")
        return next((found for found in session.columns(table) or [] if found.name == column.name), wider)

    def same_column(self, one: str, other: str) -> bool:
        return one == other or _fold(one) == _fold(other)

    def _exact_collation(self) -> str:
        """One to which a space at the end makes a difference; utf8mb4_bin is none."""
        return "utf8mb4_nopad_bin" if self._is_mariadb() else "utf8mb4_0900_bin"

    def _is_mariadb(self) -> bool:
        said = self._connection.get_server_info() if self._connection is not None else ""
        return "MariaDB" in str(said)

    def _open(self) -> "pymysql.Connection[Any]":
        pymysql = _library()
        try:
            return self._connected(self._server.database)
        except (pymysql.Error, OSError, *_GARBLED) as error:
            if _code(error) == _NO_DATABASE:
                self._make_database()
                return self._open()
            said = self._server.without_secret(_text(error))
            raise TargetUnavailableError(f"the server at {self._server.place} can't be reached: {said}") from None

    def _connected(self, database: str | None) -> "pymysql.Connection[Any]":
        connection: pymysql.Connection[Any] = connection_class()(
            **mysql_arguments(self._server, database),
            local_infile=True,
            read_timeout=_ANSWER_S,
            write_timeout=_ANSWER_S,
            init_command=_SESSION,
            autocommit=True,
        )
        self._needs_primary_key = None
        with connection.cursor() as cursor:
            cursor.execute(_ISOLATION)
        return connection

    def _make_database(self) -> None:
        pymysql = _library()
        try:
            connection = self._connected(None)
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    f"CREATE DATABASE IF NOT EXISTS {self.quote(self._server.database)} CHARACTER SET utf8mb4"
                )
        except (pymysql.Error, OSError) as error:
            said = self._server.without_secret(_text(error))
            raise TargetUnavailableError(
                f"the database {self._server.database} is missing and can't be made: {said}; make it, or grant CREATE"
            ) from None
        _log.info("the database %s is made", self._server.database)

    def _roll_back(self, connection: "pymysql.Connection[Any]") -> None:
        pymysql = _library()
        if self._connection is None:
            return
        try:
            connection.rollback()
        except (pymysql.Error, OSError):
            self.close()

    def _translated(self, error: Exception) -> TargetError:
        said = self._server.without_secret(_text(error))
        code = _code(error)
        if code in _UNFIT_KEYS:
            return BatchRefusedError(f"{said}; make the table yourself, or choose keys that the server can index")
        if code in _REFUSED or str(getattr(error, "sqlstate", ""))[:2] in _REFUSED_CLASSES:
            return BatchRefusedError(said)
        if code is None or code in _BROKEN:
            self.close()
            return ConnectionBrokenError(f"the connection to {self._server.place} broke: {said}")
        if code == _NO_PRIMARY_KEY:
            said = f"{said}; run: ALTER TABLE … ADD COLUMN {_ROW_COLUMN}"
        return TargetUnavailableError(f"the server at {self._server.place} says: {said}")


class _MysqlSession:
    def __init__(self, connection: "pymysql.Connection[Any]", database: MysqlDatabase) -> None:
        self._connection = connection
        self._database = database
        self._quote = database.quote

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._connection.cursor() as cursor:
            return int(cursor.execute(sql.replace("?", "%s"), values) if values else cursor.execute(sql))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values) if values else cursor.execute(sql)
            return list(cursor.fetchall())

    def columns(self, table: str) -> list[Column] | None:
        found = self.rows(
            f"SELECT COLUMN_NAME, COLUMN_TYPE, COLUMN_COMMENT, {_FILLS} FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
            " AND coalesce(GENERATION_EXPRESSION, '') = '' AND COLUMN_NAME <> ? ORDER BY ORDINAL_POSITION",
            (table, _ROW),
        )
        named = [(name, mysql_name(_said(type_), _said(comment)), bool(fills)) for name, type_, comment, fills in found]
        if any(declared == "longtext" for _, declared, _ in named) and self._database.types is MARIADB:
            checked = self._checked_as_json(table)
            named = [(name, "json" if name in checked else declared, fills) for name, declared, fills in named]
        return [Column(name, from_mysql(declared), declared, fills) for name, declared, fills in named] or None

    def require_transactions(self, *tables: str) -> None:
        for table, engine, folds in self.rows(_WITHOUT_TRANSACTIONS.format(", ".join("?" * len(tables))), tables):
            if not folds and table not in tables:  # the catalogue folds names that the server tells apart
                continue
            raise _without_transactions(str(table), engine, self._quote(str(table)))
        for schema, base in {base for table in tables for base in self._beneath(table)}:
            for (engine,) in self.rows(_ENGINE_WITHOUT_TRANSACTIONS, (schema, base)):
                raise _without_transactions(base, engine, f"{self._quote(schema)}.{self._quote(base)}")

    def _beneath(self, view: str, schema: str | None = None) -> Iterator[tuple[str, str]]:
        """The tables of a view, and of those it is made of; none for a table, or where it is not shown to us."""
        for (definition,) in self.rows(_VIEW, (schema, view)):
            for found in _FROM.finditer(_said(definition)):
                beneath, base = (name.replace("``", "`") for name in found.groups())
                yield beneath, base
                yield from self._beneath(base, beneath)

    def _checked_as_json(self, table: str) -> set[str]:
        """MariaDB's JSON is a text with a check of the column's own, which bears the column's name."""
        found = self.rows(
            "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS"
            " WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = ? AND CHECK_CLAUSE LIKE 'json_valid(%%'",
            (table,),
        )
        return {_said(name) for (name,) in found}

    def hold(self, table: str) -> list[Column] | None:
        """By a look at the table, which locks its definition; the catalogue is slow, so it is asked after changes."""
        pymysql = _library()
        try:
            look = self._look(table)
        except pymysql.Error as error:
            if _code(error) == _NO_TABLE:
                return None
            raise
        before, columns = self._database.seen.get(table, (None, None))
        if look != before:
            self.require_transactions(table)
            columns = self.columns(table)
            self._database.seen[table] = look, columns
            self._database.demanded[table] = {str(name) for (name,) in self.rows(_DEMANDED, (table,))}
            self._database.making_up[table] = {str(name) for (name,) in self.rows(_MAKING_UP, (table, table))}
        return columns

    def _look(self, table: str) -> tuple[Any, ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {self._quote(table)} LIMIT 0")
            fields = cursor._result.fields  # noqa: SLF001 - the description lacks the flags: unsigned, and the like
            types = [(f.name, f.type_code, f.length, f.scale, f.flags, f.charsetnr) for f in fields]
        return types, self._definition(table)

    def _definition(self, table: str) -> str | None:
        """As the server tells it, engine and all; None for a view that is not shown to us."""
        pymysql = _library()
        try:
            [(_, said, *_)] = self.rows(f"SHOW CREATE TABLE {self._quote(table)}")
        except pymysql.Error as error:
            if _code(error) != _NOT_ALLOWED:
                raise
            return None
        return _COUNTER.sub("", str(said))

    def may_drop(self, table: str) -> bool:
        """There is no such thing here."""
        return False

    @contextmanager
    def stage(self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str]) -> Iterator[str]:
        self._check_nulls(table, rows)
        self._database.from_staged = self._has_index(table, keys)
        listed = ", ".join(self._quote(name) for name in rows.column_names)
        index = self._staged_index([columns[key] for key in keys])
        self.run("DROP TEMPORARY TABLE IF EXISTS _api2db_staged")
        self.run(f"CREATE TEMPORARY TABLE _api2db_staged {index} AS SELECT {listed} FROM {self._quote(table)} LIMIT 0")
        self.insert("_api2db_staged", rows, columns)
        yield "_api2db_staged"
        self.run("DROP TEMPORARY TABLE _api2db_staged")

    def _has_index(self, table: str, keys: Sequence[str]) -> bool | None:
        """Whether an index finds a key's rows; None for a view, of which only the server knows."""
        look, _ = self._database.seen.get(table, (None, None))
        if look is None or not str(look[1]).startswith("CREATE TABLE"):
            return None
        wanted = {_fold(key) for key in keys}
        leading: dict[str, set[str]] = {}
        for _, _, index, place, column, *_, kind in (
            row[:11] for row in self.rows(f"SHOW INDEX FROM {self._quote(table)}")
        ):
            if place <= len(wanted) and kind == "BTREE":
                leading.setdefault(index, set()).add(_fold(column or ""))
        found = wanted in leading.values()
        if not found:
            self._database.miss_index(table, keys)
        return found

    def _staged_index(self, keys: Sequence[Column]) -> str:
        parts = [f"{self._quote(key.name)}{_prefix(key.declared, len(keys))}" for key in keys if key.declared != "json"]
        listed = [f"KEY ({', '.join(parts)})"] if parts else []
        made = [*self._database.primary_key(), *listed]
        return f"({', '.join(made)})" if made else ""

    def _check_nulls(self, table: str, rows: pa.Table) -> None:
        for name in self._database.making_up.get(table, set()) & set(rows.column_names):
            if rows.column(name).null_count:
                raise BatchRefusedError(
                    f"{name!r}: a value is missing, and the column is NOT NULL; where the server is to make one, leave"
                    " the column out of the frame"
                )

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        self._check_nulls(table, rows)
        for name in rows.column_names:
            check_held(rows.column(name), columns[name])
        # LOAD DATA makes up a value where a column has no default, without a word; INSERT refuses.
        lacking = self._database.demanded.get(table, set()) - set(rows.column_names)
        if self._database.local and not lacking:
            pymysql = _library()
            try:
                return self._load(table, rows)
            except pymysql.Error as error:
                if _code(error) not in _NO_LOCAL:
                    raise
                self._database.forbid_local(_text(error))
        return self._insert(table, rows)

    def _load(self, table: str, rows: pa.Table) -> int:
        """A value that does not fit is only a warning to LOAD DATA LOCAL, also in strict mode: any warning refuses."""
        names, sets = [], []
        for number, (name, column) in enumerate(zip(rows.column_names, rows.columns, strict=True)):
            binary = is_binary(column.type)
            names.append(f"@b{number}" if binary else self._quote(name))
            if binary:
                sets.append(f"{self._quote(name)} = UNHEX(@b{number})")
        statement = (
            f"LOAD DATA LOCAL INFILE 'api2db' INTO TABLE {self._quote(table)} CHARACTER SET utf8mb4"
            " FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\n'"
            f" ({', '.join(names)})" + (f" SET {', '.join(sets)}" if sets else "")
        )
        connection: Any = self._connection
        with connection.sending(encoded(as_csv, batch) for batch in rows.to_batches(_ROWS_AT_ONCE)):
            loaded = self.run(statement)
        self._refuse_warnings()
        return loaded

    def _refuse_warnings(self) -> None:
        for _, _, said in self.rows("SHOW WARNINGS LIMIT 1"):
            raise BatchRefusedError(str(said))

    def _insert(self, table: str, rows: pa.Table) -> int:
        names = ", ".join(self._quote(name) for name in rows.column_names)
        marks = f"({', '.join(['%s'] * rows.num_columns)})"
        loaded = 0
        for piece in rows.to_batches(self._rows_of_a_statement(rows)):
            values = list(zip(*(encoded(plain_values, column) for column in piece.columns), strict=True))
            many = f"INSERT INTO {self._quote(table)} ({names}) VALUES ".replace("%", "%%")
            with self._connection.cursor() as cursor:
                flat = [value for row in values for value in row]
                loaded += int(cursor.execute(many + ", ".join([marks] * len(values)), flat))
                if cursor._result.warning_count:  # noqa: SLF001 - spares a round trip for each statement
                    self._refuse_warnings()
        return loaded

    def _rows_of_a_statement(self, rows: pa.Table) -> int:
        """So many that a statement is well within what the server takes, unless a row is far above the others."""
        connection: Any = self._connection
        fitting: int = rows.num_rows * connection.packet_bytes // (2 * rows.nbytes + 1)
        return max(1, min(_INSERT_ROWS, fitting))


def _library() -> Any:
    try:
        import pymysql
    except ImportError as error:
        raise MissingExtraError("pymysql", "mysql") from error
    return pymysql


def _code(error: Exception) -> int | None:
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) and not isinstance(error, OSError) else None


def _text(error: Exception) -> str:
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def _said(declared: Any) -> str:
    return declared.decode() if isinstance(declared, bytes) else str(declared)


def _without_transactions(table: str, engine: str, quoted: str) -> TargetUnavailableError:
    return TargetUnavailableError(
        f"the table {table} is on the engine {engine}, which has no transactions, so that rows could be lost "
        f"or doubled; run: ALTER TABLE {quoted} ENGINE=InnoDB"
    )


def _redefined(table: str, name: str, declared: str) -> str:
    """A column's definition with another type: MODIFY drops each attribute that it does not repeat.

    Args:
        table: As SHOW CREATE TABLE has it.
        name: Quoted.
    """
    line = next((line for line in table.split("\n") if line.startswith(f"  {name} ")), "")
    found = _DEFINITION.fullmatch(line.removeprefix(f"  {name} ").removesuffix(","))
    if found is None or "\\" in found["more"]:
        raise BatchRefusedError(f"the column {name} can't be altered without harm to its definition; widen it yourself")
    type_, comment, words = declared.removesuffix(" NULL").partition(" COMMENT ")
    letters = found["letters"] if type_.startswith(("longtext", "varchar")) else ""
    zeros = found["zeros"] if "int" in type_ else ""
    null = " NULL" if declared.endswith(" NULL") and "NULL" not in found["more"] else ""
    return f"{type_}{zeros}{letters}{null}{found['more']}{comment}{words}"


def _prefix(declared: str, keys: int) -> str:
    """Of texts and bytes an index takes the beginning: 767 bytes of all keys are within every engine's limit."""
    kind, _, length = declared.partition("(")
    if kind.removeprefix("var") not in {"char", "binary"} and not kind.endswith(("text", "blob")):
        return ""
    letters = 767 // keys // (4 if kind.endswith(("char", "text")) else 1)
    most = int(length.split(")")[0]) if length else 63 if kind.startswith("tiny") else letters
    return f"({min(letters, most)})" if most else ""


def _fold(name: str) -> str:
    """The server folds letter by letter, so that ß is no ss; of İ it makes i."""
    return "".join(letter.lower()[0] for letter in name)


def _beyond(name: str) -> bool:
    return any(ord(letter) > 0xFFFF for letter in name)
