"""A table that follows the data: created for the first rows, then given columns and wider types as frames need them."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import pyarrow as pa

from api2db.errors import BatchRefusedError
from api2db.frames import plain, widened
from api2db.targets._evolve import (
    inexact_as_float,
    replacement_columns,
    typed_columns,
    unplaced_names,
    wider_type,
)
from api2db.targets.port import ChangeOrigins, Column, SchemaChange, unknown_origin
from api2db.targets.sql._ledger import CHANGES_TABLE
from api2db.targets.sql.port import Database, Dialect, Session

logger = logging.getLogger(__name__)
UNDECIDED = "undecided"


class Table:
    """One table, which may not exist yet.

    Args:
        keys: The columns that are unique in a table created here.
        changes: Records how the table changes.

    Attributes:
        adding: The column that is being added; None at other times.
    """

    def __init__(self, database: Database, name: str, keys: Sequence[str], changes: "Changes") -> None:
        self._database = database
        self._name = name
        self._keys = keys
        self._changes = changes
        self.adding: str | None = None

    @property
    def _dialect(self) -> Dialect:
        return self._database.dialect

    @property
    def quoted(self) -> str:
        """Its name, quoted."""
        return self._dialect.table(self._name)

    def replacement(self, schema: pa.Schema, columns: Sequence[Column]) -> Sequence[Column] | None:
        """The columns for the newest frame; columns whose type holds the frame's values stay as they are."""
        replacement = self._dialect.replacement(columns, replacement_columns(schema, columns, self._wanted))
        is_same = replacement is not None and {*replacement} == {*columns}
        return columns if is_same else replacement

    def _wanted(self, field: pa.Field, known: Column | None) -> Column:
        declared = self._dialect.type_name(field.type)
        fits = known is not None and (declared is None or widened(known.type, plain(field.type)) == known.type)
        if known is not None and fits:
            return known
        declared = declared or str(self._dialect.type_name(pa.string()))
        return Column(field.name, self._dialect.type_of(declared), declared)

    def create(self, session: Session, schema: pa.Schema, maker: str | None) -> list[Column]:
        """Create it for the rows of a schema.

        Args:
            maker: The stream to record as the one that created the table; None if nobody will ask.

        Raises:
            BatchRefusedError: The rows have no value for a part of the key.
        """
        typed = typed_columns(schema, self._dialect.type_name)
        if lacking := set(self._keys) - {name for name, _ in typed}:
            raise BatchRefusedError(f"no row has a value in {', '.join(sorted(lacking))}, which is part of the key")
        names = [name for name, _ in typed] or schema.names
        types = {field.name: field.type if typed else pa.string() for field in schema}
        made = [(name, str(self._dialect.type_name(types[name], key=name in self._keys))) for name in names]
        declared = [f"{self._dialect.quote(name)} {type_name}" for name, type_name in made]
        keys = [self._dialect.quote(key) for key in self._keys]
        self._make(session, maker, self._dialect.create_table(self.quoted, declared, keys))
        if keys and (index := self._dialect.key_index(self.quoted, keys)):
            session.run(index)
        session.note(self._name, made)
        if not typed:
            self._changes.record(session, [], [(name, None, UNDECIDED) for name in names])
        return session.columns(self._name) or []

    def _make(self, session: Session, maker: str | None, create: str) -> None:
        """Record first that this stream creates the table, in case the process dies before the first load."""
        if maker is not None:
            self._changes.sign(session, maker)
        try:
            session.run(create)
        except Exception:
            if maker is not None:
                self._changes.take_back(session, maker)
            raise

    def add(self, session: Session, changes: list[SchemaChange], new: list[tuple[str, str]]) -> list[Column]:
        """Add columns; if one is refused, ``adding`` names it."""
        for name, declared in new:
            self.adding = name
            add = self._dialect.add_column
            session.run(f"ALTER TABLE {self.quoted} {add} {self._dialect.quote(name)} {declared}")
        self.adding = None
        session.note(self._name, new)
        self._changes.record(session, changes, [(name, None, declared) for name, declared in new])
        return session.columns(self._name) or []

    def widen(self, session: Session, changes: list[SchemaChange], column: Column, to: pa.DataType) -> Column | None:
        """Change a column's type to hold another type's values too; None if no type does, or none is needed."""
        wider = self._wider(session, column, to)
        declared = wider and self._dialect.type_name(wider)
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
        """Empty it, and give it the columns that ``replacement`` returned."""
        self._database.replace(session, self.quoted, old, new)
        there = {column.name for column in session.columns(self._name) or []} - {column.name for column in new}
        self._changes.record(session, changes, _differences(old, [*new, *(each for each in old if each.name in there)]))

    def _wider(self, session: Session, column: Column, to: pa.DataType) -> pa.DataType | None:
        name, table = self._dialect.quote(column.name), self.quoted

        def is_undecided() -> bool:
            is_empty = f"SELECT count({name}) FROM {table}"
            return self._changes.is_undecided(session, column) and session.rows(is_empty) == [(0,)]

        def is_exact_as_float() -> bool:
            return session.rows(f"SELECT count(*) FROM {table} WHERE {inexact_as_float(name)}") == [(0,)]

        return wider_type(column, to, is_undecided=is_undecided, is_exact_as_float=is_exact_as_float)

    def unplaced(self, names: Sequence[str], columns: Sequence[Column]) -> dict[str, str]:
        """The names of a frame that the table cannot have, each with the reason."""
        there = {column.name for column in columns}

        def check(name: str) -> None:
            if name not in there:
                self._dialect.check_column_name(name)

        return unplaced_names(names, there | {*self._keys}, check, self._dialect.fold)

    def _turns_to_text(self, column: Column, declared: str) -> bool:
        """Whether the database has no numeric type with so many digits; a number column never becomes text for that."""
        number = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
        return bool(number and pa.types.is_string(self._dialect.type_of(declared)))


class Changes:
    """The record of one table's changes, in the log and in a table of ours.

    Attributes:
        origins: The origins of the next changes.
    """

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._table = table
        self.origins: ChangeOrigins = unknown_origin

    @property
    def _quoted(self) -> str:
        return self._database.dialect.table(CHANGES_TABLE)

    @property
    def _unnamed(self) -> str:
        return self._database.dialect.unnamed

    @contextmanager
    def recording(self) -> Iterator[list[SchemaChange]]:
        """Collect the changes of a transaction, and log them after its commit."""
        changes: list[SchemaChange] = []
        yield changes
        for change in changes:
            logger.info("%s: %s", self._table, change.said)

    def record(
        self, session: Session, changes: list[SchemaChange], made: Sequence[tuple[str, str | None, str | None]]
    ) -> None:
        """Record changes: each column with its type before and after."""
        for name, before, after in made:
            change = SchemaChange(name, before, after, self.origins(name))
            changes.append(change)
            session.run(
                f"INSERT INTO {self._quoted} (changed_at, table_name, column_name, old_type, new_type, frame_ns)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (_now(), self._table, name, before, after, change.origin.frame_ns),
            )

    def is_undecided(self, session: Session, column: Column) -> bool:
        """Whether we created the column for nothing but nulls."""
        made = f"SELECT count(*) FROM {self._quoted} WHERE table_name = ? AND column_name = ? AND new_type = ?"
        return session.rows(made, (self._table, column.name, UNDECIDED)) != [(0,)]

    def gone(self, session: Session) -> set[str]:
        """The columns whose last recorded change is that they are gone."""
        told = session.rows(
            f"SELECT column_name, new_type FROM {self._quoted} WHERE table_name = ? ORDER BY frame_ns, changed_at",
            (self._table,),
        )
        return {name for name, now in dict(told).items() if now is None}

    def is_signed(self, session: Session, stream: str) -> bool:
        """Whether a stream created the table."""
        made = f"SELECT count(*) FROM {self._quoted} WHERE table_name = ? AND column_name = ? AND new_type = ?"
        return session.rows(made, (self._table, self._unnamed, _made_by(stream))) != [(0,)]

    def sign(self, session: Session, stream: str) -> None:
        """Record that a stream creates the table."""
        values = (_now(), self._table, self._unnamed, _made_by(stream))
        session.run(
            f"INSERT INTO {self._quoted} (changed_at, table_name, column_name, new_type, frame_ns)"
            " VALUES (?, ?, ?, ?, 0)",
            values,
        )

    def take_back(self, session: Session, stream: str) -> None:
        """Undo ``sign`` after a CREATE TABLE that failed but committed the statements before it."""
        with suppress(Exception):
            session.run(
                f"DELETE FROM {self._quoted} WHERE table_name = ? AND column_name = ? AND new_type = ?",
                (self._table, self._unnamed, _made_by(stream)),
            )


def _differences(old: Sequence[Column], new: Sequence[Column]) -> list[tuple[str, str | None, str | None]]:
    """The columns that differ, each with its type before and after."""
    before, after = ({column.name: column.declared for column in columns} for columns in (old, new))
    return [
        (name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())


def _made_by(stream: str) -> str:
    return f"made by {stream}"
