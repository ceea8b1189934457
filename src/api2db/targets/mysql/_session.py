"""One transaction of MySQL or MariaDB: insert rows, or stage them for a merge."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from api2db.errors import BatchRefusedError
from api2db.frames import is_bytes
from api2db.targets._newest import arrow_rows
from api2db.targets.mysql._catalogue import Catalogue, Shape
from api2db.targets.mysql._dialect import NO_LOCAL, code_of, quote, text_of
from api2db.targets.mysql._values import as_csv, check_held, plain_values
from api2db.targets.port import Column
from api2db.targets.sql import Session
from api2db.targets.sql.port import encoded

if TYPE_CHECKING:
    import pymysql

logger = logging.getLogger(__name__)
_INSERT_ROWS = 1_000
_ROWS_AT_ONCE = 4_096  # rows are written and sent in pieces, so that the server works on one while the next is written
_UNKNOWN = Shape((), None, None)


@dataclass(slots=True)
class Learnt:
    """What earlier transactions have found out about a database.

    Attributes:
        local: Whether LOAD DATA LOCAL may be tried.
        indexed: Whether an index finds the rows of the keys staged last; None for a view.
        shapes: The known tables by name.
    """

    local: bool = True
    indexed: bool | None = None
    shapes: dict[str, Shape] = field(default_factory=dict)
    _slow: set[str] = field(default_factory=set)

    def forbid_local(self, said: str) -> None:
        """Remember that the server or the user forbids LOCAL, and warn once."""
        if self.local:
            logger.warning(
                "LOAD DATA LOCAL is forbidden (%s): rows are loaded by multi-row INSERT, which is slower", said
            )
        self.local = False

    def miss_index(self, table: str, keys: Sequence[str]) -> None:
        """Warn once that an index would make the table faster."""
        if table not in self._slow:
            self._slow.add(table)
            name, listed = quote(table), ", ".join(map(quote, keys))
            logger.warning(
                "%s has no index on its keys, so each batch reads all of it; run: ALTER TABLE %s ADD UNIQUE KEY (%s)",
                table,
                name,
                listed,
            )


class MysqlSession(Session):
    """A ``Session`` of MySQL or MariaDB.

    Args:
        hidden_key: The column that a table needs as its primary key, if the server accepts none without.
    """

    def __init__(
        self,
        connection: "pymysql.Connection[Any]",
        learnt: Learnt,
        hidden_key: Callable[[], list[str]],
        *,
        is_mariadb: bool,
    ) -> None:
        self._connection = connection
        self._learnt = learnt
        self._hidden_key = hidden_key
        self._catalogue = Catalogue(connection, self.rows, is_mariadb=is_mariadb)

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        with self._connection.cursor() as cursor:
            return int(cursor.execute(sql.replace("?", "%s"), values) if values else cursor.execute(sql))

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values) if values else cursor.execute(sql)
            return list(cursor.fetchall())

    def columns(self, table: str) -> list[Column] | None:
        return self._catalogue.columns(table)

    def arrival(self, table: str, columns: Sequence[Column]) -> str | None:
        found = self._catalogue.counting_key(table)
        return None if found is None else f"{quote(found)} DESC"

    def newest(
        self, table: str, columns: Sequence[Column], select: str, order: str | None, count: int
    ) -> pa.Table | None:
        """Without a primary key InnoDB numbers the rows, and a scan of the table returns them in that order.

        Source: "Clustered and Secondary Indexes" in MySQL's description of InnoDB.
        """
        if order is not None or not self._catalogue.is_numbered(table):
            return super().newest(table, columns, select, order, count)
        [(total,)] = self.rows(f"SELECT COUNT(*) FROM {quote(table)}")
        last = self.rows(f"{select} USE INDEX () LIMIT {count} OFFSET {max(0, total - count)}")
        return arrow_rows(columns, last[::-1])

    def require_transactions(self, *tables: str) -> None:
        self._catalogue.require_transactions(*tables)

    def lock_columns(self, table: str) -> list[Column] | None:
        shape = self._catalogue.shape(table, self._learnt.shapes.get(table))
        if shape is None:
            return None
        self._learnt.shapes[table] = shape
        return list(shape.columns) if shape.columns else None

    @contextmanager
    def stage(self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str]) -> Iterator[str]:
        self._check_nulls(table, rows)
        self._learnt.indexed = self._is_indexed(table, keys)
        listed = ", ".join(quote(name) for name in rows.column_names)
        index = self._staged_index([columns[key] for key in keys])
        self.run("DROP TEMPORARY TABLE IF EXISTS _api2db_staged")
        self.run(f"CREATE TEMPORARY TABLE _api2db_staged {index} AS SELECT {listed} FROM {quote(table)} LIMIT 0")
        self.insert("_api2db_staged", rows, columns)
        yield "_api2db_staged"
        self.run("DROP TEMPORARY TABLE _api2db_staged")

    def _is_indexed(self, table: str, keys: Sequence[str]) -> bool | None:
        if not self._shape(table).is_table:
            return None
        found = self._catalogue.has_index(table, keys)
        if not found:
            self._learnt.miss_index(table, keys)
        return found

    def _staged_index(self, keys: Sequence[Column]) -> str:
        parts = [f"{quote(key.name)}{_prefix(key.declared, len(keys))}" for key in keys if key.declared != "json"]
        listed = [f"KEY ({', '.join(parts)})"] if parts else []
        made = [*self._hidden_key(), *listed]
        return f"({', '.join(made)})" if made else ""

    def _shape(self, table: str) -> Shape:
        return self._learnt.shapes.get(table, _UNKNOWN)

    def _check_nulls(self, table: str, rows: pa.Table) -> None:
        for name in self._shape(table).making_up & {*rows.column_names}:
            if rows.column(name).null_count:
                raise BatchRefusedError(
                    f"{name!r}: a value is missing, and the column is NOT NULL; if the server should assign one,"
                    " leave the column out of the frame"
                )

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        self._check_nulls(table, rows)
        for name in rows.column_names:
            check_held(rows.column(name), columns[name])
        # LOAD DATA silently makes up a value for a column without a default; INSERT refuses.
        lacking = self._shape(table).demanded - {*rows.column_names}
        if self._learnt.local and not lacking:
            import pymysql

            try:
                return self._load(table, rows)
            except pymysql.Error as error:
                if code_of(error) not in NO_LOCAL:
                    raise
                self._learnt.forbid_local(text_of(error))
        return self._insert(table, rows)

    def _load(self, table: str, rows: pa.Table) -> int:
        """A value that does not fit is only a warning to LOAD DATA LOCAL, even in strict mode, so a warning refuses."""
        names, sets = [], []
        for number, (name, column) in enumerate(zip(rows.column_names, rows.columns, strict=True)):
            binary = is_bytes(column.type)  # sent as hexadecimal digits
            names.append(f"@b{number}" if binary else quote(name))
            if binary:
                sets.append(f"{quote(name)} = UNHEX(@b{number})")
        statement = (
            f"LOAD DATA LOCAL INFILE 'api2db' INTO TABLE {quote(table)} CHARACTER SET utf8mb4"
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
        names = ", ".join(quote(name) for name in rows.column_names)
        marks = f"({', '.join(['%s'] * rows.num_columns)})"
        loaded = 0
        for piece in rows.to_batches(self._rows_of_a_statement(rows)):
            values = list(zip(*(encoded(plain_values, column) for column in piece.columns), strict=True))
            many = f"INSERT INTO {quote(table)} ({names}) VALUES ".replace("%", "%%")
            with self._connection.cursor() as cursor:
                flat = [value for row in values for value in row]
                loaded += int(cursor.execute(many + ", ".join([marks] * len(values)), flat))
                if cursor._result.warning_count:  # noqa: SLF001 - spares a round trip for each statement
                    self._refuse_warnings()
        return loaded

    def _rows_of_a_statement(self, rows: pa.Table) -> int:
        """As many rows as the server surely accepts in one statement, unless a row is far larger than the others."""
        connection: Any = self._connection
        fitting: int = rows.num_rows * connection.packet_bytes // (2 * rows.nbytes + 1)
        return max(1, min(_INSERT_ROWS, fitting))


def _prefix(declared: str, keys: int) -> str:
    """An index has the beginning of texts and bytes: 767 bytes of all keys are within every engine's limit."""
    kind, _, length = declared.partition("(")
    if kind.removeprefix("var") not in {"char", "binary"} and not kind.endswith(("text", "blob")):
        return ""
    letters = 767 // keys // (4 if kind.endswith(("char", "text")) else 1)
    most = int(length.split(")")[0]) if length else 63 if kind.startswith("tiny") else letters
    return f"({min(letters, most)})" if most else ""
