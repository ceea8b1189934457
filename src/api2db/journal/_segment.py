"""One append-only segment file: its name, its preamble, what is known of it, and its writer."""

import json
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from api2db.disk.atomic import sync_folder
from api2db.errors import JournalError
from api2db.journal._record import HEADER_BYTES, MAGIC, Flag, Header, Headers, Mask, RecordKind
from api2db.journal.port import ALL

SUFFIX = ".segment"
FORMAT = 2
_PREAMBLE = b"api2db journal\n"
_PREAMBLE_SIZES = struct.Struct("<II")
_IOV_MAX = 512
_STEP_BYTES = 4 << 20


class Location(NamedTuple):
    """A byte position in the journal: segment number and offset. It orders as the log does."""

    segment: int
    offset: int


BEGINNING = Location(0, 0)


@dataclass(slots=True)
class Count:
    """Frames, rows and bytes of one stream."""

    frames: int = 0
    rows: int = 0
    size_bytes: int = 0

    def add(self, frames: int, rows: int, size_bytes: int) -> None:
        """Add counts; negative ones subtract."""
        self.frames += frames
        self.rows += rows
        self.size_bytes += size_bytes


class Step(NamedTuple):
    """What the records of a segment up to an offset are, so that few have to be counted again behind a position.

    Attributes:
        last_sequence: The highest number among them.
        counts: Frames, rows and bytes, by stream number.
    """

    offset: int
    last_sequence: int
    counts: Mapping[int, tuple[int, int, int]]


@dataclass(slots=True)
class Segment:
    """What is known of a segment without reading its records.

    Attributes:
        begin: Offset of the first record, behind the preamble.
        end: Offset behind the last valid record.
        epoch: The open of the journal that wrote it; empty if the preamble is damaged.
        counts: What its records are, by stream number.
        steps: The same up to some offsets, in order.
    """

    number: int
    path: Path
    begin: int
    end: int
    epoch: str = ""
    first_sequence: int = 0
    last_sequence: int = 0
    last_timestamp_ns: int = 0
    counts: dict[int, Count] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def add(self, header: Header) -> None:
        """Count a record that has become visible. ``note_step`` follows."""
        self.first_sequence = self.first_sequence or header.sequence
        self.last_sequence = max(self.last_sequence, header.sequence)
        self.last_timestamp_ns = max(self.last_timestamp_ns, header.timestamp_ns)
        if header.kind == RecordKind.ROWS:
            self.counts.setdefault(header.stream_no, Count()).add(*counts_of(header))

    def add_all(self, headers: Headers) -> None:
        """Count records that have become visible. ``note_step`` follows."""
        sequences = headers["sequence"][headers["sequence"] > 0]  # a schema has none
        if not len(sequences):
            return
        self.first_sequence = self.first_sequence or int(sequences[0])
        self.last_sequence = max(self.last_sequence, int(sequences.max()))
        self.last_timestamp_ns = max(self.last_timestamp_ns, int(headers["timestamp_ns"].max()))
        rows = headers[headers["kind"] == RecordKind.ROWS]
        for stream_no in np.unique(rows["stream_no"]).tolist():
            self.counts.setdefault(stream_no, Count()).add(*sums_of(rows[rows["stream_no"] == stream_no]))

    def note_step(self, offset: int) -> None:
        """Remember the counts up to an offset if the last one remembered is far before it."""
        if offset - (self.steps[-1].offset if self.steps else self.begin) >= _STEP_BYTES:
            self.steps.append(self._step(offset))

    def count_behind(self, sequence: int, stream_no: int, scan: Callable[[int, int], Iterable[Headers]]) -> Count:
        """Count what waits for a stream behind a position.

        Args:
            sequence: The position's.
            stream_no: The stream's number.
            scan: Yields the headers between two offsets, a few MiB apart at most.
        """
        begin, end = self.steps_around(sequence)
        waiting = Count()
        for number in (ALL, stream_no):
            frames, rows, size_bytes = end.counts.get(number, (0, 0, 0))
            total = self.counts.get(number, Count())
            waiting.add(total.frames - frames, total.rows - rows, total.size_bytes - size_bytes)
        if begin is not end:
            for headers in scan(begin.offset, end.offset):
                waiting.add(*sums_of(headers[rows_for(headers, stream_no) & (headers["sequence"] > sequence)]))
        return waiting

    def steps_around(self, sequence: int) -> tuple[Step, Step]:
        """The last step before a position and the first one behind it; the same one twice if the position is there."""
        steps = [Step(self.begin, 0, {}), *self.steps, self._step(self.end)]
        at = bisect_right(steps, sequence, key=lambda step: step.last_sequence) - 1
        return steps[at], steps[at if sequence < self.first_sequence else min(at + 1, len(steps) - 1)]

    def _step(self, offset: int) -> Step:
        counts = {number: (count.frames, count.rows, count.size_bytes) for number, count in self.counts.items()}
        return Step(offset, self.last_sequence, counts)

    def forget_counts(self) -> None:
        """Reset the counts before the records are counted again."""
        self.counts.clear()
        self.steps.clear()
        self.first_sequence = self.last_sequence = 0

    def empty(self) -> None:
        """Truncate a segment that nobody reads or writes to its preamble."""
        os.truncate(self.path, self.begin)
        self.end = self.begin
        self.forget_counts()

    def summary(self) -> dict[str, Any]:
        """What to remember of it: everything that counting its records tells."""
        last, steps = self._step(self.end), [list(step) for step in self.steps]
        return {
            "epoch": self.epoch,
            "end": self.end,
            "first_sequence": self.first_sequence,
            "last_sequence": self.last_sequence,
            "last_timestamp_ns": self.last_timestamp_ns,
            "counts": last.counts,
            "steps": steps,
        }

    def recall(self, summary: Mapping[str, Any]) -> bool:
        """Restore a remembered summary; return False if it describes another file or another state of this one."""
        return summary["end"] == self.end and self.recall_part(summary)

    def recall_part(self, summary: Mapping[str, Any]) -> bool:
        """Restore the summary of this file before more was written; return False if it describes another file."""
        if summary["epoch"] != self.epoch or summary["end"] > self.end:
            return False
        self.first_sequence, self.last_sequence = summary["first_sequence"], summary["last_sequence"]
        self.last_timestamp_ns = summary["last_timestamp_ns"]
        self.counts = {number: Count(*sums) for number, sums in _by_number(summary["counts"]).items()}
        steps = summary.get("steps", ())
        self.steps = [Step(offset, sequence, _by_number(counts)) for offset, sequence, counts in steps]
        return True


def _by_number(counts: Mapping[str, Iterable[int]]) -> dict[int, tuple[int, int, int]]:
    """Counts by stream number, which JSON has as text."""
    return {int(number): (frames, rows, size_bytes) for number, (frames, rows, size_bytes) in counts.items()}


class Placed(NamedTuple):
    """A schema in a segment: its number, and the offset of its last copy."""

    number: int
    at: int


class Preamble(NamedTuple):
    """What stands before a segment's records.

    Attributes:
        says: Its contents; None if it is damaged or torn.
        begin: Offset of the first record; 0 if unknown.
        torn: Whether a crash interrupted the creation of the segment.
    """

    says: dict[str, Any] | None
    begin: int
    torn: bool


def counts_of(header: Header) -> tuple[int, int, int]:
    """The frames, rows and bytes that a record of rows adds."""
    return 1 if header.flags & Flag.FRAME_END else 0, header.rows, HEADER_BYTES + header.length


def sums_of(headers: Headers) -> tuple[int, int, int]:
    """The frames, rows and bytes that some records of rows add."""
    frames = np.count_nonzero(headers["flags"] & Flag.FRAME_END)
    size_bytes = HEADER_BYTES * len(headers) + int(headers["length"].sum())
    return int(frames), int(headers["rows"].sum(dtype=np.int64)), size_bytes


def rows_for(headers: Headers, stream_no: int) -> Mask:
    """Which records hold rows of a stream."""
    is_owner = (headers["stream_no"] == ALL) | (headers["stream_no"] == stream_no)
    chosen: Mask = is_owner & (headers["kind"] == RecordKind.ROWS)
    return chosen


class SegmentWriter:
    """Appends to one segment.

    Attributes:
        schemas: The schemas stored in the segment.
        synced_end: Offset up to which the segment is known to be on disk.
    """

    def __init__(self, folder: Path, number: int, preamble: Mapping[str, Any]) -> None:
        path = folder / f"{number:010d}{SUFFIX}"
        head = pack_preamble(preamble)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(self._fd, [head])
            os.fsync(self._fd)
            sync_folder(folder)
        except OSError:
            self.close()
            path.unlink(missing_ok=True)
            raise
        self.segment = Segment(number, path, len(head), len(head), preamble["epoch"])
        self.synced_end = len(head)
        self.schemas: dict[bytes, Placed] = {}

    def write(self, buffers: list[Any]) -> int:
        """Append and return the new end; after an error ``segment.end`` is unchanged."""
        self.segment.end += _write_all(self._fd, buffers)
        return self.segment.end

    def sync(self) -> None:
        """Make everything written so far durable."""
        os.fdatasync(self._fd)

    def cut(self, end: int) -> None:
        """Truncate at an offset. If the disk refuses, the bytes behind it no longer count all the same."""
        self.segment.end = end
        if os.fstat(self._fd).st_size > end:
            os.ftruncate(self._fd, end)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _write_all(fd: int, buffers: list[Any]) -> int:
    if len(buffers) <= _IOV_MAX:
        return _write_some(fd, buffers)
    return sum(_write_some(fd, buffers[at : at + _IOV_MAX]) for at in range(0, len(buffers), _IOV_MAX))


def _write_some(fd: int, buffers: list[Any]) -> int:
    total = sum(map(len, buffers))
    written = os.writev(fd, buffers)
    if written < total:
        _write_rest(fd, [memoryview(buffer).cast("B") for buffer in buffers], written)
    return total


def _write_rest(fd: int, views: list[memoryview], written: int) -> None:
    while True:
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if not views:
            return
        views[0] = views[0][written:]
        written = os.writev(fd, views)


def pack_preamble(says: Mapping[str, Any]) -> bytes:
    """The bytes of a preamble."""
    body = json.dumps({"format": FORMAT, **says}).encode()
    return _PREAMBLE + _PREAMBLE_SIZES.pack(len(body), zlib.crc32(body)) + body


def read_preamble(path: Path) -> Preamble:
    """Read a segment's preamble.

    Raises:
        JournalError: A newer version, or an earlier alpha, wrote the segment.
    """
    with path.open("rb") as file:
        name = file.read(len(_PREAMBLE))
        sizes = file.read(_PREAMBLE_SIZES.size)
        if name != _PREAMBLE or len(sizes) < _PREAMBLE_SIZES.size:
            return Preamble(None, 0, torn=_PREAMBLE.startswith(name))
        length, checksum = _PREAMBLE_SIZES.unpack(sizes)
        body = file.read(min(length, os.fstat(file.fileno()).st_size))
    if zlib.crc32(body) != checksum:
        is_short = len(body) < length and MAGIC not in body  # a damaged length would also read records
        return Preamble(None, 0, torn=is_short)
    says = json.loads(body)
    if says["format"] < FORMAT:
        raise JournalError(
            f"{path} was written by an earlier alpha of api2db, in a format that this version does not read; deliver "
            "what waits with the version that wrote it, then remove the journal's folder"
        )
    if says["format"] > FORMAT:
        raise JournalError(f"{path} was written by a newer version of api2db; install that version, or a newer one")
    return Preamble(says, len(name) + len(sizes) + length, torn=False)


def segment_paths(folder: Path) -> dict[int, Path]:
    """The segments of a journal by number, in order."""
    found = {int(path.stem): path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit()}
    return dict(sorted(found.items()))


def read_preambles(folder: Path) -> list[Mapping[str, Any]]:
    """Return the intact preambles of all segments, in order."""
    found = (read_preamble(path).says for path in segment_paths(folder).values())
    return [says for says in found if says is not None]
