"""What the rest of the house sees of a journal, so that another kind of log can stand in its place."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
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
    """How far a stream is: all records up to ``sequence``, and ``skip`` rows of the next one that is its own."""

    sequence: int
    skip: int = 0


class ReadLimit(NamedTuple):
    """How much one read may give: it stops at the first of them, but gives at least one row."""

    rows: int
    size_bytes: int
    whole_frames: bool = False


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """Who a stream is across restarts.

    Attributes:
        name: Collector, normalised target and table, or the ``stream_id`` that the user gave.
        stream_type: The folder name below ``upload_failed/`` and ``rejected/``.
        quota_bytes: What may wait for it on disk; None for no limit.
    """

    name: str
    stream_type: str
    quota_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A slice of a frame as read back.

    Attributes:
        position: Where a stream stands once this entry is in its target.
        timestamp_ns: The frame's time and name; slices of one frame share it.
        batch: Its rows that have not been delivered yet.
        frame_end: Whether this ends its frame.
        retried: Whether its rows had been set aside before; those of their keys may be newer.
        refused: Whether no target takes its rows; its schema says why.
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
        oldest_ns: When the oldest waiting frame was put, nanoseconds since 1970; None when nothing waits.
    """

    frames: int
    rows: int
    size_bytes: int
    oldest_ns: int | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the entries that an acknowledgement covers, in rows and files."""

    frames: int = 0
    rows: int = 0
    rejected: int = 0
    rejected_bytes: int = 0
    superseded: int = 0
    duplicates: int = 0


class Superseded(NamedTuple):
    """What stood before the newest frame and will never be loaded."""

    frames: int = 0
    rows: int = 0


class StreamReader(Protocol):
    """One stream's view of a journal: read, acknowledge, backlog, and its notes."""

    @property
    def key(self) -> str:
        """The stream's own id, drawn when it was registered: its key in every ledger."""

    @property
    def epoch(self) -> str:
        """The random id of this opening of the journal."""

    @property
    def journal_id(self) -> str:
        """The random id of the journal."""

    @property
    def position(self) -> Position:
        """How far the stream has been acknowledged."""

    @property
    def delivered(self) -> Delivered:
        """What has become of everything before the position, since the stream was registered."""

    def knows_epoch(self, epoch: str) -> bool:
        """Whether this journal was ever opened under an epoch."""

    def read(self, limit: ReadLimit, timeout_s: float | None = None) -> list[Entry]:
        """The next entries behind the position, fsynced; an empty list after a timeout or when woken."""

    @property
    def unread_bytes(self) -> int:
        """The size of what waits behind the entries of the last ``read``."""

    def prefetch(self, limit: ReadLimit) -> AbstractContextManager[None]:
        """While it is entered, what stands behind the entries of the last ``read`` is read for the next one.

        Entered before these are acknowledged. That read begins anew where it begins at another place, or has another
        limit. Never raises for the disk; little that waits is left to the read itself.
        """

    def newest(self) -> tuple[list[Entry], Superseded]:
        """All entries of the newest waiting frame, and how much stands before it."""

    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        """Move on, and drop notes in the same transaction; durable when notes are dropped."""

    def seek(self, position: Position) -> Backlog:
        """Take over what a ledger says; give what waits before that place, and does not any more."""

    def backlog(self) -> Backlog:
        """What waits."""

    def mark(self) -> int:
        """A mark behind everything that is visible now."""

    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        """Whether everything before a mark is acknowledged; waits for that as long as it is told."""

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        """A note that was kept, or None."""

    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; durable when this returns."""

    def set_error(self, trouble: str | None) -> None:
        """Record why nothing is delivered, until an acknowledgement moves on; None where that has passed."""

    def add_warning(self, warning: str) -> None:
        """Record what a person should know though all is delivered, while the journal is open."""

    def wake(self) -> None:
        """End a waiting ``read``."""

    def on_news(self, tell: Callable[[], None]) -> None:
        """Have a function called whenever a waiting ``read`` would end: by any thread, with the journal's lock held."""


class Journal(Protocol):
    """A durable log of frames, one a collector."""

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
        """Store frames together, and say the last sequence number.

        Args:
            frames: They become visible together, in this order; rows that no target takes belong to the frame behind.
            stream_no: All streams, or one.
            cursor: The collector's state that goes with them.
            removes: A file below the home whose rows these are, which are put again; it goes when they are durable.
            block: Whether to wait when a stream's quota is spent.
            timeout_s: How long to wait for that, seconds.

        Raises:
            BacklogFullError: A quota is spent.
            JournalWriteError: The disk refused; whether the frames count is unknown.
            JournalBusyError: This process does not own the journal, or not any more.
        """

    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, StreamReader]:
        """Register a stream at the journal's end, or take it up where it was.

        Raises:
            ConfigurationError: A stream of this identity is attached already.
        """

    def detach(self, stream_no: StreamNo) -> None:
        """The stream has ended; what waits for it stays."""

    def cursor(self) -> dict[str, Any]:
        """The collector's state as of its last committed group."""

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        """Answer what commands ask of the owner."""
