"""The journal as every other package sees it, so that another kind of log can take its place."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NewType, Protocol

import pyarrow as pa

from api2db.frames import Refused, Rows

Durability = Literal["full", "process"]
StreamNo = NewType("StreamNo", int)
ALL = StreamNo(0)
CheckpointKind = Literal["plan", "parked", "pending", "rebuilt", "adopt"]
Checkpoint = dict[str, Any]


class Position(NamedTuple):
    """How far a stream has come: all records up to ``sequence``, and ``skip`` rows of the stream's next record."""

    sequence: int
    skip: int = 0


class ReadLimit(NamedTuple):
    """The limits of one read: it stops at the first one reached, but returns at least one row."""

    rows: int
    size_bytes: int
    whole_frames: bool = False


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """What identifies a stream across restarts.

    Attributes:
        name: Collector, normalised target and table, or the ``stream_id`` that the user gave.
        stream_type: The folder name below ``upload_failed/`` and ``rejected/``.
        quota_bytes: How many bytes may wait for it on disk; None for no limit.
    """

    name: str
    stream_type: str
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A slice of a frame as read back.

    Attributes:
        position: The stream's position once this entry is in its target.
        timestamp_ns: The frame's time and name, shared by all its slices.
        batch: The rows that have not been delivered yet.
        frame_end: Whether this is the frame's last slice.
        retried: Whether its rows were rejected before; newer rows of the same keys may exist.
        refused: Whether no target accepts its rows; its schema says why.
    """

    position: Position
    timestamp_ns: int
    batch: pa.RecordBatch
    frame_end: bool
    retried: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one stream.

    Attributes:
        oldest_ns: When the oldest waiting frame was put, nanoseconds since 1970; None if nothing waits.
    """

    frames: int
    rows: int
    size_bytes: int
    oldest_ns: int | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The outcome of the entries that an acknowledgement covers, in rows and files."""

    frames: int = 0
    rows: int = 0
    rejected: int = 0
    rejected_bytes: int = 0
    superseded: int = 0
    duplicates: int = 0


class Superseded(NamedTuple):
    """Frames before the newest one, which will never be loaded."""

    frames: int = 0
    rows: int = 0


class StreamReader(Protocol):
    """One stream's end of a journal: read, acknowledge, and the stream's checkpoints."""

    @property
    def key(self) -> str:
        """The stream's random id, drawn at registration; its key in every ledger."""

    @property
    def epoch(self) -> str:
        """The random id of this open of the journal."""

    @property
    def journal_id(self) -> str:
        """The random id of the journal."""

    @property
    def position(self) -> Position:
        """The position up to which the stream has acknowledged."""

    @property
    def delivered(self) -> Delivered:
        """The outcome of everything before the position, since the stream was registered."""

    def knows_epoch(self, epoch: str) -> bool:
        """Whether this journal was ever opened under an epoch."""

    @property
    def waiting_bytes(self) -> int:
        """The size of what is visible and not acknowledged."""

    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        """Return the next durable entries.

        Args:
            limit: Where to stop.
            timeout_s: How long to wait for an entry, seconds; None for as long as it takes. ``wake`` ends the wait.
            after: Read behind this position, the last one of an earlier read, and don't wait. By default the read
                starts behind the acknowledged position.
        """

    def newest(self) -> tuple[list[Entry], Superseded]:
        """Return all entries of the newest waiting frame, and how much stands before it."""

    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        """Move the position, and clear checkpoints in the same transaction; durable if any are cleared."""

    def seek(self, position: Position) -> Backlog:
        """Adopt a ledger's position; return what waited before it and no longer does."""

    def backlog(self) -> Backlog:
        """Return what waits."""

    def mark(self) -> int:
        """Return a mark behind everything that is visible now."""

    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        """Wait until everything before a mark is acknowledged; return whether it is."""

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        """Return a saved checkpoint, or None."""

    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        """Save a checkpoint; durable on return."""

    def set_error(self, trouble: str | None) -> None:
        """Set why nothing is delivered, until the next acknowledgement; None clears it."""

    def add_warning(self, warning: str) -> None:
        """Add a warning that stays while the journal is open, even though everything is delivered."""

    def wake(self) -> None:
        """End a waiting ``read``."""

    def on_news(self, tell: Callable[[], None]) -> None:
        """Have a function called whenever a waiting ``read`` would end: by any thread, with the journal's lock held."""


class Journal(Protocol):
    """A durable log of frames, one for each collector."""

    def append(
        self,
        frames: Sequence[Rows | Refused],
        *,
        stream_no: StreamNo = ALL,
        cursor: Mapping[str, Any] | None = None,
        removes: str | None = None,
        block: bool = True,
        timeout_s: float | None = None,
    ) -> int:
        """Store frames together and return the last sequence number.

        Args:
            frames: They become visible together, in this order. Refused rows belong to the frame behind them.
            stream_no: All streams, or one.
            cursor: The collector's state, stored with the frames.
            removes: A file below the home whose rows are put again here; it is removed once they are durable.
            block: Whether to wait while a stream's quota is spent.
            timeout_s: How long to wait for that, seconds.

        Raises:
            BacklogFullError: A quota is spent.
            JournalWriteError: The disk refused; it is unknown whether the frames count.
            JournalBusyError: This process does not own the journal, or no longer does.
        """

    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, StreamReader]:
        """Register a stream at the journal's end, or resume it at its position.

        Raises:
            ConfigurationError: A stream of this identity is attached already.
        """

    def detach(self, stream_no: StreamNo) -> None:
        """Detach a stream; what waits for it stays."""

    def cursor(self) -> dict[str, Any]:
        """Return the collector's state as of its last committed group."""

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        """Register the answer to a command's request."""
