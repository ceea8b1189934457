"""One append-only segment file: its name, its preamble, what is known of it, and its writer."""

import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from api2db.disk.atomic import sync_folder
from api2db.errors import JournalError
from api2db.journal._record import HEADER_BYTES, MAGIC, Flag, Header, RecordKind

SUFFIX = ".segment"
FORMAT = 2
_PREAMBLE = b"api2db journal\n"
_PREAMBLE_SIZES = struct.Struct("<II")
_IOV_MAX = 512


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


@dataclass(slots=True)
class Segment:
    """What is known of a segment without reading its records.

    Attributes:
        begin: Offset of the first record, behind the preamble.
        end: Offset behind the last valid record.
        epoch: The open of the journal that wrote it; empty if the preamble is damaged.
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

    def add(self, header: Header) -> None:
        """Count a record that has become visible."""
        self.first_sequence = self.first_sequence or header.sequence
        self.last_sequence = max(self.last_sequence, header.sequence)
        self.last_timestamp_ns = max(self.last_timestamp_ns, header.timestamp_ns)
        if header.kind == RecordKind.ROWS:
            self.counts.setdefault(header.stream_no, Count()).add(*counts_of(header))

    def forget_counts(self) -> None:
        """Reset the counts before the records are counted again."""
        self.counts.clear()
        self.first_sequence = self.last_sequence = 0

    def empty(self) -> None:
        """Truncate a segment that nobody reads or writes to its preamble."""
        os.truncate(self.path, self.begin)
        self.end = self.begin
        self.forget_counts()

    def summary(self) -> dict[str, Any]:
        """What to remember of a finished segment."""
        counts = {
            str(stream_no): [count.frames, count.rows, count.size_bytes] for stream_no, count in self.counts.items()
        }
        return {
            "epoch": self.epoch,
            "end": self.end,
            "first_sequence": self.first_sequence,
            "last_sequence": self.last_sequence,
            "last_timestamp_ns": self.last_timestamp_ns,
            "counts": counts,
        }

    def recall(self, summary: Mapping[str, Any]) -> bool:
        """Restore a remembered summary; return False if it describes another file or another state of this one."""
        if (summary["epoch"], summary["end"]) != (self.epoch, self.end):
            return False
        self.first_sequence, self.last_sequence = summary["first_sequence"], summary["last_sequence"]
        self.last_timestamp_ns = summary["last_timestamp_ns"]
        self.counts = {int(stream_no): Count(*sums) for stream_no, sums in summary["counts"].items()}
        return True


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
    total = sum(len(buffer) for buffer in buffers)
    written = os.writev(fd, buffers) if len(buffers) <= _IOV_MAX else 0
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
        written = os.writev(fd, views[:_IOV_MAX])


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
