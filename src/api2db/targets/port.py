"""What delivery asks of a target.

A target names its loader. ``"transactional"``: rows and ledger are committed together. ``"file"``: files are prepared
unseen, and published by a plan. ``"resumable"``: the target can be asked how many rows of a plan are in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Self

import pyarrow as pa

from api2db.targets.types import ValueLimit

LoaderName = Literal["transactional", "file", "resumable"]
IfExists = Literal["append", "replace", "fail"]
SchemaRule = Literal["evolve", "freeze"]
OnConflict = Literal["reject", "json"]


class LedgerRow(NamedTuple):
    """How far a stream has been committed, as the target's ledger has it.

    Attributes:
        epoch: The opening of the journal that wrote it.
        sequence: All records up to this number are in.
        skip: So many rows of the next one too.
    """

    epoch: str
    sequence: int
    skip: int


@dataclass(frozen=True, slots=True)
class LedgerUpdate:
    """The step of a ledger that one load makes: it is made only where the ledger stands at ``before``.

    Attributes:
        stream: The stream's key.
        before: What the ledger said when it was last read or written; None for no row.
        after: What it will say.
        rows: How many rows the load adds.
        only_new: With keys, whether a row whose key is in the table is refused, where else it would replace that one.
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
        type: The Arrow type that holds exactly what the column holds.
        declared: The type as the target itself writes it.
        fills: Whether the target puts in a value of its own, such as a default, where rows lack the column.
        reads_text: Whether the target itself reads text for the column, in a form of its own.
    """

    name: str
    type: pa.DataType
    declared: str
    fills: bool = False
    reads_text: bool = False


@dataclass(frozen=True, slots=True)
class ChangeOrigin:
    """What brought a change of a table about.

    Attributes:
        frame_ns: The ``timestamp_ns`` of the first frame that has such values.
        samples: Some of these values, for a log line; without secrets.
    """

    frame_ns: int = 0
    samples: str = ""


ChangeOrigins = Callable[[str], ChangeOrigin]


def unknown_origin(_column: str) -> ChangeOrigin:
    """For changes that no frame brought about."""
    return ChangeOrigin()


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A change of a table's schema, as its row in ``_api2db_schema_changes``.

    Attributes:
        before: None for a column that is new.
        after: None for a column that is gone.
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
    """Rows of one frame, or a part of them, for targets that keep frames apart."""

    timestamp_ns: int
    rows: pa.Table


@dataclass(slots=True)
class PlannedFile:
    """A file that is durable under a temporary name, and the name that it is to have; both without their folder."""

    temporary: str
    final: str


@dataclass(slots=True)
class FilePlan:
    """What is left to do to publish the files of one load.

    Attributes:
        files: In the order in which they are published.
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
    """Where the rows of one load go.

    Attributes:
        ends: After how many rows each step ends. A step is all or nothing, and is not in before the one in front of it.
        details: What the target itself needs in order to tell later how many rows are in, as JSON.
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
    """Where rows land. All methods are called by one worker.

    Attributes:
        keys: A row replaces the one with the same values in these columns; none: rows are added.
        largest_bytes: How large one load may be in Arrow's memory; None for no limit.
    """

    keys: tuple[str, ...]
    largest_bytes: int | None

    def connect(self) -> None:
        """Reach the target; does nothing where it is reached already.

        Raises:
            TargetUnavailableError: It can't be reached now; the message says why.
        """

    def close(self) -> None:
        """Let everything go; never raises. ``connect`` may follow."""

    def end_waiting(self) -> None:
        """From now on a method that waits for other streams of this process, or would, raises; called by any thread."""

    @property
    def replaces_table(self) -> bool:
        """Whether only the newest frame counts (``replace``)."""

    @property
    def whole_frames(self) -> bool:
        """Whether a batch must not end within a frame."""


class TableTarget(Target, Protocol):
    """A table whose columns follow the data."""

    @property
    def unplaced(self) -> Mapping[str, str]:
        """Columns of the schema prepared last that the table can't have, each with the reason; as ``fit`` sees them."""

    @property
    def limits(self) -> Sequence[ValueLimit]:
        """Values that it has no place for, though their type has a column type."""

    def columns(self) -> Sequence[Column] | None:
        """The table's columns as they are now; None where there is no table."""

    @property
    def overflow_column(self) -> str | None:
        """The name of the JSON column for values that fit no column; None where their rows are rejected."""

    def prepare(self, schema: pa.Schema, origins: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        """Make the table, or add the columns that a schema has and the table lacks; give what it has then."""

    def fold(self, name: str) -> str:
        """A name as the target compares names: those that are equal then are one column."""

    def widen(self, column: Column, to: pa.DataType, origins: ChangeOrigins = unknown_origin) -> Column | None:
        """Change a column to hold another type too, where all its rows stay exact; None where that can't be.

        Raises:
            BatchRefusedError: The table forbids it, for an index or a rule of its own.
        """


class LedgerTarget(TableTarget, Protocol):
    """A target with transactions: rows and ledger are committed together, so the ledger alone says what is in."""

    loader: Literal["transactional"]

    def read_position(self, stream: str) -> LedgerRow | None:
        """Read the ledger under a lock, so that a commit that is still under way has ended first."""

    def load(self, rows: pa.Table, columns: Sequence[Column], update: LedgerUpdate) -> None:
        """Rows and update in one transaction.

        Args:
            rows: Cast to the types of ``columns``, in any order, some of the columns.
            columns: What the table had when the rows were cast.
            update: The step of the ledger.

        Raises:
            TableChangedError: The table's columns are others by now; nothing was loaded.
            LedgerMovedError: The ledger does not stand at ``update.before``; nothing was loaded.
            BatchRefusedError: A row is refused for itself; nothing was loaded.
            TargetUnavailableError: Whether it was loaded is for the ledger to say.
        """

    def dry_run(self, rows: pa.Table, columns: Sequence[Column], *, only_new: bool = False) -> None:
        """Load rows and roll back; raises as ``load`` does."""


class PlannedTarget(Target, Protocol):
    """A target without transactions: what a load is about to do is on disk before it is done."""

    loader: Literal["file"]

    def acquire(self, owner: str) -> None:
        """Mark what ``stage`` will leave as one stream's, and clear what an earlier life of it left without a plan."""

    def stage(self, pieces: Sequence[FrameRows], known: Callable[[], bool]) -> FilePlan:
        """Prepare all that can be prepared unseen, and say what is left to do.

        Args:
            pieces: What to load.
            known: Whether a piece may have been loaded before (the journal's positions were rebuilt).
        """

    def finish(self, plan: FilePlan, keep: Callable[[FilePlan], None]) -> None:
        """Do what a plan says, whatever part of it has been done; a plan that must change is kept first."""

    def discard(self, plan: FilePlan) -> None:
        """Undo what ``stage`` left, where its plan was never kept."""


class SteppedTarget(TableTarget, Protocol):
    """A target without transactions that can be asked, whenever there is doubt, how many rows of a plan are in."""

    loader: Literal["resumable"]

    def acquire(self, owner: str) -> None:
        """Take the table as one stream's.

        Raises:
            TargetUnavailableError: It is somebody else's, and not to be shared.
        """

    def shape(self, rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
        """Rows under the table's names, and of kinds of values that it has; as many, in the same order."""

    def unsupported_rows(self, rows: pa.Table, columns: Sequence[Column]) -> Mapping[int, str]:
        """Why its table can't take rows, though they are of its types; by the row's number."""

    def plan(self, rows: pa.Table, columns: Sequence[Column]) -> LoadPlan:
        """Say where rows will go; none of them is sent yet.

        Args:
            rows: Cast to the types of ``columns``, some of them.
            columns: What the table had when the rows were cast.

        Raises:
            RowsRefusedError: Rows that can't be sent at all.
        """

    def append(self, plan: LoadPlan, rows: pa.Table, columns: Sequence[Column]) -> None:
        """Do what a plan says, with the rows that it was made for.

        Raises:
            TableChangedError: The table's columns are others by now; nothing was loaded.
            BatchRefusedError: Rows are refused for themselves.
            TargetUnavailableError: How much was loaded is for ``rows_committed`` to say.
        """

    def rows_committed(self, plan: LoadPlan) -> int | None:
        """How many rows of a plan are in; from now on no more of it will get in.

        Returns:
            None where nobody can tell any more.
        """


AnyTarget = LedgerTarget | PlannedTarget | SteppedTarget
