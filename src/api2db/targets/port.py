"""The protocols that targets implement for delivery.

A target names its loader. ``"transactional"``: rows and ledger are committed together. ``"file"``: files are prepared
under temporary names, and published by a plan. ``"resumable"``: the target knows how many rows of a plan are committed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self, runtime_checkable

import pyarrow as pa

from api2db.errors import ConfigurationError
from api2db.targets.types import ValueLimit

LoaderName = Literal["transactional", "file", "resumable"]
IfExists = Literal["append", "replace", "fail"]
SchemaRule = Literal["evolve", "freeze"]
OnConflict = Literal["reject", "json"]


class LedgerRow(NamedTuple):
    """How far a stream has been committed, as a row of the target's ledger.

    Attributes:
        epoch: The epoch of the journal that wrote the row.
        sequence: All records up to this number are committed.
        skip: The number of committed rows of the next record.
    """

    epoch: str
    sequence: int
    skip: int


@dataclass(frozen=True, slots=True)
class LedgerUpdate:
    """A load's update of the ledger, which is made only if the ledger's row equals ``before``.

    Attributes:
        stream: The stream's key.
        before: The row when the ledger was last read or written; None for no row.
        after: The row after the load.
        rows: How many rows the load adds.
        only_new: With keys, whether a row whose key is in the table is refused instead of replacing that row.
    """

    stream: str
    before: LedgerRow | None
    after: LedgerRow
    rows: int = 0
    only_new: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        type: The Arrow type with exactly the values that the column can hold.
        declared: The type as the target writes it.
        fills: Whether the target fills in a value, such as a default, if rows lack the column.
        reads_text: Whether the target itself parses text for the column.
    """

    name: str
    type: pa.DataType
    declared: str
    fills: bool = False
    reads_text: bool = False


@dataclass(frozen=True, slots=True)
class ChangeOrigin:
    """Why a table's schema was changed.

    Attributes:
        frame_ns: The ``timestamp_ns`` of the first frame whose values needed the change.
        samples: Some of these values, for a log line; without secrets.
    """

    frame_ns: int = 0
    samples: str = ""


ChangeOrigins = Callable[[str], ChangeOrigin]


def unknown_origin(_column: str) -> ChangeOrigin:
    """The origin of a change that no frame caused."""
    return ChangeOrigin()


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A change of a table's schema, as in its row of ``_api2db_schema_changes``.

    Attributes:
        before: The old type; None for a new column.
        after: The new type; None for a removed column.
    """

    column: str
    before: str | None
    after: str | None
    origin: ChangeOrigin = field(default_factory=ChangeOrigin)

    @property
    def said(self) -> str:
        """The change and its origin, for a log line."""
        if self.after is None:
            change = "is gone"
        else:
            change = f"is new: {self.after}" if self.before is None else f"is {self.after} instead of {self.before}"
        samples = f", which has {self.origin.samples}" if self.origin.samples else ""
        return f"the column {self.column!r} {change}; by the frame {self.origin.frame_ns}{samples}"


@dataclass(frozen=True, slots=True)
class FrameRows:
    """Rows of one frame, or a part of them, for targets with one file for each frame."""

    timestamp_ns: int
    rows: pa.Table


@dataclass(slots=True)
class PlannedFile:
    """A file that is durable under a temporary name, and its final name; both without their folder."""

    temporary: str
    final: str


@dataclass(slots=True)
class FilePlan:
    """The steps that are left to publish the files of one load.

    Attributes:
        files: In the order of their publication.
        duplicates: How many rows were dropped because they repeat earlier ones.
    """

    files: list[PlannedFile] = field(default_factory=list)
    duplicates: int = 0

    def as_json(self) -> dict[str, Any]:
        """The plan as a checkpoint keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The plan of a checkpoint."""
        return cls([PlannedFile(**file) for file in content["files"]], content["duplicates"])


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The steps in which the rows of one load are sent.

    Attributes:
        ends: The number of rows after which each step ends. A step is committed as a whole or not at all, and never
            before the previous one.
        details: What the target needs to tell later how many rows are committed, as JSON.
    """

    ends: Sequence[int]
    details: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """How many rows the load has."""
        return self.ends[-1]

    def as_json(self) -> dict[str, Any]:
        """The plan as a checkpoint keeps it."""
        return {"ends": list(self.ends), "details": self.details}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The plan of a checkpoint."""
        return cls(content["ends"], content["details"])


class Target(Protocol):
    """Where rows are stored. One worker calls all methods. A class that inherits from it has the usual attributes.

    Attributes:
        keys: A row replaces the row with the same values in these columns. Empty: rows are added.
        largest_bytes: The largest size of one load in Arrow's memory; None for no limit.
        large_batches: Whether much larger batches than usual are loaded in less time for each row.
        replaces_table: Whether only the newest frame counts (``replace``).
        whole_frames: Whether a batch must not end within a frame.
        rest_s: The pause between two loads, in seconds, while less than a full batch waits and nobody waits for it.
    """

    keys: tuple[str, ...] = ()
    largest_bytes: int | None = None
    large_batches: bool = False
    replaces_table: bool = False
    whole_frames: bool = False
    rest_s: float = 0.0

    def connect(self) -> None:
        """Connect to the target; does nothing if it is connected.

        Raises:
            TargetUnavailableError: It can't be reached now; the message says why.
        """

    def close(self) -> None:
        """Release all connections and files; never raises. ``connect`` may follow."""

    def end_waiting(self) -> None:
        """From now on, raise instead of waiting for other streams of this process; called by any thread."""
        return


class TableTarget(Target, Protocol):
    """A table whose columns follow the data.

    Attributes:
        unplaced: Columns of the schema prepared last that the table can't have, each with the reason, for ``fit``.
        overflow_column: The name of the JSON column for mismatches; None if their rows are rejected.
    """

    unplaced: Mapping[str, str]
    overflow_column: str | None = None

    @property
    def limits(self) -> Sequence[ValueLimit]:
        """Values that it cannot hold, although their type has a column type."""

    def columns(self) -> Sequence[Column] | None:
        """The table's current columns; None if there is no table."""

    def prepare(self, schema: pa.Schema, origins: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        """Create the table, or add the columns of a schema that it lacks; return its columns."""

    def fold(self, name: str) -> str:
        """Return a name as the target compares names: those that are equal then are one column."""

    def widen(self, column: Column, to: pa.DataType, origins: ChangeOrigins = unknown_origin) -> Column | None:
        """Widen a column to hold another type too, if all its rows stay exact; return None if that is impossible.

        Raises:
            BatchRefusedError: The table forbids it, for instance because of an index.
        """


class BegunLoad(Protocol):
    """A load that was begun ahead of its turn.

    Attributes:
        rows: What it loads.
        columns: The table's columns when the rows were cast.
    """

    rows: pa.Table
    columns: Sequence[Column]

    def commit(self, update: LedgerUpdate) -> bool:
        """Update the ledger and commit, after the load in front was committed.

        Returns:
            False if nothing was loaded, for whatever reason; ``LedgerTarget.load`` may follow.

        Raises:
            TargetError: As ``LedgerTarget.load``.
        """

    def cancel(self) -> None:
        """Roll back; never raises."""


class LedgerTarget(TableTarget, Protocol):
    """A target with transactions: rows and ledger are committed together, so the ledger says which rows are."""

    loader: Literal["transactional"] = "transactional"

    @property
    def can_begin(self) -> bool:
        """Whether ``begin`` may ever return a load."""
        return False

    def begin(self, rows: pa.Table, columns: Sequence[Column]) -> BegunLoad | None:
        """Begin to load the next rows while other ones are prepared or loaded; called by another thread.

        Any method that may change the table rolls them back.

        Args:
            rows: As ``load``.
            columns: As ``load``; no value of ``rows`` is missing that the table would fill.

        Returns:
            None if that is not possible now.
        """
        return None

    def read_position(self, stream: str) -> LedgerRow | None:
        """Read the ledger under a lock, so after the end of any commit that is still under way."""

    def load(self, rows: pa.Table, columns: Sequence[Column], update: LedgerUpdate) -> None:
        """Load rows and update the ledger in one transaction.

        Args:
            rows: Cast to the types of ``columns``; they may lack columns, and the order is free.
            columns: The table's columns when the rows were cast.
            update: The update of the ledger.

        Raises:
            TableChangedError: The table has other columns now; nothing was loaded.
            LedgerMovedError: The ledger's row is not ``update.before``; nothing was loaded.
            BatchRefusedError: A row is refused for itself; nothing was loaded.
            TargetUnavailableError: Only the ledger says whether the rows were loaded.
        """

    def dry_run(self, rows: pa.Table, columns: Sequence[Column], *, only_new: bool = False) -> None:
        """Load rows and roll back; raises as ``load`` does."""


class PlannedTarget(Target, Protocol):
    """A target without transactions: the plan of a load is on disk before it is carried out."""

    loader: Literal["file"] = "file"

    def acquire(self, owner: str) -> None:
        """Mark the files of ``stage`` as one stream's, and remove those that an earlier run left without a plan."""

    def stage(self, pieces: Sequence[FrameRows], known: Callable[[], bool]) -> FilePlan:
        """Write the files under temporary names, and return the plan to publish them.

        Args:
            pieces: The rows to load.
            known: Whether a piece may have been loaded before, because the journal's positions were rebuilt.
        """

    def finish(self, plan: FilePlan, keep: Callable[[FilePlan], None]) -> None:
        """Carry out the rest of a plan. A plan that must change is first saved with ``keep``."""

    def discard(self, plan: FilePlan) -> None:
        """Remove the files of a plan that was never saved."""


class SteppedTarget(TableTarget, Protocol):
    """A target without transactions that knows how many rows of a plan are committed."""

    loader: Literal["resumable"] = "resumable"

    def acquire(self, owner: str) -> None:
        """Claim the table for one stream.

        Raises:
            TargetUnavailableError: The table belongs to another program and must not be shared.
        """
        return

    def shape(self, rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
        """Rows with the table's column names and kinds of values; as many, in the same order."""
        return rows

    def unsupported_rows(self, rows: pa.Table, columns: Sequence[Column]) -> Mapping[int, str]:
        """Rows that the table can't take although they have its types: the reason by the row's number."""
        return {}

    def plan(self, rows: pa.Table, columns: Sequence[Column]) -> LoadPlan:
        """Plan the load of rows, without sending any.

        Args:
            rows: Cast to the types of ``columns``; they may lack columns.
            columns: The table's columns when the rows were cast.

        Raises:
            RowsRefusedError: Some rows can't be sent at all.
        """

    def append(self, plan: LoadPlan, rows: pa.Table, columns: Sequence[Column]) -> None:
        """Carry out a plan, with the rows that it was made for.

        After an error only ``rows_committed`` says how many rows were loaded.

        Raises:
            TableChangedError: The table has other columns now.
            BatchRefusedError: Rows are refused for themselves.
            TargetUnavailableError: The outcome is unknown.
        """

    def rows_committed(self, plan: LoadPlan) -> int | None:
        """Return how many rows of a plan are committed, and prevent that more of them ever are.

        Returns:
            None if the target can no longer tell.
        """


class NoOrderError(ConfigurationError):
    """A target does not keep the order in which rows were added, and no column to sort by was given.

    Args:
        table: The table, for the message.
    """

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table} does not keep the order in which rows were added; name a column to sort by: head(by='…')"
        )


@runtime_checkable
class ReadableTarget(Protocol):
    """A target whose newest rows can be read. A target that is made for this creates nothing and loads nothing."""

    def newest(self, count: int, by: str | None) -> pa.Table | None:
        """Return the rows that were added last, the newest first.

        Args:
            count: How many at most.
            by: The column whose greatest values are the newest; None for the order in which rows were added.

        Returns:
            The rows in the types of the columns; None if there is no table.

        Raises:
            ConfigurationError: There is no such column, or the target does not keep the order of its rows.
            TargetUnavailableError: It can't be reached now.
        """

    def close(self) -> None:
        """Release all connections and files; never raises."""


AnyTarget = LedgerTarget | PlannedTarget | SteppedTarget
