"""The target that all SQL databases share: a table that follows the data, loaded in one transaction with the ledger."""

import logging
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from api2db.errors import BatchRefusedError, ConfigurationError, TableChangedError, TargetError, TargetUnavailableError
from api2db.targets._evolve import new_columns, placed
from api2db.targets._newest import found_column
from api2db.targets.port import (
    BegunLoad,
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
from api2db.targets.sql._ahead import Ahead
from api2db.targets.sql._ledger import LEDGER_TABLE, Ledger
from api2db.targets.sql._merge import Merge
from api2db.targets.sql._table import Changes, Table
from api2db.targets.sql.port import Database, DryRunEndedError, NoDatabaseError, Session
from api2db.targets.types import ValueLimit

logger = logging.getLogger(__name__)
OVERFLOW_COLUMN = "_extra"


class SqlTarget(LedgerTarget):
    """A table of a SQL database.

    Args:
        database: Its connection, dialect and bulk path.
        table: The table's name.
        if_exists: ``"append"``; ``"replace"``: the table is the newest frame; ``"fail"``: refuse a table of others.
        schema: ``"evolve"``: columns are added and widened; ``"freeze"``: the table stays as it is.
        keys: A row replaces the one that has the same values in these columns; empty: rows are added.
        on_conflict: ``"reject"``: a row with a value that fits no column is rejected; ``"json"``: the value goes into
            the column ``_extra``.
        in_schema: Whether the table's schema was given, so that a dot can only be a part of its name.
    """

    def __init__(
        self,
        database: Database,
        table: str,
        if_exists: IfExists,
        schema: SchemaRule,
        keys: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
        *,
        in_schema: bool = False,
    ) -> None:
        self._in_schema = in_schema
        self._database = database
        self._name = table
        self.keys = tuple(keys)
        self._changes = Changes(database, table)
        self._ledger = Ledger(database)
        self._ahead = Ahead(database, self._insert_ahead, self._ledger.step)
        self._table = Table(database, table, self.keys, self._changes)
        self._merge = Merge(database, table, self.keys)
        self._if_exists = if_exists
        self.replaces_table = if_exists == "replace"
        self.large_batches = database.dialect.large_batches
        self._schema = schema
        self._ready = False
        self._prepared: tuple[pa.Schema, Sequence[Column]] | None = None
        self._replaces = False
        self._surplus: set[str] = set()
        self._kept: set[str] = set()
        self.unplaced = {}
        self._stream = ""
        self.overflow_column = OVERFLOW_COLUMN if on_conflict == "json" else None

    @property
    def limits(self) -> Sequence[ValueLimit]:
        return self._database.dialect.types.limits

    def connect(self) -> None:
        self._database.connect()
        if not self._ready:
            if not self._in_schema:
                _check_dots(self._database, self._name)
            self._ledger.make()
            self._ready = True

    def close(self) -> None:
        self._ahead.cancel()
        self._ready = False
        self._prepared = None
        self._database.close()

    def end_waiting(self) -> None:
        self._database.end_waiting()

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        dialect = self._database.dialect
        try:
            with self._database.reading() as session:
                dialect = self._database.dialect  # of the server's version, which is known once it is connected
                columns = session.columns(self._name)
                if columns is None:
                    return None
                shown = ", ".join(dialect.shown(column, dialect.quote(column.name)) for column in columns)
                order = None if by is None else dialect.quote(found_column(by, columns, dialect.fold))
                rows = session.newest(
                    self._name,
                    columns,
                    f"SELECT {shown} FROM {dialect.table(self._name)}",
                    None if order is None else f"{order} {dialect.descending}",
                    count,
                )
        except NoDatabaseError:
            return None
        if rows is None:
            raise NoOrderError(f"the table {self._name}")
        return rows

    def read_position(self, stream: str) -> LedgerRow | None:
        self._ahead.cancel()
        self._database.end_silent(stream)
        with self._database.transaction() as session:
            session.require_transactions(LEDGER_TABLE, self._name)
            row = self._ledger.read(session, stream)
            self._stream = stream
            if self.replaces_table and self._schema == "evolve":
                self._surplus = self._dropped_halfway(session)
            if row is None and self._if_exists == "fail" and self._is_of_others(session):
                raise TargetUnavailableError(
                    f"the table {self._name} exists and if_exists='fail'; rename or drop it, or use 'append'"
                )
        if row is None:
            self._ledger.require_unwritten(stream)
        self._drop_surplus()
        return row

    def _dropped_halfway(self, session: Session) -> set[str]:
        """Columns that an earlier process recorded as gone and did not drop before it ended; all values are null."""
        there = [column.name for column in session.columns(self._name) or []]
        left = self._changes.gone(session) & {*there}
        return {name for name in left if session.rows(self._count_of(name)) == [(0,)]} if left != {*there} else set()

    def _count_of(self, name: str) -> str:
        return f"SELECT count({self._database.dialect.quote(name)}) FROM {self._table.quoted}"

    def columns(self) -> Sequence[Column] | None:
        with self._database.transaction() as session:
            columns = session.columns(self._name)
        if self._prepared and columns != list(self._prepared[1]):
            self._prepared = None
        return columns

    def prepare(self, schema: pa.Schema, origins: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        self._changes.origins = origins
        if self._prepared is None or not self._prepared[0].equals(schema):
            self._ahead.cancel()
            self._prepared = schema, self._prepare(schema)
        else:
            self._ahead.open()
        return self._prepared[1]

    def fold(self, name: str) -> str:
        return self._database.dialect.fold(name)

    def widen(self, column: Column, to: pa.DataType, origins: ChangeOrigins = unknown_origin) -> Column | None:
        if self._schema == "freeze":
            return None
        self._ahead.cancel()
        self._prepared, self._changes.origins = None, origins
        with self._changes.recording() as changes, self._database.transaction() as session:
            return self._table.widen(session, changes, column, to)

    @property
    def can_begin(self) -> bool:
        return self._database.dialect.overlaps and not (self.keys or self.replaces_table)

    def begin(self, rows: pa.Table, columns: Sequence[Column]) -> BegunLoad | None:
        return self._ahead.begin(rows, columns) if self.can_begin else None

    def _insert_ahead(
        self, session: Session, rows: pa.Table, columns: Sequence[Column], has_begun: Callable[[], None]
    ) -> None:
        if not session.may_overlap(self._name) or session.lock_columns(self._name) != list(columns):
            raise DryRunEndedError
        has_begun()
        self._insert(session, rows, {column.name: column for column in columns})

    def load(self, rows: pa.Table, columns: Sequence[Column], update: LedgerUpdate) -> None:
        self._ahead.open()
        try:
            with self._changes.recording() as changes, self._database.transaction() as session:
                self._ledger.step(session, update)
                self._ahead.has_begun()
                self._load(session, rows, columns, changes, only_new=update.only_new)
        except TargetError:
            self._ahead.cancel()
            self._prepared, self._surplus = None, set()
            raise
        self._ahead.close()
        self._drop_surplus()

    def _drop_surplus(self) -> None:
        """Drop columns once the rows are committed; a failure delays no row, and the columns are dropped later."""
        if not (surplus := sorted(self._surplus)):
            return
        self._prepared, self._surplus = None, set()
        kept: Sequence[str] = surplus
        why = "something depends on them"
        try:
            with self._database.transaction() as session:
                kept = self._database.dialect.drop_surplus(session, self._name, surplus)
        except TargetError as error:
            why = str(error)
        if kept and not self._kept.issuperset(kept):
            logger.warning("columns of %s stay, with nulls: %s; %s", self._name, ", ".join(map(repr, kept)), why)
        self._kept |= {*kept}

    def dry_run(self, rows: pa.Table, columns: Sequence[Column], *, only_new: bool = False) -> None:
        self._ahead.cancel()
        try:
            with self._database.transaction() as session:
                self._load(session, rows, columns, [], only_new=only_new)
                raise DryRunEndedError
        except DryRunEndedError:
            self._surplus = set()

    def _prepare(self, schema: pa.Schema) -> Sequence[Column]:
        """Leave out a column that the server refuses to add, so that only its rows are rejected."""
        refused: dict[str, str] = {}
        while True:
            self._table.adding = None
            try:
                return self._following(schema, refused)
            except BatchRefusedError as error:
                name = self._table.adding
                if name is None or name in refused:
                    raise
                refused[name] = f"the table can't take the column {name!r}, rename it or leave it out: {error}"

    def _following(self, schema: pa.Schema, refused: Mapping[str, str]) -> Sequence[Column]:
        with self._changes.recording() as changes, self._database.transaction() as session:
            columns = session.columns(self._name)
            self.unplaced = {**self._table.unplaced(schema.names, columns or []), **refused}
            schema = placed(schema, self.unplaced, self.keys)
            if columns is None:
                return self._table.create(session, schema, self._stream if self._if_exists == "fail" else None)
            if self.replaces_table and self._schema == "evolve" and (replacement := self._replacement(schema, columns)):
                return replacement
            if self._schema == "evolve" and (new := self._new_columns(schema, columns)):
                return self._table.add(session, changes, new)
            return columns

    def _new_columns(self, schema: pa.Schema, columns: Sequence[Column]) -> list[tuple[str, str]]:
        dialect = self._database.dialect
        return new_columns(schema, columns, dialect.fold, dialect.type_name)

    def _replacement(self, schema: pa.Schema, columns: Sequence[Column]) -> Sequence[Column] | None:
        replacement = self._table.replacement(schema, columns)
        self._replaces = replacement is not None
        return replacement

    def _load(
        self,
        session: Session,
        rows: pa.Table,
        columns: Sequence[Column],
        changes: list[SchemaChange],
        *,
        only_new: bool,
    ) -> None:
        if not rows.num_columns:
            return
        there = session.lock_columns(self._name)
        if there != list(columns) and not (there and self._replaces):
            raise TableChangedError(f"the table {self._name} was altered meanwhile; the batch is cast again")
        if self.replaces_table and there == list(columns):
            session.run(f"DELETE FROM {self._table.quoted}")
        elif self.replaces_table and there:
            self._table.replace(session, changes, there, columns)
        if self.replaces_table and not self._replaces and self._schema == "evolve":
            surplus = [each for each in there or [] if not each.fills and each.name not in rows.column_names]
            self._surplus = {each.name for each in surplus}
            told = [(each.name, each.declared, None) for each in surplus if each.name not in self._kept]
            self._changes.record(session, changes, told)
        by_name = {column.name: column for column in columns}
        if self.keys and not self.replaces_table:
            self._merge.upsert(session, rows, by_name, only_new=only_new)
            return
        self._insert(session, rows, by_name)

    def _insert(self, session: Session, rows: pa.Table, columns: Mapping[str, Column]) -> None:
        loaded = session.insert(self._name, rows, columns)
        if loaded != rows.num_rows:
            raise BatchRefusedError(
                f"{self._name} took {loaded} of {rows.num_rows} rows; a trigger or rule of the table drops some"
            )

    def _is_of_others(self, session: Session) -> bool:
        is_there = session.columns(self._name) is not None
        return is_there and not self._changes.is_signed(session, self._stream)


def _check_dots(database: Database, table: str) -> None:
    """Check a name with a dot; a table of exactly this name is used.

    Raises:
        ConfigurationError: The name is that of a table in another schema, as SQL writes it.
    """
    *before, name = table.split(".")
    if not before:
        return
    meant = {".".join(before).casefold(), before[-1].casefold()}
    with database.transaction() as session:
        schemas = session.rows(query) if (query := database.dialect.schemas) else []
        found = next((str(schema) for (schema,) in schemas if str(schema).casefold() in meant), None)
        if found is not None and session.columns(table) is None:
            raise ConfigurationError(
                f"table={table!r} has a dot, and there is a schema {found!r}: for the table {name!r} in it, "
                f"use table={name!r}, table_schema={found!r}; for a table with a dot in its name, give the schema "
                "that it is in with table_schema="
            )
