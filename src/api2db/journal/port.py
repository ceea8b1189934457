"""The journal as every other package sees it: protocols that another kind of log can implement.

``JournalStore`` has the journals of a project, one for each collector. ``Journal`` is the end of those who put. Each
stream has an ``AttachedStream``; most parts of a stream need only one of the protocols that it combines.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, NamedTuple, NewType, Protocol

from api2db.errors import JournalError

if TYPE_CHECKING:  # Whoever looks at a journal needs no rows, and these libraries take longer to import than to look.
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from api2db.frames import Frame, Refused

Durability = Literal["full", "process"]
StreamNo = NewType("StreamNo", int)
ALL = StreamNo(0)
ENTRY_BYTES: Final = 8 << 10  # what an entry counts at least: Arrow's objects take this for a frame of a few rows
CheckpointKind = Literal["plan", "parked", "pending", "rebuilt", "adopt"]
Checkpoint = dict[str, Any]


class NotAttachedError(JournalError):
    """The journal was closed, or the stream was forgotten, before anything was stored: attach again."""


class Position(NamedTuple):
    """How far a stream has come: all records up to ``sequence``, and ``skip`` rows of the stream's next record."""

    sequence: int
    skip: int = 0


Tell = Callable[[int, int], None]
"""Called with the rows and the bytes that wait, as ``Reader.waiting_rows`` and ``Reader.waiting_bytes``."""


class ReadLimit(NamedTuple):
    """The limits of one read: it stops at the first one reached, but returns at least one row.

    Attributes:
        size_bytes: An entry counts at least ``ENTRY_BYTES`` towards it.
    """

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


@dataclass(frozen=True, slots=True, eq=False)
class WholeFrames:
    """Frames of one slice each, one after another, as columns: a frame of a few rows is not worth an object.

    Attributes:
        sequences: The sequence number of each.
        times_ns: The ``timestamp_ns`` of each.
        rows: The number of rows of each.
        traces: The context of the span that put each; empty if none was stored.
    """

    sequences: "npt.NDArray[np.int64]"
    times_ns: "npt.NDArray[np.int64]"
    rows: "npt.NDArray[np.int64]"
    traces: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.sequences)

    def first(self, frames: int) -> "WholeFrames":
        """Only the first frames."""
        return WholeFrames(self.sequences[:frames], self.times_ns[:frames], self.rows[:frames], self.traces[:frames])

    def up_to(self, sequence: int) -> int:
        """How many have no higher sequence number."""
        return int(self.sequences.searchsorted(sequence, side="right"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A slice of a frame as read back, or many small frames that were read together.

    Attributes:
        position: The stream's position once this entry is in its target.
        timestamp_ns: The time and name of the frame, shared by all its slices; of the last frame if there are many.
        batch: The rows that have not been delivered yet.
        frame_end: Whether this is the frame's last slice.
        retried: Whether its rows were rejected before; newer rows of the same keys may exist.
        refused: Whether no target accepts its rows; its schema says why.
        trace: The context of the span that put it; see ``api2db.tracing``. That of the last frame if there are many.
        earlier: The whole frames whose rows come first in ``batch``, before those of the last frame; None without any.
    """

    position: Position
    timestamp_ns: int
    batch: "pa.RecordBatch"
    frame_end: bool
    retried: bool = False
    refused: bool = False
    trace: bytes | None = None
    earlier: WholeFrames | None = None

    @property
    def size_bytes(self) -> int:
        """What it counts towards the limit of a read, by the size of its values."""
        return max(ENTRY_BYTES, int(self.batch.nbytes))

    @property
    def frames(self) -> int:
        """How many frames end in it."""
        return int(self.frame_end) + (0 if self.earlier is None else len(self.earlier))

    @property
    def first_time_ns(self) -> int:
        """The ``timestamp_ns`` of its first frame."""
        return self.timestamp_ns if self.earlier is None else int(self.earlier.times_ns[0])

    @property
    def traces(self) -> "Sequence[bytes | None]":
        """The contexts of the spans that put its frames."""
        return [self.trace] if self.earlier is None else [*self.earlier.traces, self.trace]

    def frame_times(self) -> Iterator[tuple[int, int]]:
        """Yield the ``timestamp_ns`` and the number of rows of each frame."""
        rows = self.batch.num_rows
        if self.earlier is not None:
            yield from zip(self.earlier.times_ns.tolist(), self.earlier.rows.tolist(), strict=True)
            rows -= int(self.earlier.rows.sum())
        yield self.timestamp_ns, rows

    def up_to(self, frames: int) -> "Entry":
        """Return an entry of the first of its ``earlier`` frames.

        Args:
            frames: How many, at least one.
        """
        earlier, last = self.earlier, frames - 1
        if earlier is None:
            raise AssertionError("the entry has only one frame")
        position, batch = Position(int(earlier.sequences[last])), self.batch.slice(0, int(earlier.rows[:frames].sum()))
        trace = earlier.traces[last] if earlier.traces else None
        before = earlier.first(last) if last else None
        return Entry(position, int(earlier.times_ns[last]), batch, True, trace=trace, earlier=before)

    def split(self) -> "Iterator[Entry]":
        """Yield an entry for each slice."""
        begin = 0
        if self.earlier is not None:
            columns = (self.earlier.sequences, self.earlier.times_ns, self.earlier.rows)
            frames = zip(*(column.tolist() for column in columns), strict=True)
            for (sequence, time_ns, rows), trace in zip_longest(frames, self.earlier.traces):
                yield Entry(Position(sequence), time_ns, self.batch.slice(begin, rows), True, trace=trace)
                begin += rows
        yield replace(self, batch=self.batch.slice(begin), earlier=None)


def split(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield an entry for each slice of some entries."""
    return (piece for entry in entries for piece in entry.split())


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


@dataclass(frozen=True, slots=True)
class StreamOverview:
    """A stream as its journal knows it; figures are since the stream was registered.

    Attributes:
        running: Whether a living process delivers it.
        oldest_ns: When the oldest waiting frame was put; None when nothing waits.
        error_at: When the last error was seen, seconds since 1970.
    """

    collector: str
    identity: str
    stream_type: str
    running: bool
    frames_waiting: int
    rows_waiting: int
    bytes_waiting: int
    frames_delivered: int
    rows_delivered: int
    rows_parked: int
    rows_rejected: int
    rows_superseded: int
    duplicates_dropped: int
    oldest_ns: int | None
    last_error: str | None
    error_at: float | None

    @property
    def lag_s(self) -> float:
        """The age of the oldest waiting frame, seconds; 0 when nothing waits."""
        return max(0.0, time.time() - self.oldest_ns / 1e9) if self.oldest_ns else 0.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """How far the owner of a journal has read its segments again, after a damage or the loss of its state file.

    Attributes:
        begun_at: When it began, seconds since 1970.
    """

    done_bytes: int
    total_bytes: int
    begun_at: float

    @property
    def left_s(self) -> float | None:
        """The time left at the rate so far, seconds; None before the first byte."""
        if not self.done_bytes:
            return None
        return max(0.0, time.time() - self.begun_at) * (self.total_bytes - self.done_bytes) / self.done_bytes


@dataclass(frozen=True, slots=True)
class JournalOverview:
    """A journal at one moment, as anybody may see it.

    Attributes:
        running: Whether a living process owns it.
        error: Why its streams can't be read; None if they can.
        damaged: Number of damaged parts that were set aside.
        damaged_in: Where these are kept for a person to look at.
        recovering: How far its owner's recovery is, during which nothing is known of its streams; None if it is over.
    """

    running: bool = False
    streams: tuple[StreamOverview, ...] = ()
    error: str | None = None
    damaged: int = 0
    damaged_in: str = ""
    recovering: Recovery | None = None


class Superseded(NamedTuple):
    """Frames before the newest one, which will never be loaded."""

    frames: int = 0
    rows: int = 0


class Reader(Protocol):
    """What waits for one stream, in order."""

    @property
    def position(self) -> Position:
        """The position up to which the stream has acknowledged."""

    @property
    def delivered(self) -> Delivered:
        """The outcome of everything before the position, since the stream was registered."""

    @property
    def waiting_bytes(self) -> int:
        """The size of what is visible and not acknowledged."""

    @property
    def waiting_rows(self) -> int:
        """The number of rows that are visible and not acknowledged; a record acknowledged in part counts whole."""

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


class Checkpoints(Protocol):
    """What a loader saves in order to recover."""

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        """Return a saved checkpoint, or None."""

    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        """Save a checkpoint; durable on return."""


class Health(Protocol):
    """What is wrong with a stream, for those who look at it."""

    def set_error(self, trouble: str | None) -> None:
        """Set why nothing is delivered, until the next acknowledgement; None clears it."""

    def add_warning(self, warning: str) -> None:
        """Add a warning that stays while the journal is open, even though everything is delivered."""

    def on_details(self, details: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Set the function that returns what else there is to see, as JSON types; see ``JournalStore.details``.

        Any thread calls it, without the journal's lock, and about once a second while the stream delivers.

        Returns:
            What such a function returned last, also in an earlier process; an empty mapping if there was none.
        """


class News(Protocol):
    """How a stream's worker learns that there is something to read."""

    def on_news(self, tell: Tell) -> None:
        """Have a function called whenever a waiting ``read`` would end: by any thread, with the journal's lock held."""

    def wake(self) -> None:
        """End a waiting ``read``."""


class Origin(Protocol):
    """Who a stream is, in ledgers and in the files that it sets aside."""

    @property
    def journal_id(self) -> str:
        """The random id of the journal."""

    @property
    def key(self) -> str:
        """The stream's random id, drawn at registration; its key in every ledger."""

    @property
    def epoch(self) -> str:
        """The random id of this open of the journal."""

    def knows_epoch(self, epoch: str) -> bool:
        """Whether this journal was ever opened under an epoch."""


class Progress(Protocol):
    """How far a stream is, for those who put."""

    @property
    def is_full(self) -> bool:
        """Whether a put would have to wait, because the stream's quota is spent."""

    def mark(self) -> int:
        """Return a mark behind everything that is visible now; later opens of the journal know it too."""

    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        """Wait until everything before a mark is acknowledged; return whether it is. A release ends the wait."""


class Written(NamedTuple):
    """A file that was written: the name that it has until it is published, and its size in bytes."""

    name: str
    size_bytes: int


class AsideFolder(Protocol):
    """The files of rows that a stream sets aside: in a folder of this machine, or where the journal is."""

    @property
    def has_copies(self) -> bool:
        """Whether a parked batch, whose rows stay in the journal, has a copy here for a person to look at."""

    def write(self, content: Callable[[BinaryIO], object]) -> Written:
        """Write a file; durable on return, but nobody sees it yet.

        Args:
            content: Writes the file's bytes.
        """

    def publish(self, temporary: str, final: str, said: Mapping[str, Any]) -> None:
        """Give a file its final name, ``<number>.parquet``, or a higher number if that is taken.

        If it was published before, nothing happens.

        Args:
            temporary: The name that ``write`` returned.
            final: The final name.
            said: What the stream says of the file: ``rows``, ``size_bytes``, ``reason``, ``reasons``.
        """

    def remove(self, temporary: str) -> None:
        """Remove a file that is not published."""

    def sweep(self) -> None:
        """Remove all files of the stream that are not published."""


class SetsAside(Protocol):
    """Where a stream sets rows aside."""

    def files(self, folder: Path) -> AsideFolder:
        """Return the files of a folder below the home."""


class StreamReader(Reader, Checkpoints, Health, News, Origin, SetsAside, Protocol):
    """One stream's end of a journal, as its worker and its loader use it."""


class RejectedFile(NamedTuple):
    """A file of rejected rows.

    Attributes:
        file: Relative to the home: ``STORE/rejected/<collector>/<stream_type>/<timestamp_ns>.parquet``.
        said: What the stream said of it: ``rows``, ``reason``, ``reasons``; None if only the file itself says it.
    """

    file: str
    said: Mapping[str, Any] | None = None


class AttachedStream(StreamReader, Progress, Protocol):
    """A stream that this process delivers."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A stream that a journal keeps rows for, whether or not anybody delivers it now."""

    stream_no: StreamNo
    identity: str
    key: str
    checkpoints: Checkpoints


class Journal(Protocol):
    """A durable log of frames, one for each collector."""

    @property
    def journal_id(self) -> str:
        """The random id of the journal."""

    def append(
        self,
        frames: "Sequence[Frame | Refused]",
        *,
        stream_no: StreamNo = ALL,
        cursor: Mapping[str, Any] | None = None,
        removes: str | None = None,
        block: bool = True,
        timeout_s: float | None = None,
    ) -> int:
        """Store frames together and return the last sequence number.

        It is a span where the program traces; its context is stored with the frames.

        Args:
            frames: They become visible together, in this order. Refused rows belong to the frame behind them.
            stream_no: All streams, or one.
            cursor: The collector's state, stored with the frames.
            removes: A file below the home whose rows are put again here; it is removed once they are durable, and
                refused from then on.
            block: Whether to wait while a stream's quota is spent.
            timeout_s: How long to wait for that, seconds.

        Raises:
            BacklogFullError: A quota is spent.
            NotAttachedError: The journal is closed, or the stream does not exist; nothing was stored.
            ConfigurationError: The rows of the file to remove were put again or dropped before.
            JournalWriteError: The disk refused; it is unknown whether the frames count.
            JournalBusyError: This process does not own the journal, or no longer does.
        """

    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, AttachedStream]:
        """Register a stream at the journal's end, or resume it at its position.

        Raises:
            ConfigurationError: A stream of this identity is attached already.
        """

    def detach(self, stream_no: StreamNo) -> None:
        """Detach a stream; what waits for it stays."""

    def registered(self) -> Sequence[Registered]:
        """Return all streams, those that are not attached too."""

    def forget(self, identity: str) -> bool:
        """Drop a stream that is not attached, and all that waits for it; return False if there is no such stream.

        Raises:
            ConfigurationError: It is attached.
        """

    def drop_rejected(self, stream_no: StreamNo, file: str, rows: int) -> None:
        """Remove a file of a stream's rejected rows, and no longer count these as rejected.

        Args:
            stream_no: The stream that rejected them; ``ALL`` if no stream counts them.
            file: Relative to the home.
            rows: How many rows it has.

        Raises:
            ConfigurationError: They were put again or dropped before.
        """

    def overview(self) -> list[StreamOverview]:
        """Return what is known of each stream."""

    def cursor(self) -> dict[str, Any]:
        """Return the collector's state as of its last committed group."""

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        """Register the answer to a command's request."""


class JournalHandle(Protocol):
    """A use of an open journal, which the streams and the collector of a process share."""

    @property
    def journal(self) -> Journal:
        """The journal; open until every handle is released."""

    def release(self) -> None:
        """Give the journal back; the last user closes it; a second call, or a forked child's, does nothing.

        Raises:
            JournalWriteError: What was put could not be made durable; the journal is closed all the same.
        """


class JournalStore(Protocol):
    """The journals of a project. Only ``open`` needs to own a journal; nothing else changes or holds one."""

    def open(self, name: str, durability: Durability = "full") -> JournalHandle:
        """Open the journal of a collector, or share it where this process has it open.

        Raises:
            ConfigurationError: It is open with another durability.
            JournalBusyError: Another process owns it.
            JournalError: Its storage refuses, or a newer version has written here.
        """

    def names(self) -> list[str]:
        """Return the collectors that have a journal, sorted."""

    def check_free(self, name: str) -> None:
        """Raise if a living process owns a journal.

        Raises:
            JournalBusyError: One does; the error says which.
        """

    def overview(self, name: str) -> JournalOverview:
        """Return what can be known of a journal without owning it."""

    def details(self, name: str) -> dict[str, dict[str, Any]]:
        """Return what the streams of a journal said of themselves last, by identity; an owner need not live."""

    def request(self, name: str, verb: str, arguments: Mapping[str, Any]) -> Any:
        """Ask the running owner of a journal to do something, and wait for the result.

        Raises:
            JournalBusyError: It does not answer.
            Api2dbError: What the owner raised.
        """

    def rejected_files(self) -> list[RejectedFile]:
        """Return the files of rejected rows of all collectors."""

    def read_rejected(self, file: str) -> bytes | None:
        """Return the content of a file of rejected rows; None if there is no such file."""

    def publish(self, name: str, figures: Mapping[str, Any]) -> None:
        """Leave a collector's figures where other processes can read them; those see the old or the new ones, whole.

        Raises:
            OSError: The storage refuses.
        """

    def published(self, name: str) -> dict[str, Any] | None:
        """Return the figures that a collector left last; None if there are none that can be read."""
