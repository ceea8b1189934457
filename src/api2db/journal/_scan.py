"""Scan a segment record by record, across damaged bytes."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from api2db.journal._record import HEADER_BYTES, MAGIC, Header, unpack
from api2db.journal._segment import Location, Segment

_FIRST_CHUNK_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20

Want = Callable[[Header], bool]


class Record(NamedTuple):
    """A record as found; its payload is empty unless the caller wanted it."""

    header: Header
    payload: bytes
    segment: Segment
    start: int
    end: int

    @property
    def after(self) -> Location:
        """The location of the next record."""
        return Location(self.segment.number, self.end)


class Damage(NamedTuple):
    """Bytes between two records that are not a record."""

    start: int
    end: int


def anything(_: Header) -> bool:
    """Want every record."""
    return True


def scan(segment: Segment, start: int, end: int, want: Want | None = None) -> Iterator[Record | Damage]:
    """Yield the records between two offsets, and the damaged ranges between them.

    Only headers are checked, and payloads are read only where they are wanted, so counting is cheap. A payload is a
    copy, so keeping it does not keep the buffer that it was read into.
    """
    with segment.path.open("rb", buffering=0) as file:
        window = _Window(file.fileno(), min(end, os.fstat(file.fileno()).st_size))
        offset = start
        while offset < window.end:
            header = window.header(offset)
            body = offset + HEADER_BYTES
            if header is None or body + header.length > window.end:
                stop = window.next_record(offset + 1)
                yield Damage(offset, stop)
            else:
                stop = body + header.length
                payload = window.piece(body, header.length) if want is not None and want(header) else b""
                yield Record(header, payload, segment, offset, stop)
            offset = stop


class _Window:
    """Reads a file in growing chunks: reading one record is cheap, and so is reading all of them."""

    def __init__(self, fd: int, end: int) -> None:
        self.end = end
        self._fd = fd
        self._start = 0
        self._data = b""
        self._chunk_bytes = _FIRST_CHUNK_BYTES

    def header(self, offset: int) -> Header | None:
        """Return the header at an offset, or None if there is none."""
        begin = offset - self._start
        if begin < 0 or begin + HEADER_BYTES > len(self._data):
            self._fill(offset, HEADER_BYTES)
            begin = 0
        return unpack(self._data, begin)

    def piece(self, offset: int, length: int) -> bytes:
        """Return a range of bytes; shorter at the end of the file."""
        if length > _CHUNK_BYTES:
            return self._read(offset, min(length, self.end - offset))
        begin = offset - self._start
        if begin < 0 or begin + length > len(self._data):
            self._fill(offset, length)
            begin = 0
        return self._data[begin : begin + length]

    def next_record(self, offset: int) -> int:
        """Return the offset of the next valid header, or the end."""
        while offset < self.end:
            searched = self.piece(offset, min(_CHUNK_BYTES, self.end - offset))
            found = searched.find(MAGIC)
            if found < 0:
                offset += max(1, len(searched) - len(MAGIC) + 1)
                continue
            offset += found
            if self.header(offset) is not None:
                return offset
            offset += 1
        return self.end

    def _fill(self, offset: int, length: int) -> None:
        wanted = min(max(length, self._chunk_bytes), self.end - offset)
        self._chunk_bytes = min(2 * self._chunk_bytes, _CHUNK_BYTES)
        self._start, self._data = offset, self._read(offset, wanted)

    def _read(self, offset: int, wanted: int) -> bytes:
        data = os.pread(self._fd, wanted, offset)
        while len(data) < wanted:
            piece = os.pread(self._fd, wanted - len(data), offset + len(data))
            if not piece:
                self.end = min(self.end, offset + len(data))
                break
            data += piece
        return data
