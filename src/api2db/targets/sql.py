"""What every SQL target shares: the ledger, a table that follows the data, and the load of both in one transaction."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import pyarrow as pa
from sqlalchemy.engine.default import DefaultDialect

from api2db.errors import BatchRefusedError, LedgerMovedError, TableChangedError, TargetError, TargetUnavailableError
from api2db.frames import widened
from api2db.targets.port import Claim, Column, LedgerRow, SchemaChange

__all__ = ["LEDGER_TABLE", "Database", "IfExists", "SchemaRule", "Session", "SqlTarget", "quote"]

IfExists = Literal["append", "replace", "fail"]
SchemaRule = Literal["evolve", "freeze"]
LEDGER_TABLE = "_api2db_ledger"
CHANGES_TABLE = "_api2db_schema_changes"

_quote_identifier = DefaultDialect().identifier_preparer.quote_identifier


def quote(name: str) -> str:
    """A name as SQL takes it.

    Raises:
        BatchRefusedError: No database holds such a name.
    """
    if not name or "\0" in name:
        raise BatchRefusedError(f"a column can't be named {name!r}; rename it before it is put")
    return str(_quote_identifier(name))


class Session(Protocol):
    """One open transaction."""

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement, and say how many rows it changed."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query."""

    def columns(self, table: str) -> list[Column] | None:
        """The columns of a table in their order; None where there is none."""

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        """Load rows by the database's bulk path, and say how many went in."""


class Database(Protocol):
    """A database's own part: its connection, its types, its errors."""

    def connect(self) -> None:
        """Reach it; does nothing where it is reached.

        Raises:
            TargetUnavailableError: It can't be reached now.
        """

    def close(self) -> None:
        """Let it go; never raises."""

    def transaction(self) -> AbstractContextManager[Session]:
        """Commits at the block's end, rolls back on any error; the driver's errors leave it as ours."""

    def type_name(self, type_: pa.DataType) -> str | None:
        """The column type for an Arrow type; None for nulls."""

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        """Give a column another type, and say what it is then."""

    def same_column(self, one: str, other: str) -> bool:
        """Whether two names are one column to it."""


class _RolledBackError(Exception):
    """Ends a transaction that was only a trial."""


class SqlTarget:
    """A table of a SQL database, as ``LedgerTarget`` has it.

    Args:
        database: Its connection, types and bulk path.
        table: The table's name.
        if_exists: ``"append"``; ``"replace"``: the table is the newest frame; ``"fail"``: not into a table of others.
        schema: ``"evolve"``: columns are added and widened; ``"freeze"``: the table stays as it is.
    """

    def __init__(self, database: Database, table: str, if_exists: IfExists, schema: SchemaRule) -> None:
        self._database = database
        self._table = table
        self._if_exists = if_exists
        self._schema = schema
        self._ready = False
        self._prepared: tuple[pa.Schema, Sequence[Column]] | None = None

    @property
    def takes_newest(self) -> bool:
        return self._if_exists == "replace"

    @property
    def whole_frames(self) -> bool:
        return False

    def connect(self) -> None:
        self._database.connect()
        if not self._ready:
            self._make_ledger()
            self._ready = True

    def close(self) -> None:
        self._ready = False
        self._prepared = None
        self._database.close()

    def how_far(self, stream: str) -> LedgerRow | None:
        with self._database.transaction() as session:
            row = _read_ledger(session, stream)
            if row is None and self._if_exists == "fail" and session.columns(self._table) is not None:
                raise TargetUnavailableError(
                    f"the table {self._table} exists and if_exists='fail'; rename or drop it, or use 'append'"
                )
            return row

    def columns(self) -> Sequence[Column] | None:
        with self._database.transaction() as session:
            return session.columns(self._table)

    def prepare(self, schema: pa.Schema) -> Sequence[Column]:
        if self._prepared is None or not self._prepared[0].equals(schema):
            self._prepared = schema, self._prepare(schema)
        return self._prepared[1]

    def widen(self, column: Column, to: pa.DataType) -> Column | None:
        if self._schema == "freeze":
            return None
        self._prepared = None
        with self._database.transaction() as session:
            wider = self._wider(session, column, to)
            declared = wider and self._database.type_name(wider)
            if wider is None or declared in {None, column.declared}:
                return None
            changed = self._database.change_type(session, self._table, column, Column(column.name, wider, declared))
            if changed.declared != column.declared:
                self._record(session, [SchemaChange(column.name, column.declared, changed.declared)])
            return changed

    def load(self, rows: pa.Table, columns: Sequence[Column], claim: Claim) -> None:
        try:
            with self._database.transaction() as session:
                _step_ledger(session, claim)
                self._load(session, rows, columns)
        except TargetError:
            self._prepared = None
            raise

    def trial(self, rows: pa.Table, columns: Sequence[Column]) -> None:
        try:
            with self._database.transaction() as session:
                self._load(session, rows, columns)
                raise _RolledBackError
        except _RolledBackError:
            return

    def _prepare(self, schema: pa.Schema) -> Sequence[Column]:
        self._check_names(schema.names)
        with self._database.transaction() as session:
            columns = session.columns(self._table)
            if columns is None:
                return self._create(session, schema)
            if self._schema == "evolve" and (new := self._unknown(schema, columns)):
                return self._add(session, new)
            return columns

    def _make_ledger(self) -> None:
        """Make our tables; another stream may be at just that, so it is tried twice."""
        try:
            with self._database.transaction() as session:
                _make_ledger(session)
        except TargetUnavailableError:
            with self._database.transaction() as session:
                _make_ledger(session)

    def _load(self, session: Session, rows: pa.Table, columns: Sequence[Column]) -> None:
        if not rows.num_columns:
            return
        if session.columns(self._table) != list(columns):
            raise TableChangedError(f"the table {self._table} was altered meanwhile; the batch is cast anew")
        if self.takes_newest:
            session.run(f"DELETE FROM {quote(self._table)}")
        loaded = session.insert(self._table, rows, {column.name: column for column in columns})
        if loaded != rows.num_rows:
            raise BatchRefusedError(
                f"{self._table} took {loaded} of {rows.num_rows} rows; a trigger or rule of the table drops some"
            )

    def _create(self, session: Session, schema: pa.Schema) -> list[Column]:
        fields = self._typed(schema) or [(field.name, pa.string()) for field in schema]
        declared = [f"{quote(name)} {self._database.type_name(type_)}" for name, type_ in fields]
        session.run(f"CREATE TABLE {quote(self._table)} ({', '.join(declared)})")
        return session.columns(self._table) or []

    def _add(self, session: Session, new: list[tuple[str, pa.DataType]]) -> list[Column]:
        changes = []
        for name, type_ in new:
            declared = self._database.type_name(type_)
            session.run(f"ALTER TABLE {quote(self._table)} ADD COLUMN {quote(name)} {declared}")
            changes.append(SchemaChange(name, None, str(declared)))
        self._record(session, changes)
        return session.columns(self._table) or []

    def _unknown(self, schema: pa.Schema, columns: Sequence[Column]) -> list[tuple[str, pa.DataType]]:
        return [
            (name, type_)
            for name, type_ in self._typed(schema)
            if not any(self._database.same_column(name, column.name) for column in columns)
        ]

    def _typed(self, schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
        return [(field.name, field.type) for field in schema if self._database.type_name(field.type) is not None]

    def _wider(self, session: Session, column: Column, to: pa.DataType) -> pa.DataType | None:
        """The type to change to: any for a column of nulls; a float for an int whose rows a float holds exactly."""
        wider = widened(column.type, to)
        if wider is not None:
            return wider
        name, table = quote(column.name), quote(self._table)
        if session.rows(f"SELECT count({name}) FROM {table}") == [(0,)]:
            return to
        if pa.types.is_integer(column.type) and pa.types.is_floating(to):
            beyond = f"SELECT count(*) FROM {table} WHERE {name} > {2**53} OR {name} < -{2**53}"
            return pa.float64() if session.rows(beyond) == [(0,)] else None
        return None

    def _check_names(self, names: Sequence[str]) -> None:
        for number, name in enumerate(names):
            quote(name)
            twin = next((other for other in names[:number] if self._database.same_column(name, other)), None)
            if twin is not None:
                raise BatchRefusedError(
                    f"the columns {twin!r} and {name!r} are one column to the database; rename one before it is put"
                )

    def _record(self, session: Session, changes: Sequence[SchemaChange]) -> None:
        for change in changes:
            session.run(
                f"INSERT INTO {CHANGES_TABLE} VALUES (?, ?, ?, ?, ?)",
                (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), self._table, *_values(change)),
            )


def _values(change: SchemaChange) -> tuple[str, str | None, str]:
    return change.column, change.before, change.after


def _make_ledger(session: Session) -> None:
    session.run(
        f"CREATE TABLE IF NOT EXISTS {LEDGER_TABLE} (stream VARCHAR(64) NOT NULL PRIMARY KEY,"
        " epoch VARCHAR(64) NOT NULL, sequence BIGINT NOT NULL, skip BIGINT NOT NULL, loaded BIGINT NOT NULL)"
    )
    session.run(
        f"CREATE TABLE IF NOT EXISTS {CHANGES_TABLE} (changed_at VARCHAR(32) NOT NULL,"
        " table_name VARCHAR(255) NOT NULL, column_name VARCHAR(255) NOT NULL,"
        " old_type VARCHAR(255), new_type VARCHAR(255) NOT NULL)"
    )


def _read_ledger(session: Session, stream: str) -> LedgerRow | None:
    rows = session.rows(f"SELECT epoch, sequence, skip FROM {LEDGER_TABLE} WHERE stream = ?", (stream,))
    return LedgerRow(*rows[0]) if rows else None


def _step_ledger(session: Session, claim: Claim) -> None:
    """Compare and set, as the transaction's first statement: it locks the row until the commit."""
    epoch, sequence, skip = claim.after
    if claim.before is None:
        if _read_ledger(session, claim.stream) is not None:
            raise LedgerMovedError("the ledger has a row of this stream that this stream did not write")
        session.run(
            f"INSERT INTO {LEDGER_TABLE} VALUES (?, ?, ?, ?, ?)", (claim.stream, epoch, sequence, skip, claim.rows)
        )
        return
    changed = session.run(
        f"UPDATE {LEDGER_TABLE} SET epoch = ?, sequence = ?, skip = ?, loaded = loaded + ?"
        " WHERE stream = ? AND epoch = ? AND sequence = ? AND skip = ?",
        (epoch, sequence, skip, claim.rows, claim.stream, *claim.before),
    )
    if changed != 1:
        raise LedgerMovedError("the ledger is not where this stream left it")
