"""One transaction on a connection of SQLAlchemy: read a table's columns, insert rows, or stage them for a merge."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from api2db.errors import BatchRefusedError, TargetUnavailableError
from api2db.targets.port import Column
from api2db.targets.sql import NOTES_TABLE, Session
from api2db.targets.sql.port import Dialect, encoded
from api2db.targets.sqlalchemy._other import reflected_type
from api2db.targets.sqlalchemy.backend import Backend
from api2db.targets.types import noted_type, split_note

_ROWS_AT_ONCE = 10_000
_MARKS = re.compile(r'\?|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[(?:[^\]]|\]\])*\]|\'(?:[^\']|\'\')*\'')  # and quoted names


@dataclass(slots=True)
class Learnt:
    """What earlier transactions have found out about a database.

    Attributes:
        known: The columns of tables with the fingerprint that they had then.
        inserts: Compiled INSERT statements.
        staging: The permanent staging tables, with their columns.
        counting: By table, the columns in which the database makes up a number for a null.
    """

    known: dict[str, tuple[Any, list[Column]]] = field(default_factory=dict)
    inserts: dict[Any, Any] = field(default_factory=dict)
    staging: dict[str, str] = field(default_factory=dict)
    counting: dict[str, set[str]] = field(default_factory=dict)


class SqlalchemySession(Session):
    """A ``Session`` of any database that SQLAlchemy reaches.

    Args:
        backend: What is special about the database.
        dialect: Its SQL.
        schema: The tables' schema; None for the connection's.
        apart: Runs statements of DDL on a connection of its own, because they may end the transaction.
    """

    def __init__(
        self,
        connection: sa.Connection,
        backend: Backend,
        dialect: Dialect,
        schema: str | None,
        learnt: Learnt,
        apart: Callable[[Sequence[str]], None],
    ) -> None:
        self._connection = connection
        self._backend = backend
        self._dialect = dialect
        self._schema = schema
        self._learnt = learnt
        self._apart = apart

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        return int(self._execute(sql, values).rowcount)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        result: Any = self._execute(sql, values)
        return [tuple(row) for row in result]

    def _execute(self, sql: str, values: Sequence[Any]) -> Any:
        return self._connection.execute(_text(sql), {f"v{place}": value for place, value in enumerate(values)})

    def columns(self, table: str) -> list[Column] | None:
        try:
            found = self.reflected(table)
        except sa.exc.NoSuchTableError:
            return None
        notes = self._notes(table) if self._backend.has_notes else {}
        json = self._json_columns(table) if self._backend.json_columns else set()
        self._learnt.counting[table] = {str(each["name"]) for each in found if _counts(each)}
        return [_column(self._backend, self._connection, each, notes, json) for each in found] or None

    def reflected(self, table: str) -> list[Any]:
        """The columns of a table that take values, as SQLAlchemy reflects them."""
        found: list[Any] = sa.inspect(self._connection).get_columns(table, schema=self._schema)
        return [column for column in found if not column.get("computed")]

    def indexed(self, table: str) -> set[str]:
        """The columns of a table that an index or a key has."""
        inspector: Any = sa.inspect(self._connection)
        indexes = inspector.get_indexes(table, schema=self._schema)
        keys = [*inspector.get_unique_constraints(table, schema=self._schema)]
        found = [name for each in [*indexes, *keys] for name in each["column_names"]]
        found += inspector.get_pk_constraint(table, schema=self._schema)["constrained_columns"]
        return {name for name in found if name is not None}

    def _notes(self, table: str) -> dict[str, str]:
        notes = f"SELECT column_name, declared FROM {self._dialect.table(NOTES_TABLE)} WHERE table_name = ?"
        return {str(name): str(declared) for name, declared in self.rows(notes, (table,))}

    def _json_columns(self, table: str) -> set[str]:
        return {str(name) for (name,) in self.rows(self._backend.json_columns, (self._schema, table))}

    def note(self, table: str, columns: Sequence[tuple[str, str]]) -> None:
        if not self._backend.has_notes:
            return
        notes = self._dialect.table(NOTES_TABLE)
        for name, declared in columns:
            self.run(f"DELETE FROM {notes} WHERE table_name = ? AND column_name = ?", (table, name))
            if split_note(declared)[1]:
                insert = f"INSERT INTO {notes} (table_name, column_name, declared) VALUES (?, ?, ?)"
                self.run(insert, (table, name, declared))

    def lock_columns(self, table: str) -> list[Column] | None:
        """Columns are only reflected again if the table has changed, because that takes many queries."""
        now = self._fingerprint(table)
        if table in self._learnt.known and self._learnt.known[table][0] == now:
            return list(self._learnt.known[table][1])
        found = self.columns(table)
        if found:
            self._learnt.known[table] = now, found
        return found

    def _fingerprint(self, table: str) -> Any:
        if self._backend.fingerprint:
            return self.rows(self._backend.fingerprint)
        if not sa.inspect(self._connection).has_table(table, schema=self._schema):
            return None
        result = self._execute(f"SELECT * FROM {self._dialect.table(table)} WHERE 1 = 0", ())
        described = [tuple(column) for column in result.cursor.description or ()]
        result.close()
        return described

    def require_transactions(self, *tables: str) -> None:
        if not self._backend.without_transactions:
            return
        query = self._backend.without_transactions.format(", ".join("?" * len(tables)))
        for table, engine in self.rows(query, (self._schema, *tables)):
            raise TargetUnavailableError(
                f"the table {table} is on the engine {engine}, which has no transactions, so that rows could be lost"
                f" or doubled; run: ALTER TABLE {self._dialect.quote(str(table))} ENGINE=InnoDB"
            )

    def may_drop(self, table: str) -> bool:
        return self._backend.may_drop

    def newest(
        self, table: str, columns: Sequence[Column], select: str, order: str | None, count: int
    ) -> pa.Table | None:
        """Most databases have no order of rows but that of a column."""
        order = self._backend.arrival if order is None else order
        if not order:
            return None
        quoted = self._dialect.table(table)
        what = select.removeprefix("SELECT ").removesuffix(f" FROM {quoted}")
        return self.fetch(columns, self._dialect.limited(what, f"{quoted} ORDER BY {order}", count))

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        """By ``executemany``; through a staged table if the driver does not tell how many rows that has inserted."""
        if self._connection.dialect.supports_sane_multi_rowcount:
            return self._insert(self._schema, table, rows, columns)
        names = ", ".join(self._dialect.quote(name) for name in rows.column_names)
        with self.stage(table, rows, columns, ()) as staged:
            return self.run(f"INSERT INTO {self._dialect.table(table)} ({names}) SELECT {names} FROM {staged}")

    def _insert(self, schema: str | None, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        homes = [columns[name] for name in rows.column_names]
        for name in self._learnt.counting.get(table, set()) & {*rows.column_names}:
            if rows.column(name).null_count:
                raise BatchRefusedError(
                    f"{name!r}: a value is missing, and the database would assign a number; if it should, leave the"
                    " column out of the frame"
                )
        inserted = 0
        for piece in (rows.slice(start, _ROWS_AT_ONCE) for start in range(0, rows.num_rows, _ROWS_AT_ONCE)):
            values = [
                encoded(self._backend.values, column, home) for column, home in zip(piece.columns, homes, strict=True)
            ]
            if self._backend.by_sqlalchemy:
                inserted += self._insert_typed(schema, table, homes, values)
            else:
                inserted += self._insert_plain(schema, table, homes, values)
        return inserted

    def _insert_plain(self, schema: str | None, table: str, homes: Sequence[Column], values: list[list[Any]]) -> int:
        """Straight to the driver, because the values are as it takes them."""
        key = schema, table, tuple(homes)
        if key not in self._learnt.inserts:
            self._learnt.inserts[key] = self._statement(schema, table, homes, {}).compile(
                dialect=self._connection.dialect
            )
        compiled = self._learnt.inserts[key]
        marks = [f"c{place}" for place in range(len(homes))]
        rows: Any = list(zip(*values, strict=True))
        if not compiled.positional:
            rows = [dict(zip(marks, row, strict=True)) for row in rows]
        return int(self._connection.exec_driver_sql(str(compiled), rows).rowcount)

    def _insert_typed(self, schema: str | None, table: str, homes: Sequence[Column], values: list[list[Any]]) -> int:
        types = {column["name"]: column["type"] for column in sa.inspect(self._connection).get_columns(table, schema)}
        marks = [f"c{place}" for place in range(len(homes))]
        rows = [dict(zip(marks, row, strict=True)) for row in zip(*values, strict=True)]
        statement = self._statement(schema, table, homes, types)
        counting = {"preserve_rowcount": True}
        return int(self._connection.execute(statement, rows, execution_options=counting).rowcount)

    def _statement(
        self, schema: str | None, table: str, homes: Sequence[Column], types: Mapping[str, Any]
    ) -> "sa.Insert":
        made = [sa.Column(home.name, types.get(home.name, sa.types.NullType()), quote=True) for home in homes]
        into = sa.Table(table, sa.MetaData(), *made, schema=schema, quote=True, quote_schema=True)
        marks = [
            self._backend.sent(home, sa.bindparam(f"c{place}", type_=types.get(home.name)))
            for place, home in enumerate(homes)
        ]
        return sa.insert(into).values(dict(zip(made, marks, strict=True)))

    @contextmanager
    def stage(self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str]) -> Iterator[str]:
        if keys and self._backend.turns:
            self._execute(self._backend.turns, (table,)).close()
        if self._backend.temporary is None:
            with self._stage_permanently(table, rows, columns) as staged:
                yield staged
            return
        staged = self._backend.staged
        quoted = self._dialect.quote(staged)
        listed = ", ".join(self._dialect.quote(name) for name in rows.column_names)
        self.run(f"{self._backend.drop_temporary} IF EXISTS {quoted}")
        self.run(self._backend.temporary(quoted, listed, self._dialect.table(table)))
        self._insert(None, staged, rows, columns)
        yield quoted
        self.run(f"{self._backend.drop_temporary} {quoted}")

    @contextmanager
    def _stage_permanently(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> Iterator[str]:
        """In a table that stays, because its DDL may commit; its rows are gone with the transaction."""
        staged = f"{table}_api2db_staged"
        quoted = self._dialect.table(staged)
        declared = ", ".join(f"{self._dialect.quote(name)} {columns[name].declared}" for name in rows.column_names)
        if self._learnt.staging.get(staged) != declared:
            there = sa.inspect(self._connection).has_table(staged, schema=self._schema)
            self._apart([*([f"DROP TABLE {quoted}"] if there else []), f"CREATE TABLE {quoted} ({declared})"])
            self._learnt.staging[staged] = declared
        self.run(f"DELETE FROM {quoted}")
        self._insert(self._schema, staged, rows, columns)
        yield quoted
        self.run(f"DELETE FROM {quoted}")


def _column(
    backend: Backend, connection: sa.Connection, found: Any, notes: Mapping[str, str], json: set[str]
) -> Column:
    name = str(found["name"])
    written = "" if isinstance(found["type"], sa.types.NullType) else found["type"].compile(dialect=connection.dialect)
    declared = "json" if name in json else backend.declared(str(written), found)
    fills = bool(found.get("default") is not None or found.get("identity") or _counts(found))
    noted = notes.get(name, "")
    if noted and split_note(noted)[0] == declared:
        return Column(name, noted_type(split_note(noted)[1]) or pa.string(), noted, fills)
    return Column(name, reflected_type(found) if backend.by_sqlalchemy else backend.type_of(declared), declared, fills)


def _counts(found: Any) -> bool:
    """Whether the database makes up a number; ``auto`` is a guess of SQLAlchemy.

    An INTEGER that is SQLite's primary key is the row's number.
    """
    is_row_number = bool(found.get("primary_key")) and str(found["type"]).upper() == "INTEGER"
    return found.get("autoincrement") is True or is_row_number


@lru_cache(maxsize=1_000)
def _text(sql: str) -> sa.TextClause:
    """A statement whose values are marked by question marks; colons in names and texts are no marks of SQLAlchemy."""
    count = iter(range(sql.count("?")))

    def marked(found: re.Match[str]) -> str:
        return f":v{next(count)}" if found[0] == "?" else found[0].replace(":", "\\:")

    return sa.text(_MARKS.sub(marked, sql))
