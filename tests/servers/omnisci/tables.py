"""Tables: their columns and epochs here, their rows in DuckDB."""

import threading
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from tests.servers.omnisci.columns import ColumnType, RefusedError, held


@dataclass
class Table:
    """A table.

    Attributes:
        columns: By name, as they were declared.
        epoch: One more after each change that was carried out.
        lock: Held by whoever changes it; a load holds it from before it looks at the columns.
    """

    name: str
    columns: dict[str, ColumnType]
    shards: int = 0
    epoch: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def quoted(self) -> str:
        return quoted(self.name)

    def column(self, name: str) -> str | None:
        """A column's name as it was declared; names differ in case only to people."""
        return next((known for known in self.columns if known.upper() == name.upper()), None)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Tables:
    """All tables of one database."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}
        self._rows = duckdb.connect()
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        return [table.name for table in self._tables.values()]

    def find(self, name: str) -> Table:
        table = self._tables.get(name.upper())
        if table is None:
            raise RefusedError(f"Table/View {name} for catalog heavyai does not exist")
        return table

    def create(self, table: Table, *, only_new: bool) -> None:
        with self._lock:
            if table.name.upper() in self._tables:
                if only_new:
                    return
                raise RefusedError(f"Table or View with name {table.name!r} already exists.")
            if len({name.upper() for name in table.columns}) < len(table.columns):
                raise RefusedError("Column is defined more than once")
            columns = ", ".join(f"{quoted(name)} {type_.duckdb}" for name, type_ in table.columns.items())
            self.run(f"CREATE TABLE {table.quoted} ({columns})")
            self._tables[table.name.upper()] = table

    def drop(self, name: str) -> None:
        table = self.find(name)
        with table.lock, self._lock:
            self.run(f"DROP TABLE {table.quoted}")
            del self._tables[name.upper()]

    def add_column(self, table: Table, name: str, type_: ColumnType) -> None:
        with table.lock:
            if table.column(name):
                raise RefusedError(f"Column {name} already exists.")
            self.run(f"ALTER TABLE {table.quoted} ADD COLUMN {quoted(name)} {type_.duckdb}")
            table.columns[name] = type_
            table.epoch += 1  # a guess: the column's nulls are written, and a checkpoint follows

    def drop_column(self, table: Table, name: str) -> None:
        with table.lock:
            known = table.column(name)
            if known is None:
                raise RefusedError(f"Column {name} does not exist.")
            if len(table.columns) == 1:
                raise RefusedError("Table must have at least one column.")
            self.run(f"ALTER TABLE {table.quoted} DROP COLUMN {quoted(known)}")
            del table.columns[known]
            table.epoch += 1

    def rename_column(self, table: Table, name: str, to: str) -> None:
        with table.lock:
            known = table.column(name)
            if known is None or table.column(to):
                raise RefusedError(f"Column {name} can't be renamed to {to}.")
            self.run(f"ALTER TABLE {table.quoted} RENAME COLUMN {quoted(known)} TO {quoted(to)}")
            table.columns = {to if each == known else each: type_ for each, type_ in table.columns.items()}

    def change_type(self, table: Table, name: str, type_: ColumnType) -> None:
        with table.lock:
            known = table.column(name)
            if known is None:
                raise RefusedError(f"Column {name} does not exist.")
            self.run(f"ALTER TABLE {table.quoted} ALTER COLUMN {quoted(known)} TYPE {type_.duckdb}")
            table.columns[known] = type_
            table.epoch += 1

    def change(self, table: Table, sql: str) -> None:
        """INSERT, UPDATE, DELETE."""
        with table.lock:
            self.run(sql)
            table.epoch += 1

    def add_rows(self, table: Table, rows: pa.RecordBatch, *, by_name: bool) -> None:
        """All or nothing; the table's lock is held."""
        names = rows.schema.names if by_name else list(table.columns)
        if len(names) != rows.num_columns:
            raise RefusedError(f"Wrong number of columns to load into {table.name}")
        arrays = {}
        for name, array in zip(names, rows.columns, strict=True):
            known = table.column(name)
            if known is None:
                raise RefusedError(f"Column {name} does not exist in table {table.name}")
            arrays[known] = held(known, table.columns[known], array)
        for name, type_ in table.columns.items():
            if type_.notnull and name not in arrays:
                raise RefusedError(f"NULL not allowed for column {name}")
        listed = ", ".join(map(quoted, arrays))
        with self._lock:
            loaded = self._rows.register("loaded", pa.table(arrays))
            loaded.execute(f"INSERT INTO {table.quoted} ({listed}) SELECT * FROM loaded")
            self._rows.unregister("loaded")
            table.epoch += 1

    def run(self, sql: str) -> pa.Table:
        with self._lock:
            try:
                found: Any = self._rows.sql(sql)  # its types do not say that it may be None
                return pa.table({}) if found is None else found.to_arrow_table()
            except duckdb.Error as error:
                raise RefusedError(f"SQL Error: {error}") from error
