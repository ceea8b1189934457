"""One append-only file of the journal: how it is begun, written, and walked again."""

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from api2db.formats.atomic import sync_folder
from api2db.journal._record import HEADER_BYTES, MAGIC, Flag, Header, Kind, unpack

SUFFIX = ".segment"
_PREAMBLE = b"api2db journal 1\n"
_PREAMBLE_SIZES = struct.Struct("<II")
_CHUNK_BYTES = 1 << 20
_IOV_MAX = 512


class Location(NamedTuple):
    """A byte of the journal: segment number and offset; ordered as the log is."""

    segment: int
    offset: int


class Record(NamedTuple):
    """A record as found: its payload is None where the caller did not want it."""

    header: Header
    start: int
    end: int
    payload: memoryview | None


class Damage(NamedTuple):
    """Bytes between two records that are none."""

    start: int
    end: int


@dataclass(slots=True)
class Count:
    """Frames, rows and bytes of one lane."""

    frames: int = 0
    rows: int = 0
    size_bytes: int = 0

    def add(self, frames: int, rows: int, size_bytes: int) -> None:
        """Add, or with negative figures take away."""
        self.frames += frames
        self.rows += rows
        self.size_bytes += size_bytes


@dataclass(slots=True)
class Segment:
    """What is known of a segment without reading it."""

    number: int
    path: Path
    begin: int
    end: int
    first_sequence: int = 0
    last_sequence: int = 0
    last_timestamp_ns: int = 0
    lanes: dict[int, Count] = field(default_factory=dict)

    def note(self, header: Header) -> None:
        """Count a record that has become visible."""
        self.first_sequence = self.first_sequence or header.sequence
        self.last_sequence = max(self.last_sequence, header.sequence)
        self.last_timestamp_ns = max(self.last_timestamp_ns, header.timestamp_ns)
        if header.kind == Kind.ROWS:
            self.lanes.setdefault(header.lane, Count()).add(*figures(header))

    def forget_counts(self) -> None:
        """Before its records are counted anew."""
        self.lanes.clear()
        self.first_sequence = self.last_sequence = 0

    def summary(self) -> dict[str, Any]:
        """What to remember of a finished segment."""
        lanes = {str(lane): [count.frames, count.rows, count.size_bytes] for lane, count in self.lanes.items()}
        return {
            "end": self.end,
            "first_sequence": self.first_sequence,
            "last_sequence": self.last_sequence,
            "last_timestamp_ns": self.last_timestamp_ns,
            "lanes": lanes,
        }

    def recall(self, summary: Mapping[str, Any]) -> None:
        """Take over what was remembered."""
        self.end = summary["end"]
        self.first_sequence, self.last_sequence = summary["first_sequence"], summary["last_sequence"]
        self.last_timestamp_ns = summary["last_timestamp_ns"]
        self.lanes = {int(lane): Count(*sums) for lane, sums in summary["lanes"].items()}


def figures(header: Header) -> tuple[int, int, int]:
    """What a record of rows adds to frames, rows and bytes."""
    return int(bool(header.flags & Flag.FRAME_END)), header.rows, HEADER_BYTES + header.length


class SegmentWriter:
    """Appends to one segment; after any error it is not to be used again."""

    def __init__(self, folder: Path, number: int, preamble: Mapping[str, Any]) -> None:
        path = folder / f"{number:010d}{SUFFIX}"
        body = json.dumps(preamble).encode()
        head = _PREAMBLE + _PREAMBLE_SIZES.pack(len(body), zlib.crc32(body)) + body
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(self._fd, [head])
            os.fsync(self._fd)
            sync_folder(folder)
        except OSError:
            self.close()
            path.unlink(missing_ok=True)
            raise
        self.segment = Segment(number, path, len(head), len(head))
        self.schemas: set[int] = set()

    def write(self, buffers: list[bytes | memoryview]) -> int:
        """Append, and give the new end; an error leaves ``segment.end`` where it was."""
        written = _write_all(self._fd, buffers)
        self.segment.end += written
        return self.segment.end

    def sync(self) -> None:
        """Make what was written durable."""
        os.fdatasync(self._fd)

    def cut(self, end: int) -> None:
        """Drop what stands behind a byte, as far as the disk lets us."""
        os.ftruncate(self._fd, end)
        self.segment.end = end

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)


def _write_all(fd: int, buffers: list[bytes | memoryview]) -> int:
    total = 0
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    while views:
        written = os.writev(fd, views[:_IOV_MAX])
        total += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views and written:
            views[0] = views[0][written:]
    return total


def read_preamble(path: Path) -> tuple[dict[str, Any], int] | None:
    """What a segment's header says and where its records begin; None when it is torn or damaged."""
    with path.open("rb") as file:
        head = file.read(len(_PREAMBLE) + _PREAMBLE_SIZES.size)
        if len(head) < len(_PREAMBLE) + _PREAMBLE_SIZES.size or not head.startswith(_PREAMBLE):
            return None
        length, checksum = _PREAMBLE_SIZES.unpack(head[len(_PREAMBLE) :])
        body = file.read(length)
    if len(body) < length or zlib.crc32(body) != checksum:
        return None
    return json.loads(body), len(head) + length


def segment_paths(folder: Path) -> dict[int, Path]:
    """The segments of a journal by their numbers, in order."""
    found = {int(path.stem): path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit()}
    return dict(sorted(found.items()))


def walk(
    path: Path, start: int, end: int | None = None, want: Callable[[Header], bool] | None = None
) -> Iterator[Record | Damage]:
    """The records between two offsets, and what is damaged between them.

    Only headers are checked here, and payloads are read only where they are wanted, so that counting is cheap.
    """
    with path.open("rb", buffering=0) as file:
        window = _Window(file.fileno(), os.fstat(file.fileno()).st_size if end is None else end)
        offset = start
        while offset < window.end:
            header = unpack(window.bytes(offset, HEADER_BYTES))
            stop = offset + HEADER_BYTES + header.length if header else 0
            if header is None or stop > window.end:
                stop = window.next_record(offset + 1)
                yield Damage(offset, stop)
            else:
                payload = window.bytes(offset + HEADER_BYTES, header.length) if want and want(header) else None
                yield Record(header, offset, stop, payload)
            offset = stop


class _Window:
    """A file read in large pieces."""

    def __init__(self, fd: int, end: int) -> None:
        self.end = end
        self._fd = fd
        self._start = 0
        self._data = memoryview(b"")

    def bytes(self, offset: int, length: int) -> memoryview:
        """A run of bytes, shorter at the end of the file."""
        if not self._start <= offset or offset + length > self._start + len(self._data):
            self._fill(offset, length)
        begin = offset - self._start
        return self._data[begin : begin + length]

    def next_record(self, offset: int) -> int:
        """Where the next sound header stands; the end where there is none."""
        while offset < self.end:
            piece = self.bytes(offset, min(_CHUNK_BYTES, self.end - offset)).tobytes()
            found = piece.find(MAGIC)
            if found < 0:
                offset += max(1, len(piece) - len(MAGIC) + 1)
                continue
            offset += found
            if unpack(self.bytes(offset, HEADER_BYTES)) is not None:
                return offset
            offset += 1
        return self.end

    def _fill(self, offset: int, length: int) -> None:
        wanted = min(max(length, _CHUNK_BYTES), self.end - offset)
        pieces = bytearray()
        while len(pieces) < wanted:
            piece = os.pread(self._fd, wanted - len(pieces), offset + len(pieces))
            if not piece:
                break
            pieces += piece
        self._start, self._data = offset, memoryview(bytes(pieces))
