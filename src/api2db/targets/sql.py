"""What every SQL target shares: the ledger, a table that follows the data, and the load of both in one transaction."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any, Literal, Protocol

import pyarrow as pa

from api2db.errors import BatchRefusedError, LedgerMovedError, TableChangedError, TargetError, TargetUnavailableError
from api2db.frames import widened
from api2db.targets.port import Causes, Claim, Column, LedgerRow, SchemaChange, unknown_cause
from api2db.targets.types import Limit, Types

__all__ = [
    "EXTRA_COLUMN",
    "LEDGER_TABLE",
    "Database",
    "IfExists",
    "OnConflict",
    "SchemaRule",
    "Session",
    "SqlTarget",
    "key_is_there",
]

_log = logging.getLogger(__name__)

IfExists = Literal["append", "replace", "fail"]
SchemaRule = Literal["evolve", "freeze"]
OnConflict = Literal["reject", "json"]
EXTRA_COLUMN = "_extra"
LEDGER_TABLE = "_api2db_ledger"
CHANGES_TABLE = "_api2db_schema_changes"
_UNDECIDED = "undecided"
_MAKING_TRIES, _MAKING_PAUSE_S = 8, 0.02
_OURS = {
    LEDGER_TABLE: (
        "stream VARCHAR(64) NOT NULL PRIMARY KEY",
        "epoch VARCHAR(64) NOT NULL",
        "sequence BIGINT NOT NULL",
        "skip BIGINT NOT NULL",
        "loaded BIGINT NOT NULL",
    ),
    CHANGES_TABLE: (
        "changed_at VARCHAR(32) NOT NULL",
        "table_name VARCHAR(255) NOT NULL",
        "column_name VARCHAR(255) NOT NULL",
        "old_type VARCHAR(255)",
        "new_type VARCHAR(255)",
        "frame_ns BIGINT NOT NULL",
    ),
}


class Session(Protocol):
    """One open transaction."""

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement, and say how many rows it changed."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query."""

    def columns(self, table: str) -> list[Column] | None:
        """The columns of a table in their order; None where there is none."""

    def require_transactions(self, *tables: str) -> None:
        """See that a rollback undoes what is written into tables, where they are there.

        Raises:
            TargetUnavailableError: It would not, for one of them; the message says what to do.
        """

    def hold(self, table: str) -> list[Column] | None:
        """The columns of a table, which nobody alters until the transaction ends; None where there is none."""

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        """Load rows by the database's bulk path, and say how many went in."""

    def may_drop(self, table: str) -> bool:
        """Whether a trigger, a rule or a policy of a table may leave a row out of an UPDATE without a word."""

    def stage(
        self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str]
    ) -> AbstractContextManager[str]:
        """Load rows beside a table, where only this transaction sees them; gives the name to select from, quoted."""


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

    def quote(self, name: str) -> str:
        """A name as its SQL takes it.

        Raises:
            BatchRefusedError: It can't hold such a name; the message says why.
        """

    @property
    def types(self) -> Types:
        """Its part of the table of types."""

    def type_name(self, type_: pa.DataType, *, key: bool = False) -> str | None:
        """The column type for an Arrow type, also where the column is part of a key; None for nulls."""

    def once(self, insert: str) -> str:
        """An INSERT statement that does nothing where its key is there already."""

    def locked(self, select: str) -> str:
        """A SELECT statement that locks its rows until the transaction ends."""

    def fresh(self, select: str) -> str:
        """A SELECT statement that sees what an UPDATE sees, not what was there when the transaction began."""

    def update_from(self, table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
        """The UPDATE of a table's rows by the staged rows with the same keys; names are quoted."""

    def key_twin(self, table: str, staged: str, keys: Sequence[str], texts: Sequence[str]) -> str:
        """The query for a staged row whose key is that of a row of the table, but for the letters of ``texts``."""

    def create_table(self, table: str, columns: Sequence[str], keys: Sequence[str] = ()) -> str:
        """The CREATE TABLE statement; it makes the keys unique where ``key_index`` can't in the same transaction."""

    def key_index(self, table: str, keys: Sequence[str]) -> str | None:
        """The statement that makes keys unique in a new table; None where it is better off without, or they are."""

    def type_of(self, declared: str) -> pa.DataType:
        """The Arrow type that holds what a column of a type holds."""

    def newest(self, old: Sequence[Column], wanted: Sequence[Column]) -> Sequence[Column] | None:
        """What a table can have once its rows are replaced by others; None where its types can't follow then."""

    def renew(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        """Empty a table and give it what ``newest`` said, in the transaction."""

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
        keys: A row replaces the one that has the same values in these columns; none: rows are added.
        on_conflict: ``"reject"``: a row with a value that fits no column is rejected; ``"json"``: the value goes into
            the column ``_extra``.
    """

    def __init__(
        self,
        database: Database,
        table: str,
        if_exists: IfExists,
        schema: SchemaRule,
        keys: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
    ) -> None:
        self._database = database
        self._table = table
        self.keys = tuple(keys)
        self._if_exists = if_exists
        self._schema = schema
        self._ready = False
        self._prepared: tuple[pa.Schema, Sequence[Column]] | None = None
        self._renews = False
        self._causes: Causes = unknown_cause
        self._stream = ""
        self.extra = EXTRA_COLUMN if on_conflict == "json" else None

    @property
    def limits(self) -> Sequence[Limit]:
        return self._database.types.limits

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
            session.require_transactions(LEDGER_TABLE, self._table)
            row = self._read_ledger(session, stream)
            self._stream = stream
            if row is None and self._if_exists == "fail" and self._is_of_others(session):
                raise TargetUnavailableError(
                    f"the table {self._table} exists and if_exists='fail'; rename or drop it, or use 'append'"
                )
            return row

    def columns(self) -> Sequence[Column] | None:
        with self._database.transaction() as session:
            columns = session.columns(self._table)
        if self._prepared and columns != list(self._prepared[1]):
            self._prepared = None
        return columns

    def prepare(self, schema: pa.Schema, causes: Causes = unknown_cause) -> Sequence[Column]:
        self._causes = causes
        if self._prepared is None or not self._prepared[0].equals(schema):
            self._prepared = schema, self._prepare(schema)
        return self._prepared[1]

    def same_column(self, one: str, other: str) -> bool:
        return self._database.same_column(one, other)

    def widen(self, column: Column, to: pa.DataType, causes: Causes = unknown_cause) -> Column | None:
        if self._schema == "freeze":
            return None
        self._prepared, self._causes = None, causes
        with self._recording() as changes, self._database.transaction() as session:
            wider = self._wider(session, column, to)
            declared = wider and self._database.type_name(wider)
            if wider is None or declared in {None, column.declared} or self._turns_to_text(column, str(declared)):
                return None
            widened_column = replace(column, type=wider, declared=declared)
            changed = self._database.change_type(session, self._table, column, widened_column)
            if changed.declared != column.declared:
                self._record(session, changes, [(column.name, column.declared, changed.declared)])
            return changed

    def load(self, rows: pa.Table, columns: Sequence[Column], claim: Claim) -> None:
        try:
            with self._recording() as changes, self._database.transaction() as session:
                self._step_ledger(session, claim)
                self._load(session, rows, columns, changes, only_new=claim.only_new)
        except TargetError:
            self._prepared = None
            raise

    def trial(self, rows: pa.Table, columns: Sequence[Column], *, only_new: bool = False) -> None:
        try:
            with self._database.transaction() as session:
                self._load(session, rows, columns, [], only_new=only_new)
                raise _RolledBackError
        except _RolledBackError:
            return

    def _prepare(self, schema: pa.Schema) -> Sequence[Column]:
        self._check_names(schema.names)
        with self._recording() as changes, self._database.transaction() as session:
            columns = session.columns(self._table)
            if columns is None:
                return self._create(session, schema)
            if self.takes_newest and self._schema == "evolve" and (newest := self._newest(schema, columns)):
                return newest
            if self._schema == "evolve" and (new := self._unknown(schema, columns)):
                return self._add(session, changes, new)
            return columns

    def _read_ledger(self, session: Session, stream: str) -> LedgerRow | None:
        """Read under a lock: a commit of ours that the server still holds has ended first."""
        select = f"SELECT epoch, sequence, skip FROM {LEDGER_TABLE} WHERE stream = ?"
        rows = session.rows(self._database.locked(select), (stream,))
        return LedgerRow(*rows[0]) if rows else None

    def _step_ledger(self, session: Session, claim: Claim) -> None:
        """Compare and set, as the transaction's first statement: it locks the row until the commit."""
        epoch, sequence, skip = claim.after
        if claim.before is None:
            insert = f"INSERT INTO {LEDGER_TABLE} VALUES (?, ?, ?, ?, ?)"
            values: tuple[Any, ...] = (claim.stream, epoch, sequence, skip, claim.rows)
            changed = session.run(self._database.once(insert), values)
        else:
            changed = session.run(
                f"UPDATE {LEDGER_TABLE} SET epoch = ?, sequence = ?, skip = ?, loaded = loaded + ?"
                " WHERE stream = ? AND epoch = ? AND sequence = ? AND skip = ?",
                (epoch, sequence, skip, claim.rows, claim.stream, *claim.before),
            )
        if changed != 1:
            raise LedgerMovedError("the ledger is not where this stream left it")

    def _make_ledger(self) -> None:
        """Make our tables; other streams may be at just that, each of which may win once."""
        for left in reversed(range(_MAKING_TRIES)):
            try:
                with self._database.transaction() as session:
                    _make_ledger(session, self._database)
            except TargetUnavailableError:
                if not left:
                    raise
                time.sleep(_MAKING_PAUSE_S)
            else:
                return

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
        there = session.hold(self._table)
        if there != list(columns) and not (there and self._renews):
            raise TableChangedError(f"the table {self._table} was altered meanwhile; the batch is cast anew")
        if self.takes_newest and there == list(columns):
            session.run(f"DELETE FROM {self._quoted}")
        elif self.takes_newest and there:
            self._database.renew(session, self._quoted, there, columns)
            self._record(session, changes, _differences(there, columns))
        by_name = {column.name: column for column in columns}
        if self.keys and not self.takes_newest:
            self._upsert(session, rows, by_name, only_new=only_new)
            return
        loaded = session.insert(self._table, rows, by_name)
        if loaded != rows.num_rows:
            raise BatchRefusedError(
                f"{self._table} took {loaded} of {rows.num_rows} rows; a trigger or rule of the table drops some"
            )

    def _newest(self, schema: pa.Schema, columns: Sequence[Column]) -> Sequence[Column] | None:
        """The columns for the newest frame; those whose type takes the frame's as it is stay as they are."""
        known = {column.name: column for column in columns}
        wanted = [self._wanted(field, known.get(field.name)) for field in schema]
        newest = self._database.newest(columns, wanted)
        self._renews = newest is not None
        same = newest is not None and {*newest} == {*columns}
        return columns if same else newest

    def _wanted(self, field: pa.Field, known: Column | None) -> Column:
        declared = self._database.type_name(field.type)
        fits = known is not None and (declared is None or widened(known.type, _plain(field.type)) == known.type)
        if known is not None and fits:
            return known
        declared = declared or str(self._database.type_name(pa.string()))
        return Column(field.name, self._database.type_of(declared), declared)

    def _upsert(self, session: Session, rows: pa.Table, columns: Mapping[str, Column], *, only_new: bool) -> None:
        names = [self._database.quote(name) for name in rows.column_names]
        keys = [self._database.quote(key) for key in self.keys]
        listed = ", ".join(names)
        with session.stage(self._table, rows, columns, self.keys) as staged:
            self._check_keys_apart(session, staged, rows)
            same = " AND ".join(f"old.{key} = {staged}.{key}" for key in keys)
            there = self._database.fresh(f"SELECT 1 FROM {staged} JOIN {self._quoted} AS old ON {same} LIMIT 1")
            if only_new and session.rows(there):
                raise BatchRefusedError(key_is_there(self._table, self.keys))
            values = [name for name in names if name not in keys]
            if values and not only_new:
                self._update(session, staged, values, keys)
            absent = f"FROM {staged} LEFT JOIN {self._quoted} AS old ON {same} WHERE old.{keys[0]} IS NULL"
            new = ", ".join(f"{staged}.{name}" for name in names)
            inserted = session.run(f"INSERT INTO {self._quoted} ({listed}) SELECT {new} {absent}")
            missing = self._database.fresh(f"SELECT count(*) {absent}")
            if inserted < rows.num_rows and session.rows(missing) != [(0,)]:
                raise BatchRefusedError(f"{self._table} did not take all rows; a trigger or rule of it drops some")

    def _update(self, session: Session, staged: str, values: Sequence[str], keys: Sequence[str]) -> None:
        expected: int | None = None
        if session.may_drop(self._table):
            same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
            found = f"EXISTS (SELECT 1 FROM {staged} AS new WHERE {same})"
            expected = int(session.rows(f"SELECT count(*) FROM {self._quoted} AS old WHERE {found}")[0][0])
        updated = session.run(self._database.update_from(self._quoted, staged, values, keys))
        if expected is not None and updated != expected:
            raise BatchRefusedError(
                f"{self._table} updated {updated} of {expected} rows; a trigger, rule or policy of it drops some"
            )

    def _check_keys_apart(self, session: Session, staged: str, rows: pa.Table) -> None:
        """Texts that differ may be one to the table: in case, in a space at the end."""
        if texts := [key for key in self.keys if _plain(rows.field(key).type) == pa.string()]:
            quoted = [self._database.quote(key) for key in self.keys]
            keys = ", ".join(quoted)
            if session.rows(f"SELECT 1 FROM {staged} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"):
                raise BatchRefusedError(f"another row has the same key ({keys}) to the table, though not to the letter")
            letters = [self._database.quote(text) for text in texts]
            if session.rows(self._database.key_twin(self._quoted, staged, quoted, letters)):
                raise BatchRefusedError(f"a row of the table has the same key ({keys}) to it, though not to the letter")

    @property
    def _quoted(self) -> str:
        return self._database.quote(self._table)

    def _create(self, session: Session, schema: pa.Schema) -> list[Column]:
        typed = self._typed(schema)
        if lacking := set(self.keys) - {name for name, _ in typed}:
            raise BatchRefusedError(f"no row has a value in {', '.join(sorted(lacking))}, which is part of the key")
        fields = typed or [(field.name, pa.string()) for field in schema]
        declared = [
            f"{self._database.quote(name)} {self._database.type_name(type_, key=name in self.keys)}"
            for name, type_ in fields
        ]
        keys = [self._database.quote(key) for key in self.keys]
        self._make(session, self._database.create_table(self._quoted, declared, keys))
        if keys and (index := self._database.key_index(self._quoted, keys)):
            session.run(index)
        if not typed:
            self._record(session, [], [(name, None, _UNDECIDED) for name, _ in fields])
        return session.columns(self._table) or []

    def _is_of_others(self, session: Session) -> bool:
        made = f"SELECT count(*) FROM {CHANGES_TABLE} WHERE table_name = ? AND column_name = '' AND new_type = ?"
        is_there = session.columns(self._table) is not None
        return is_there and session.rows(made, (self._table, _made_by(self._stream))) == [(0,)]

    def _make(self, session: Session, create: str) -> None:
        """What says that the table is this stream's is there first, should we die before the first load is in."""
        if self._if_exists == "fail":
            values = (_now(), self._table, "", _made_by(self._stream))
            session.run(
                f"INSERT INTO {CHANGES_TABLE} (changed_at, table_name, column_name, new_type, frame_ns)"
                " VALUES (?, ?, ?, ?, 0)",
                values,
            )
        try:
            session.run(create)
        except Exception:
            if self._if_exists == "fail":
                self._take_back(session)
            raise

    def _take_back(self, session: Session) -> None:
        """Where a CREATE TABLE that failed has committed what was before it."""
        with suppress(Exception):
            session.run(
                f"DELETE FROM {CHANGES_TABLE} WHERE table_name = ? AND column_name = '' AND new_type = ?",
                (self._table, _made_by(self._stream)),
            )

    def _add(self, session: Session, changes: list[SchemaChange], new: list[tuple[str, pa.DataType]]) -> list[Column]:
        declared = [(name, str(self._database.type_name(type_))) for name, type_ in new]
        for name, as_ in declared:
            session.run(f"ALTER TABLE {self._quoted} ADD COLUMN {self._database.quote(name)} {as_}")
        self._record(session, changes, [(name, None, as_) for name, as_ in declared])
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
        """The type to change to.

        Any, for a column that we made of nothing but nulls; a float, for an int whose rows a float holds exactly.
        """
        wider = widened(column.type, to)
        if wider is not None:
            return wider
        name, table = self._database.quote(column.name), self._quoted
        if self._is_undecided(session, column) and session.rows(f"SELECT count({name}) FROM {table}") == [(0,)]:
            return to
        if pa.types.is_integer(column.type) and pa.types.is_floating(to):
            beyond = f"SELECT count(*) FROM {table} WHERE {name} > {2**53} OR {name} < -{2**53}"
            return pa.float64() if session.rows(beyond) == [(0,)] else None
        return None

    def _is_undecided(self, session: Session, column: Column) -> bool:
        made = f"SELECT count(*) FROM {CHANGES_TABLE} WHERE table_name = ? AND column_name = ? AND new_type = ?"
        return session.rows(made, (self._table, column.name, _UNDECIDED)) != [(0,)]

    def _check_names(self, names: Sequence[str]) -> None:
        for number, name in enumerate(names):
            self._database.quote(name)
            twin = next((other for other in names[:number] if self._database.same_column(name, other)), None)
            if twin is not None:
                raise BatchRefusedError(
                    f"the columns {twin!r} and {name!r} are one column to the database; rename one before it is put"
                )

    @contextmanager
    def _recording(self) -> Iterator[list[SchemaChange]]:
        """Collects the changes of a transaction, and logs them once it has been committed."""
        changes: list[SchemaChange] = []
        yield changes
        for change in changes:
            _log.info("%s: %s", self._table, change.said)

    def _record(
        self, session: Session, changes: list[SchemaChange], made: Sequence[tuple[str, str | None, str | None]]
    ) -> None:
        for name, before, after in made:
            change = SchemaChange(name, before, after, self._causes(name))
            changes.append(change)
            session.run(
                f"INSERT INTO {CHANGES_TABLE} (changed_at, table_name, column_name, old_type, new_type, frame_ns)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (_now(), self._table, name, before, after, change.cause.frame_ns),
            )

    def _turns_to_text(self, column: Column, declared: str) -> bool:
        """A number of more digits than the database has a type for: no number of the table becomes a text for it."""
        number = pa.types.is_integer(column.type) or pa.types.is_decimal(column.type)
        return bool(number and pa.types.is_string(self._database.type_of(declared)))


def key_is_there(table: str, keys: Sequence[str]) -> str:
    """Why a row that was put again is refused."""
    return (
        f"{table} has a row of the same key ({', '.join(keys)}), which may be newer, so this one was not put in its"
        " place; drop this one, or delete that one and retry"
    )


def _differences(old: Sequence[Column], new: Sequence[Column]) -> list[tuple[str, str | None, str | None]]:
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


def _plain(type_: pa.DataType) -> pa.DataType:
    """A type without what only Arrow tells apart."""
    if pa.types.is_dictionary(type_):
        return _plain(type_.value_type)
    if pa.types.is_large_string(type_):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(type_) else type_


def _make_ledger(session: Session, database: Database) -> None:
    """Those that are there are left alone: to make tables may not be ours."""
    for table, columns in _OURS.items():
        if session.columns(table) is None:
            session.run(database.create_table(f"IF NOT EXISTS {table}", columns))
