"""A table of a lake as a target: rows and ledger are in one commit of the table."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import ClassVar, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from api2db.errors import (
    BatchRefusedError,
    LedgerMovedError,
    TableChangedError,
    TargetError,
    TargetUnavailableError,
)
from api2db.frames import is_number, plain, widened
from api2db.targets._evolve import new_columns, placed, replacement_columns, typed_columns, unplaced_names, wider_type
from api2db.targets._newest import found_column
from api2db.targets.lake._values import stored
from api2db.targets.port import (
    ChangeOrigins,
    Column,
    IfExists,
    LedgerRow,
    LedgerTarget,
    LedgerUpdate,
    NoOrderError,
    OnConflict,
    SchemaChange,
    SchemaRule,
    unknown_origin,
)
from api2db.targets.sql import OVERFLOW_COLUMN, key_is_there
from api2db.targets.types import Types, ValueLimit

logger = logging.getLogger(__name__)
UNDECIDED = "string (undecided)"
_Result = TypeVar("_Result")


class LedgerEntry(NamedTuple):
    """A stream's row of the ledger, as a commit writes it.

    Attributes:
        stream: The stream's key.
        row: The row.
    """

    stream: str
    row: LedgerRow


class LakeTable(Protocol):
    """One version of a table. A commit of ours makes it the version of that commit.

    A commit fails if another one has written the same stream's ledger since this version.
    """

    columns: Sequence[Column]

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """The columns whose values decide in which folder a row is."""

    def ledger(self, stream: str) -> LedgerRow | None:
        """A stream's row of the ledger in this version."""

    def is_made_by(self, stream: str) -> bool:
        """Whether the stream has created the table."""

    def make_durable(self, stream: str) -> None:
        """Flush the last commit of a stream to the disk; whoever made it may have died before that."""

    def file_schema(self, columns: Sequence[Column] | None = None) -> pa.Schema:
        """The types in which files have columns: those given, or those of this version."""

    def add(self, new: Sequence[tuple[str, str]], frame_ns: int) -> None:
        """Add columns, each with its declared type, by one commit that fails if the schema has changed."""

    def rewrite(self, columns: Sequence[Column]) -> None:
        """Give columns other types by one commit, which writes all rows again where that is needed.

        Raises:
            BatchRefusedError: The table is too large for that.
        """

    def append(self, rows: pa.Table, entry: LedgerEntry) -> None:
        """Add rows."""

    def overwrite(self, rows: pa.Table, columns: Sequence[Column] | None, entry: LedgerEntry) -> None:
        """Make rows the whole table, with other columns if they are given."""

    def note(self, entry: LedgerEntry) -> None:
        """Commit nothing but the ledger."""

    def merge(
        self,
        rows: pa.Table,
        given: Sequence[str],
        keys: Sequence[str],
        entry: LedgerEntry,
        check: Callable[[], None],
    ) -> None:
        """Replace the rows that have the keys of these, and add the others.

        Args:
            rows: With all columns of the table.
            given: The columns to set in a row that is there; the others stay.
            keys: The columns that identify a row.
            check: Raises if the version that the commit follows forbids it.
        """

    def has_any(self, rows: pa.Table, keys: Sequence[str]) -> bool:
        """Whether a row with one of these keys is there."""

    def is_empty_of(self, name: str) -> bool:
        """Whether a column has no value."""

    def is_exact_as_float(self, name: str) -> bool:
        """Whether a double holds all integers of a column."""

    def newest(self, count: int, by: str) -> pa.Table:
        """The rows with the greatest values in a column, the greatest first, in the columns' own types."""

    def rehearse(self, rows: pa.Table, *, changes_schema: bool) -> None:
        """Raise as a commit of rows would, without one."""


class LakeTarget(LedgerTarget):
    """A table of a lake.

    Args:
        name: The table's place for display.
        if_exists: ``"append"``; ``"replace"``: the table is the newest frame; ``"fail"``: refuse a table of others.
        schema: ``"evolve"``: columns are added and widened; ``"freeze"``: the table stays as it is.
        keys: A row replaces the one that has the same values in these columns; empty: rows are added.
        partition_by: The columns whose values decide in which folder of a new table a row is.
        on_conflict: ``"reject"``: a row with a value that fits no column is rejected; ``"json"``: the value goes into
            the column ``_extra``.
    """

    types: ClassVar[Types]

    def __init__(
        self,
        name: str,
        if_exists: IfExists,
        schema: SchemaRule,
        keys: Sequence[str] = (),
        partition_by: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
    ) -> None:
        self.keys = tuple(keys)
        self.overflow_column = OVERFLOW_COLUMN if on_conflict == "json" else None
        self.replaces_table = if_exists == "replace"
        self.unplaced = {}
        self._name = name
        self._if_exists = if_exists
        self._schema = schema
        self._partition_by = tuple(partition_by)
        self._stream = ""
        self._table: LakeTable | None = None
        self._prepared: tuple[pa.Schema, Sequence[Column]] | None = None
        self._noted: LedgerRow | None = None

    def _opened(self) -> LakeTable | None:
        """Open the newest version of the table; None if there is none."""
        raise NotImplementedError

    def _created(self, columns: Sequence[tuple[str, str]]) -> LakeTable:
        """Create the table by one commit, signed by the stream; if somebody else has done so meanwhile, this fails."""
        raise NotImplementedError

    def _sorted_errors(self) -> AbstractContextManager[None]:
        """Raise the library's errors as those of api2db."""
        raise NotImplementedError

    @property
    def limits(self) -> Sequence[ValueLimit]:
        """Values that it cannot hold, although their type has a column type."""
        return self.types.limits

    def connect(self) -> None:
        if self._table is None:
            self._refresh()

    def close(self) -> None:
        self._table = self._prepared = None

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        table = self._opened()
        if table is None:
            return None
        if by is None:
            raise NoOrderError(f"the table {self._name}")
        with self._sorted_errors():
            return table.newest(count, found_column(by, table.columns, self.fold))

    def read_position(self, stream: str) -> LedgerRow | None:
        self._stream, self._noted = stream, None
        table = self._refresh()
        row = self._ledger()
        if table is None:
            return None
        if row is not None:
            with self._sorted_errors():
                table.make_durable(stream)
        elif self._if_exists == "fail" and not table.is_made_by(stream):
            raise TargetUnavailableError(
                f"the table {self._name} exists and if_exists='fail'; move or delete it, or use 'append'"
            )
        return row

    def columns(self) -> Sequence[Column] | None:
        table = self._refresh()
        columns = None if table is None else table.columns
        if self._prepared and columns != list(self._prepared[1]):
            self._prepared = None
        return columns

    def fold(self, name: str) -> str:
        return name.lower()

    def prepare(self, schema: pa.Schema, origins: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        if self._prepared is None or not self._prepared[0].equals(schema):
            self._prepared = schema, self._change(lambda: self._following(schema, origins))
        return self._prepared[1]

    def widen(self, column: Column, to: pa.DataType, origins: ChangeOrigins = unknown_origin) -> Column | None:
        table = self._table
        if self._schema == "freeze" or table is None or column.name in table.partitioned_by:
            return None
        with self._sorted_errors():
            wider = wider_type(
                column,
                to,
                is_undecided=lambda: column.declared == UNDECIDED and table.is_empty_of(column.name),
                is_exact_as_float=lambda: table.is_exact_as_float(column.name),
            )
        declared = None if wider is None else self.types.column(wider)
        if declared in {None, column.declared} or self._turns_to_text(column, str(declared)):
            return None
        changed = Column(column.name, self.types.back(str(declared)), str(declared))
        columns = [changed if each.name == column.name else each for each in table.columns]
        self._prepared = None
        self._change(lambda: table.rewrite(columns))
        self._say([SchemaChange(column.name, column.declared, changed.declared, origins(column.name))])
        return changed

    def load(self, rows: pa.Table, columns: Sequence[Column], update: LedgerUpdate) -> None:
        table = self._table
        if self._ledger() != update.before:
            raise LedgerMovedError("the ledger is not where this stream left it")
        if table is None and rows.num_columns:
            raise TableChangedError(f"the table {self._name} is gone; it is created again")
        if table is not None:
            self._change(lambda: self._load(table, rows, columns, update))
        # The ledger begins with the table. Until then no row is there, and the journal's own position is enough.
        self._noted = update.after if table is None else None

    def dry_run(self, rows: pa.Table, columns: Sequence[Column], *, only_new: bool = False) -> None:
        table = self._table
        if table is None:
            return
        with self._sorted_errors():
            if self.keys and only_new:
                self._check_new(table, rows)
            changes_schema = self._changes_schema(table, columns)
            schema = table.file_schema(columns if changes_schema else None)
            table.rehearse(stored(rows, _by_name(columns), schema), changes_schema=changes_schema)

    def _load(self, table: LakeTable, rows: pa.Table, columns: Sequence[Column], update: LedgerUpdate) -> None:
        entry = LedgerEntry(update.stream, update.after)
        if not rows.num_columns:
            table.note(entry)
            return
        there, changes_schema = table.columns, self._changes_schema(table, columns)
        if list(there) != list(columns) and not changes_schema:
            raise TableChangedError(f"the table {self._name} was altered meanwhile; the batch is cast again")
        sent = stored(rows, _by_name(columns), table.file_schema(columns if changes_schema else None))
        if self.replaces_table:
            table.overwrite(sent, columns if changes_schema else None, entry)
            self._say(_differences(there, columns))
        elif self.keys:
            check = partial(self._check_new, table, rows) if update.only_new else _nothing
            table.merge(sent, rows.column_names, self.keys, entry, check)
        else:
            table.append(sent, entry)

    def _check_new(self, table: LakeTable, rows: pa.Table) -> None:
        if table.has_any(rows, self.keys):
            raise BatchRefusedError(key_is_there(self._name, self.keys))

    def _changes_schema(self, table: LakeTable, columns: Sequence[Column]) -> bool:
        """Whether a load gives the table other columns."""
        return self.replaces_table and self._schema == "evolve" and {*table.columns} != {*columns}

    def _change(self, change: Callable[[], _Result]) -> _Result:
        """Change the table. After an error, look at what it is now.

        Raises:
            TableChangedError: Somebody else has given it other columns.
        """
        before = None if self._table is None else self._table.columns
        try:
            with self._sorted_errors():
                return change()
        except TargetError as error:
            self._prepared = None
            table = self._refresh()
            if before != (None if table is None else table.columns):
                raise TableChangedError(f"the table {self._name} was altered meanwhile: {error}") from error
            raise

    def _following(self, schema: pa.Schema, origins: ChangeOrigins) -> Sequence[Column]:
        table = self._table
        there = [] if table is None else table.columns
        known = {column.name for column in there} | {*self.keys, *self._partition_by}
        self.unplaced = unplaced_names(schema.names, known, self._check_name, self.fold)
        schema = placed(schema, self.unplaced, self.keys)
        if table is None:
            return self._create(schema)
        if self.replaces_table and self._schema == "evolve":
            replacement = replacement_columns(schema, there, self._wanted)
            return there if {*replacement} == {*there} else replacement
        new = new_columns(schema, there, self.fold, self.types.column)
        if new and self._schema == "evolve":
            table.add(new, origins(new[0][0]).frame_ns)
            self._say([SchemaChange(name, None, declared, origins(name)) for name, declared in new])
        return table.columns

    def _create(self, schema: pa.Schema) -> Sequence[Column]:
        typed = typed_columns(schema, self.types.column)
        for names, part in ((self.keys, "part of the key"), (self._partition_by, "what the table is partitioned by")):
            if lacking := {*names} - {name for name, _ in typed}:
                raise BatchRefusedError(f"no row has a value in {', '.join(sorted(lacking))}, which is {part}")
        self._table = self._created(typed or [(name, UNDECIDED) for name in schema.names])
        return self._table.columns

    def _refresh(self) -> LakeTable | None:
        """Open the newest version of the table."""
        self._table = self._opened()
        return self._table

    def _ledger(self) -> LedgerRow | None:
        """The stream's ledger in the version that the next commit is prepared on.

        Commits without a ledger, such as that of a new column, may follow one of another owner. A commit fails only if
        the ledger has moved since its version, so the ledger of an earlier version must not be used.
        """
        if self._table is None:
            return self._noted
        with self._sorted_errors():
            return self._table.ledger(self._stream) or self._noted

    def _turns_to_text(self, column: Column, declared: str) -> bool:
        """Whether there is no numeric type with so many digits; a number column never becomes text for that."""
        return bool(is_number(column.type) and pa.types.is_string(self.types.back(declared)))

    def _wanted(self, field: pa.Field, known: Column | None) -> Column:
        declared = self.types.column(field.type)
        if known is not None and (declared is None or widened(known.type, plain(field.type)) == known.type):
            return known
        return Column(field.name, self.types.back(declared or "string"), declared or "string")

    def _check_name(self, name: str) -> None:
        if not name:
            raise BatchRefusedError(f"{self.types.target} has no columns without a name; rename it before it is put")

    def _say(self, changes: Sequence[SchemaChange]) -> None:
        for change in changes:
            logger.info("%s: %s", self._name, change.said)


def _nothing() -> None:
    return


def _by_name(columns: Sequence[Column]) -> dict[str, Column]:
    return {column.name: column for column in columns}


def _differences(old: Sequence[Column], new: Sequence[Column]) -> list[SchemaChange]:
    before, after = ({column.name: column.declared for column in columns} for columns in (old, new))
    return [
        SchemaChange(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
