"""Scan a segment across damaged bytes: block by block, or record by record.

A block has the records of one read of the file as columns, so that counting and selecting tiny records costs little.
"""

import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from api2db.journal._record import HEADER_BYTES, MAGIC, Header, Headers, Mask, Want, columns_of, records_in, unpack
from api2db.journal._segment import Location, Segment

_FIRST_CHUNK_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20


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


class Block:
    """Records of a segment in order, as columns. Their payloads can be read until the scan goes on.

    Attributes:
        headers: The records' headers.
        starts: The offset in the segment at which each begins.
    """

    __slots__ = ("_window", "headers", "segment", "starts")

    def __init__(
        self, segment: Segment, headers: Headers, starts: npt.NDArray[np.int64], window: "_Window | None" = None
    ) -> None:
        self.segment = segment
        self.headers = headers
        self.starts = starts
        self._window = window

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The offset behind each record."""
        ends: npt.NDArray[np.int64] = self.starts + HEADER_BYTES + self.headers["length"].astype(np.int64)
        return ends

    def where(self, chosen: Mask) -> "Block":
        """Return only the chosen records."""
        return Block(self.segment, self.headers[chosen], self.starts[chosen], self._window)

    def payloads(self, begin: int, end: int) -> list[memoryview] | None:
        """Return the payloads of some records without a copy; None if one of them is damaged."""
        if self._window is None:
            return None
        found = self._window.pieces(self.starts[begin:end] + HEADER_BYTES, self.ends[begin:end])
        return found if _checksums(found) == self.headers["payload_crc"][begin:end].tolist() else None

    def intact(self) -> Mask:
        """Say which payloads are intact."""
        found = [] if self._window is None else self._window.pieces(self.starts + HEADER_BYTES, self.ends)
        is_intact: Mask = np.array(_checksums(found), np.uint32) == self.headers["payload_crc"]
        return is_intact

    def record(self, number: int, *, payload: bool = False) -> Record:
        """Return a record by itself. Its payload is a copy, so keeping it does not keep the block."""
        header, start = Header._make(self.headers[number].item()), int(self.starts[number])
        kept = self._kept(start, header.length) if payload else b""
        return Record(header, kept, self.segment, start, start + HEADER_BYTES + header.length)

    def records(self, want: Want | None = None) -> Iterator[Record]:
        """Yield the records, with the payloads that are wanted."""
        wanted = [False] * len(self) if want is None else want(self.headers).tolist()
        for start, fields, is_wanted in zip(self.starts.tolist(), self.headers.tolist(), wanted, strict=True):
            header = Header._make(fields)
            payload = self._kept(start, header.length) if is_wanted else b""
            yield Record(header, payload, self.segment, start, start + HEADER_BYTES + header.length)

    def _kept(self, start: int, length: int) -> bytes:
        return b"" if self._window is None else self._window.copied(start + HEADER_BYTES, length)


def _checksums(payloads: list[memoryview]) -> list[int]:
    return list(map(zlib.crc32, payloads))


def anything(headers: Headers) -> Mask:
    """Want every record."""
    return np.ones(len(headers), np.bool_)


def scan(segment: Segment, start: int, end: int, want: Want | None = None) -> Iterator[Record | Damage]:
    """Yield the records between two offsets, and the damaged ranges between them.

    Only headers are checked, and payloads are read only where they are wanted, so counting is cheap. A payload is a
    copy, so keeping it does not keep the buffer that it was read into.
    """
    for found in blocks(segment, start, end, payloads=want is not None):
        if isinstance(found, Damage):
            yield found
        else:
            yield from found.records(want)


def blocks(segment: Segment, start: int, end: int, *, payloads: bool = False) -> Iterator[Block | Damage]:
    """Yield the records between two offsets in blocks, and the damaged ranges between them.

    Only headers are checked.

    Args:
        segment: Where to look.
        start: The offset of a record.
        end: Where to stop.
        payloads: Whether payloads are going to be read.
    """
    with segment.path.open("rb", buffering=0) as file:
        window = _Window(file.fileno(), min(end, os.fstat(file.fileno()).st_size))
        offset = start
        while offset < window.end:
            starts, stop = window.records(offset, whole=payloads)
            if starts:
                places = np.array(starts)
                headers = columns_of(window.data, places)
                yield Block(segment, headers, places + window.start, window if payloads else None)
            else:
                stop = window.next_record(offset + 1)
                yield Damage(offset, stop)
            offset = stop


class _Window:
    """Reads a file in growing chunks: reading one record is cheap, and so is reading all of them.

    Attributes:
        start: The offset in the file of the bytes in memory.
        end: Where the file ends, or the part of it to be read.
        data: The bytes in memory.
    """

    def __init__(self, fd: int, end: int) -> None:
        self.start = 0
        self.end = end
        self.data = b""
        self._fd = fd
        self._view = memoryview(b"")
        self._chunk_bytes = _FIRST_CHUNK_BYTES

    def records(self, offset: int, *, whole: bool) -> tuple[list[int], int]:
        """Find the records from an offset on whose headers are in memory.

        Args:
            offset: Where the first begins.
            whole: Whether their payloads must be in memory too; the first record's may be too large for that.

        Returns:
            Where they begin in ``data``, and the offset behind the last one.
        """
        self._fill(offset, HEADER_BYTES)
        starts, stop = records_in(self.data, len(self.data) if whole else self.end - self.start)
        if whole and not starts:
            starts, stop = records_in(self.data, self.end - self.start)
        return starts, self.start + stop

    def copied(self, offset: int, length: int) -> bytes:
        """Return a range of bytes that does not keep the others in memory; shorter at the end of the file."""
        begin = offset - self.start
        if begin < 0 or begin + length > len(self.data):
            return self._read(offset, min(length, self.end - offset))
        return self.data[begin : begin + length]

    def pieces(self, begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> list[memoryview]:
        """Return ranges of bytes; shorter at the end of the file."""
        if begins[0] < self.start or ends[-1] > self.start + len(self.data):
            found = map(self.copied, begins.tolist(), (ends - begins).tolist())
            return [memoryview(piece) for piece in found]
        slices = map(slice, (begins - self.start).tolist(), (ends - self.start).tolist())
        return list(map(self._view.__getitem__, slices))

    def next_record(self, offset: int) -> int:
        """Return the offset of the next valid header, or the end."""
        while offset < self.end:
            self._fill(offset, 1)
            at = self.data.find(MAGIC)
            while at >= 0 and at + HEADER_BYTES <= len(self.data):
                if unpack(self.data, at) is not None:
                    return self.start + at
                at = self.data.find(MAGIC, at + 1)
            # What begins at the end of these bytes is looked for once more.
            offset = self.start + (at if at > 0 else max(1, len(self.data) - len(MAGIC) + 1))
            if self.start + len(self.data) >= self.end:
                break
        return self.end

    def _fill(self, offset: int, length: int) -> None:
        wanted = min(max(length, self._chunk_bytes), self.end - offset)
        self._chunk_bytes = min(2 * self._chunk_bytes, _CHUNK_BYTES)
        self.start, self.data = offset, self._read(offset, wanted)
        self._view = memoryview(self.data)

    def _read(self, offset: int, wanted: int) -> bytes:
        data = os.pread(self._fd, wanted, offset)
        while len(data) < wanted:
            piece = os.pread(self._fd, wanted - len(data), offset + len(data))
            if not piece:
                self.end = min(self.end, offset + len(data))
                break
            data += piece
        return data
