"""What MySQL and MariaDB say about a table: its columns, what the server fills in, its engine, its indexes."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api2db.errors import BatchRefusedError, TargetUnavailableError
from api2db.targets.mysql._dialect import NO_TABLE, NOT_ALLOWED, code_of, fold, quote
from api2db.targets.port import Column
from api2db.targets.sql import Session
from api2db.targets.types import from_mysql, mysql_name

if TYPE_CHECKING:
    import pymysql

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
# A null in such a column silently becomes the time of the load or the next number; a view does not say which.
_MAKING_UP = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
    " AND IS_NULLABLE = 'NO' AND (DATA_TYPE = 'timestamp' OR locate('auto_increment', EXTRA) > 0 OR EXISTS"
    " (SELECT 1 FROM information_schema.VIEWS AS shown WHERE shown.TABLE_SCHEMA = DATABASE() AND shown.TABLE_NAME = ?))"
)
# MariaDB writes NULL if there is no default.
_FILLS = "COLUMN_DEFAULT IS NOT NULL /*M! AND COLUMN_DEFAULT <> 'NULL' */ OR locate('auto_increment', EXTRA) > 0"
_COUNTING_KEY = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
    " AND COLUMN_KEY = 'PRI' AND locate('auto_increment', EXTRA) > 0"
)
_IS_INNODB = (
    "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
    " AND TABLE_TYPE = 'BASE TABLE' AND ENGINE = 'InnoDB' AND locate('partitioned', coalesce(CREATE_OPTIONS, '')) = 0"
)
_CLUSTERED = (
    "SELECT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
    " AND NON_UNIQUE = 0 GROUP BY INDEX_NAME HAVING max(NULLABLE = 'YES') = 0"
)
_VIEWS = (
    "SELECT VIEW_DEFINITION FROM information_schema.VIEWS"
    " WHERE TABLE_SCHEMA NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')"
)
_TRIGGERS = (
    "SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS"
    " WHERE EVENT_OBJECT_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = ?"
)
_ROW = "_api2db_row"
HIDDEN_COLUMN = f"{_ROW} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY /*!80023 INVISIBLE */"


@dataclass(frozen=True, slots=True)
class Shape:
    """A table as it is.

    Attributes:
        fields: The description of its rows.
        definition: The server's definition with the engine; None for a view that is hidden from us.
        columns: None if there is no table.
        demanded: Columns that a row must have, because the server has no value for them.
        making_up: Columns in which the server makes up a value for a null.
    """

    fields: tuple[Any, ...]
    definition: str | None
    columns: Sequence[Column] | None
    demanded: frozenset[str] = frozenset()
    making_up: frozenset[str] = frozenset()

    @property
    def is_table(self) -> bool:
        """Whether it is a table, not a view."""
        return str(self.definition).startswith("CREATE TABLE")


class Catalogue:
    """Queries the server on one connection.

    Args:
        rows: Runs a query.
        is_mariadb: Whether JSON is a text with a check.
    """

    def __init__(
        self, connection: "pymysql.Connection[Any]", rows: Callable[..., list[tuple[Any, ...]]], *, is_mariadb: bool
    ) -> None:
        self._connection = connection
        self._rows = rows
        self._is_mariadb = is_mariadb

    def columns(self, table: str) -> list[Column] | None:
        """See ``Session``."""
        found = self._rows(
            f"SELECT COLUMN_NAME, COLUMN_TYPE, COLUMN_COMMENT, {_FILLS} FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
            " AND coalesce(GENERATION_EXPRESSION, '') = '' AND COLUMN_NAME <> ? ORDER BY ORDINAL_POSITION",
            (table, _ROW),
        )
        named = [(name, mysql_name(_said(type_), _said(comment)), bool(fills)) for name, type_, comment, fills in found]
        if any(declared == "longtext" for _, declared, _ in named) and self._is_mariadb:
            checked = self._checked_as_json(table)
            named = [(name, "json" if name in checked else declared, fills) for name, declared, fills in named]
        return [Column(name, from_mysql(declared), declared, fills) for name, declared, fills in named] or None

    def counting_key(self, table: str) -> str | None:
        """The primary key that the server counts up; None if the table has another one, or none."""
        found = self._rows(_COUNTING_KEY, (table,))
        return _said(found[0][0]) if found else None

    def is_numbered(self, table: str) -> bool:
        """Whether InnoDB itself numbers the rows: no column or columns are the clustered index."""
        return bool(self._rows(_IS_INNODB, (table,))) and not self._rows(_CLUSTERED, (table,))

    def require_transactions(self, *tables: str) -> None:
        """See ``Session``."""
        for table, engine, folds in self._rows(_WITHOUT_TRANSACTIONS.format(", ".join("?" * len(tables))), tables):
            if not folds and table not in tables:  # the catalogue folds names that the server tells apart
                continue
            raise _without_transactions(str(table), engine, quote(str(table)))
        for schema, base in {base for table in tables for base in self._beneath(table)}:
            for (engine,) in self._rows(_ENGINE_WITHOUT_TRANSACTIONS, (schema, base)):
                raise _without_transactions(base, engine, f"{quote(schema)}.{quote(base)}")

    def _beneath(self, view: str, schema: str | None = None) -> Iterator[tuple[str, str]]:
        """The tables beneath a view; none for a table, or for a view that is hidden from us."""
        for (definition,) in self._rows(_VIEW, (schema, view)):
            for found in _FROM.finditer(_said(definition)):
                beneath, base = (name.replace("``", "`") for name in found.groups())
                yield beneath, base
                yield from self._beneath(base, beneath)

    def _checked_as_json(self, table: str) -> set[str]:
        """In MariaDB, JSON is a text with a check constraint that has the column's name."""
        found = self._rows(
            "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS"
            " WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = ? AND CHECK_CLAUSE LIKE 'json_valid(%%'",
            (table,),
        )
        return {_said(name) for (name,) in found}

    def shape(self, table: str, before: Shape | None) -> Shape | None:
        """Read a table, which locks its definition. The catalogue is slow, so it is only queried after changes."""
        import pymysql

        try:
            fields, definition = self._fields(table), self._definition(table)
        except pymysql.Error as error:
            if code_of(error) == NO_TABLE:
                return None
            raise
        if before is not None and (fields, definition) == (before.fields, before.definition):
            return before
        self.require_transactions(table)
        demanded = self._names(_DEMANDED, (table,))
        return Shape(fields, definition, self.columns(table), demanded, self._names(_MAKING_UP, (table, table)))

    def _names(self, query: str, values: Sequence[str]) -> frozenset[str]:
        return frozenset(str(name) for (name,) in self._rows(query, values))

    def _fields(self, table: str) -> tuple[Any, ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {quote(table)} LIMIT 0")
            fields = cursor._result.fields  # noqa: SLF001 - the description lacks the flags: unsigned, and the like
            return tuple((f.name, f.type_code, f.length, f.scale, f.flags, f.charsetnr) for f in fields)

    def _definition(self, table: str) -> str | None:
        import pymysql

        try:
            [(_, said, *_)] = self._rows(f"SHOW CREATE TABLE {quote(table)}")
        except pymysql.Error as error:
            if code_of(error) != NOT_ALLOWED:
                raise
            return None
        return _COUNTER.sub("", str(said))

    def has_index(self, table: str, keys: Sequence[str]) -> bool:
        """Whether an index finds the rows of a key."""
        wanted = {fold(key) for key in keys}
        leading: dict[str, set[str]] = {}
        for _, _, index, place, column, *_, kind in (row[:11] for row in self._rows(f"SHOW INDEX FROM {quote(table)}")):
            if place <= len(wanted) and kind == "BTREE":
                leading.setdefault(index, set()).add(fold(column or ""))
        return wanted in leading.values()


def needing_columns(session: Session, table: str) -> str | None:
    """Everything that names columns of a table, in lower case: its definition, its views, its triggers.

    Returns:
        None if a view's definition is hidden from us.
    """
    [(_, definition, *_)] = session.rows(f"SHOW CREATE TABLE {quote(table)}")
    views = [_said(text) for (text,) in session.rows(_VIEWS)]
    if any(not text for text in views):
        return None
    views = [text for text in views if quote(table).lower() in text.lower()]
    triggers = session.rows(_TRIGGERS, (table,))
    words = [f"`{word}`" for (text,) in triggers for word in re.findall(r"[^\s`.,;()=<>+*/'-]+", _said(text))]
    return " ".join([str(definition), *views, *words]).lower()


def redefined(table: str, name: str, declared: str) -> str:
    """A column's definition with another type: MODIFY drops each attribute that it does not repeat.

    Args:
        table: The output of SHOW CREATE TABLE.
        name: Quoted.

    Raises:
        BatchRefusedError: The rest of the definition cannot be determined for certain.
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


def _said(declared: Any) -> str:
    return declared.decode() if isinstance(declared, bytes) else str(declared)


def _without_transactions(table: str, engine: str, quoted: str) -> TargetUnavailableError:
    return TargetUnavailableError(
        f"the table {table} is on the engine {engine}, which has no transactions, so that rows could be lost "
        f"or doubled; run: ALTER TABLE {quoted} ENGINE=InnoDB"
    )
