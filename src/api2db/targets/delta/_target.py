"""A table of Delta Lake as a target: rows and ledger are in one commit of its log."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

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
from api2db.targets.delta import _ledger
from api2db.targets.delta._location import TableLocation, sorted_errors
from api2db.targets.delta._table import EXPIRY, UNDECIDED, Table, create, opened, schema_of
from api2db.targets.delta._values import stored
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
from api2db.targets.types import DELTA, ValueLimit, from_delta

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class DeltaTarget(LedgerTarget):
    """A table of Delta Lake.

    Args:
        place: Where it is.
        if_exists: ``"append"``; ``"replace"``: the table is the newest frame; ``"fail"``: refuse a table of others.
        schema: ``"evolve"``: columns are added and widened; ``"freeze"``: the table stays as it is.
        keys: A row replaces the one that has the same values in these columns; empty: rows are added.
        partition_by: The columns whose values decide in which folder of a new table a row is.
        on_conflict: ``"reject"``: a row with a value that fits no column is rejected; ``"json"``: the value goes into
            the column ``_extra``.
    """

    limits: Sequence[ValueLimit] = DELTA.limits

    def __init__(
        self,
        place: TableLocation,
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
        self._place = place
        self._if_exists = if_exists
        self._schema = schema
        self._partition_by = tuple(partition_by)
        self._stream = ""
        self._table: Table | None = None
        self._prepared: tuple[pa.Schema, Sequence[Column]] | None = None
        self._held: tuple[Table, int, LedgerRow | None] | None = None  # the ledger in a version of the table
        self._noted: LedgerRow | None = None

    def connect(self) -> None:
        if self._table is None:
            self._refresh()

    def close(self) -> None:
        self._table = self._prepared = self._held = None

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        table = opened(self._place)
        if table is None:
            return None
        if by is None:
            raise NoOrderError(f"the table {self._place.name}")
        with sorted_errors(self._place):
            return table.newest(count, found_column(by, table.columns, self.fold))

    def read_position(self, stream: str) -> LedgerRow | None:
        self._stream, self._noted = stream, None
        table = self._refresh()
        row = self._ledger()
        if table is None:
            return None
        if row is not None:
            with sorted_errors(self._place):
                table.make_durable(stream)
        elif self._if_exists == "fail" and self._is_of_others(table):
            raise TargetUnavailableError(
                f"the table {self._place.name} exists and if_exists='fail'; move or delete it, or use 'append'"
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
        with sorted_errors(self._place):
            wider = wider_type(
                column,
                to,
                is_undecided=lambda: column.declared == UNDECIDED and table.is_empty_of(column.name),
                is_exact_as_float=lambda: table.is_exact_as_float(column.name),
            )
        declared = None if wider is None else DELTA.column(wider)
        if declared in {None, column.declared} or _turns_to_text(column, str(declared)):
            return None
        changed = Column(column.name, from_delta(str(declared)), str(declared))
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
            raise TableChangedError(f"the table {self._place.name} is gone; it is created again")
        if table is not None:
            numbers = _ledger.numbers(update.stream, update.after)
            self._change(lambda: self._load(table, rows, columns, numbers, only_new=update.only_new))
            self._held = table, table.version, update.after
        # The ledger begins with the table. Until then no row is there, and the journal's own position is enough.
        self._noted = update.after if table is None else None

    def dry_run(self, rows: pa.Table, columns: Sequence[Column], *, only_new: bool = False) -> None:
        table = self._table
        if table is None:
            return
        with sorted_errors(self._place):
            if self.keys and only_new:
                self._check_new(table, rows)
            changes_schema = self._changes_schema(table, columns)
            schema = schema_of(columns) if changes_schema else table.arrow_schema
            table.rehearse(stored(rows, _by_name(columns), schema), changes_schema=changes_schema)

    def optimize(self) -> int:
        """Gather small files; return how many were replaced."""
        table = opened(self._place)
        with sorted_errors(self._place):
            return 0 if table is None else table.optimize()

    def vacuum(self, hours: int | None, *, dry_run: bool) -> list[str]:
        """Delete files that no version has needed for so many hours; return them."""
        table = opened(self._place)
        with sorted_errors(self._place):
            return [] if table is None else table.vacuum(hours, dry_run=dry_run)

    def _load(
        self, table: Table, rows: pa.Table, columns: Sequence[Column], numbers: Mapping[str, int], *, only_new: bool
    ) -> None:
        if not rows.num_columns:
            table.note(numbers)
            return
        there, changes_schema = table.columns, self._changes_schema(table, columns)
        if there != list(columns) and not changes_schema:
            raise TableChangedError(f"the table {self._place.name} was altered meanwhile; the batch is cast again")
        sent = stored(rows, _by_name(columns), schema_of(columns) if changes_schema else table.arrow_schema)
        if self.replaces_table:
            table.overwrite(sent, numbers, changes_schema=changes_schema)
            self._say(_differences(there, columns))
        elif self.keys:
            if only_new:
                self._check_new(table, rows)
            table.merge(sent, rows.column_names, self.keys, numbers)
        else:
            table.append(sent, numbers)

    def _check_new(self, table: Table, rows: pa.Table) -> None:
        if table.has_any(rows, self.keys):
            raise BatchRefusedError(key_is_there(self._place.name, self.keys))

    def _changes_schema(self, table: Table, columns: Sequence[Column]) -> bool:
        """Whether a load gives the table other columns."""
        return self.replaces_table and self._schema == "evolve" and {*table.columns} != {*columns}

    def _change(self, change: Callable[[], _Result]) -> _Result:
        """Change the table. After an error, look at what it is now.

        Raises:
            TableChangedError: Somebody else has given it other columns.
        """
        before = None if self._table is None else self._table.columns
        try:
            with sorted_errors(self._place):
                return change()
        except TargetError as error:
            self._prepared = None
            table = self._refresh()
            if before != (None if table is None else table.columns):
                raise TableChangedError(f"the table {self._place.name} was altered meanwhile: {error}") from error
            raise

    def _following(self, schema: pa.Schema, origins: ChangeOrigins) -> Sequence[Column]:
        table = self._table
        there = [] if table is None else table.columns
        known = {column.name for column in there} | {*self.keys, *self._partition_by}
        self.unplaced = unplaced_names(schema.names, known, _check_name, self.fold)
        schema = placed(schema, self.unplaced, self.keys)
        if table is None:
            return self._create(schema)
        if self.replaces_table and self._schema == "evolve":
            replacement = replacement_columns(schema, there, _wanted)
            return there if {*replacement} == {*there} else replacement
        new = new_columns(schema, there, self.fold, DELTA.column)
        if new and self._schema == "evolve":
            table.add(new, origins(new[0][0]).frame_ns)
            self._say([SchemaChange(name, None, declared, origins(name)) for name, declared in new])
        return table.columns

    def _create(self, schema: pa.Schema) -> Sequence[Column]:
        typed = typed_columns(schema, DELTA.column)
        for names, part in ((self.keys, "part of the key"), (self._partition_by, "what the table is partitioned by")):
            if lacking := {*names} - {name for name, _ in typed}:
                raise BatchRefusedError(f"no row has a value in {', '.join(sorted(lacking))}, which is {part}")
        columns = typed or [(name, UNDECIDED) for name in schema.names]
        signed = {_ledger.maker(self._stream): 1} if self._stream else {}
        self._table = create(self._place, columns, self._partition_by, signed)
        return self._table.columns

    def _refresh(self) -> Table | None:
        """Open the newest version of the table."""
        self._table, self._held = opened(self._place), None
        table = self._table
        if table is not None and table.forgets_ledgers:
            raise TargetUnavailableError(
                f"{self._place.name} has the property {EXPIRY}, by which Delta Lake drops the position of this stream, "
                "so that rows could be loaded twice; remove the property"
            )
        return table

    def _ledger(self) -> LedgerRow | None:
        """The stream's ledger in the version that the next commit is prepared on.

        Commits without a ledger, such as that of a new column, may follow one of another owner. The library finds only
        conflicts with later versions, so the ledger of an earlier version must not be used.
        """
        table = self._table
        if table is None:
            return self._noted
        if self._held is None or self._held[0] is not table or self._held[1] != table.version:
            with sorted_errors(self._place):
                self._held = table, table.version, _ledger.read(table.number, self._stream)
        return self._held[2] or self._noted

    def _is_of_others(self, table: Table) -> bool:
        return table.number(_ledger.maker(self._stream)) is None

    def _say(self, changes: Sequence[SchemaChange]) -> None:
        for change in changes:
            logger.info("%s: %s", self._place.name, change.said)


def _by_name(columns: Sequence[Column]) -> dict[str, Column]:
    return {column.name: column for column in columns}


def _check_name(name: str) -> None:
    if not name:
        raise BatchRefusedError("Delta Lake has no columns without a name; rename it before it is put")


def _turns_to_text(column: Column, declared: str) -> bool:
    """Whether Delta Lake has no numeric type with so many digits; a number column never becomes text for that."""
    return bool(is_number(column.type) and pa.types.is_string(from_delta(declared)))


def _wanted(field: pa.Field, known: Column | None) -> Column:
    declared = DELTA.column(field.type)
    if known is not None and (declared is None or widened(known.type, plain(field.type)) == known.type):
        return known
    return Column(field.name, from_delta(declared or "string"), declared or "string")


def _differences(old: Sequence[Column], new: Sequence[Column]) -> list[SchemaChange]:
    before, after = ({column.name: column.declared for column in columns} for columns in (old, new))
    return [
        SchemaChange(name, before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
