"""A table that follows the data: made of the first rows, given columns and wider types as frames have them."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from api2db.errors import BatchRefusedError
from api2db.frames import widened
from api2db.targets._evolve import (
    inexact_as_float,
    replacement_columns,
    typed_columns,
    unplaced_names,
    wider_type,
)
from api2db.targets.port import Column, SchemaChange
from api2db.targets.sql._changes import UNDECIDED, Changes, differences
from api2db.targets.sql.port import Database, Session
from api2db.targets.types import plain


class Table:
    """One of them, which may not be there yet.

    Args:
        keys: Columns that it is to make unique.
        changes: Where it is told how it has changed.

    Attributes:
        adding: The column that it is just given; None at other times.
    """

    def __init__(self, database: Database, name: str, keys: Sequence[str], changes: Changes) -> None:
        self._database = database
        self._name = name
        self._keys = keys
        self._changes = changes
        self.adding: str | None = None

    @property
    def quoted(self) -> str:
        """Its name as SQL takes it."""
        return self._database.table(self._name)

    def replacement(self, schema: pa.Schema, columns: Sequence[Column]) -> Sequence[Column] | None:
        """The columns for the newest frame; those whose type takes the frame's as it is stay as they are."""
        newest = self._database.replacement(columns, replacement_columns(schema, columns, self._wanted))
        same = newest is not None and {*newest} == {*columns}
        return columns if same else newest

    def _wanted(self, field: pa.Field, known: Column | None) -> Column:
        declared = self._database.type_name(field.type)
        fits = known is not None and (declared is None or widened(known.type, plain(field.type)) == known.type)
        if known is not None and fits:
            return known
        declared = declared or str(self._database.type_name(pa.string()))
        return Column(field.name, self._database.type_of(declared), declared)

    def create(self, session: Session, schema: pa.Schema, maker: str | None) -> list[Column]:
        """Make it for the rows of a schema.

        Args:
            maker: The stream to note as the one that made it; None where nobody will ask.

        Raises:
            BatchRefusedError: The rows have no value for a part of the key.
        """
        typed = typed_columns(schema, self._database.type_name)
        if lacking := set(self._keys) - {name for name, _ in typed}:
            raise BatchRefusedError(f"no row has a value in {', '.join(sorted(lacking))}, which is part of the key")
        names = [name for name, _ in typed] or schema.names
        types = {field.name: field.type if typed else pa.string() for field in schema}
        declared = [
            f"{self._database.quote(name)} {self._database.type_name(types[name], key=name in self._keys)}"
            for name in names
        ]
        keys = [self._database.quote(key) for key in self._keys]
        self._make(session, maker, self._database.create_table(self.quoted, declared, keys))
        if keys and (index := self._database.key_index(self.quoted, keys)):
            session.run(index)
        if not typed:
            self._changes.record(session, [], [(name, None, UNDECIDED) for name in names])
        return session.columns(self._name) or []

    def _make(self, session: Session, maker: str | None, create: str) -> None:
        """What says that the table is this stream's is there first, should we die before the first load is in."""
        if maker is not None:
            self._changes.sign(session, maker)
        try:
            session.run(create)
        except Exception:
            if maker is not None:
                self._changes.take_back(session, maker)
            raise

    def add(self, session: Session, changes: list[SchemaChange], new: list[tuple[str, str]]) -> list[Column]:
        """Give it columns; where one is refused, ``adding`` says which."""
        for name, declared in new:
            self.adding = name
            session.run(f"ALTER TABLE {self.quoted} ADD COLUMN {self._database.quote(name)} {declared}")
        self.adding = None
        self._changes.record(session, changes, [(name, None, declared) for name, declared in new])
        return session.columns(self._name) or []

    def widen(self, session: Session, changes: list[SchemaChange], column: Column, to: pa.DataType) -> Column | None:
        """Give a column a type that also holds another one's values; None where there is none, or it needs none."""
        wider = self._wider(session, column, to)
        declared = wider and self._database.type_name(wider)
        if wider is None or declared in {None, column.declared} or self._turns_to_text(column, str(declared)):
            return None
        widened_column = replace(column, type=wider, declared=declared)
        changed = self._database.change_type(session, self._name, column, widened_column)
        if changed.declared != column.declared:
            self._changes.record(session, changes, [(column.name, column.declared, changed.declared)])
        return changed

    def replace(
        self, session: Session, changes: list[SchemaChange], old: Sequence[Column], new: Sequence[Column]
    ) -> None:
        """Empty it, and give it what ``newest`` said."""
        self._database.replace(session, self.quoted, old, new)
        there = {column.name for column in session.columns(self._name) or []} - {column.name for column in new}
        self._changes.record(session, changes, differences(old, [*new, *(each for each in old if each.name in there)]))

    def _wider(self, session: Session, column: Column, to: pa.DataType) -> pa.DataType | None:
        name, table = self._database.quote(column.name), self.quoted

        def is_undecided() -> bool:
            is_empty = f"SELECT count({name}) FROM {table}"
            return self._changes.is_undecided(session, column) and session.rows(is_empty) == [(0,)]

        def is_exact_as_float() -> bool:
            return session.rows(f"SELECT count(*) FROM {table} WHERE {inexact_as_float(name)}") == [(0,)]

        return wider_type(column, to, is_undecided=is_undecided, is_exact_as_float=is_exact_as_float)

    def unplaced(self, names: Sequence[str], columns: Sequence[Column]) -> dict[str, str]:
        """Names of a frame that it can't have beside the others, each with the reason."""
        there = {column.name for column in columns}

        def check(name: str) -> None:
            if name not in there:
                self._database.check_column_name(name)

        return unplaced_names(names, there | {*self._keys}, check, self._database.same_column)

    def _turns_to_text(self, column: Column, declared: str) -> bool:
        """A number of more digits than the database has a type for: no number of the table becomes a text for it."""
        number = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
        return bool(number and pa.types.is_string(self._database.type_of(declared)))
