"""The segments of a journal in order: scan them, set damage aside, remove those that nobody needs."""

import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from api2db.disk.atomic import make_folders, replacing
from api2db.journal._record import Headers, Mask, RecordKind, Want
from api2db.journal._scan import Block, Damage, Record, blocks, scan
from api2db.journal._segment import SUFFIX, Location, Segment
from api2db.journal._synced import Loss

logger = logging.getLogger(__name__)
_COPY_BYTES = 1 << 20


class SegmentSet:
    """The segments in order, up to the last byte that readers may see.

    Attributes:
        damaged: Number of damaged byte ranges set aside since the journal was opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments: dict[int, Segment] = {}
        self.visible = Location(0, 0)
        self.damaged = 0
        self._schemas: dict[int, _Schemas] = {}

    def blocks(self, start: Location, stop: Location, want: Want, *, payloads: bool = False) -> Iterator[Block]:
        """Yield the wanted records between two locations. Damaged bytes are set aside, rewritten copies are skipped."""
        newest = 0
        for segment in list(self.segments.values()):
            if not start.segment <= segment.number <= stop.segment:
                continue
            begin = start.offset if segment.number == start.segment else segment.begin
            end = stop.offset if segment.number == stop.segment else segment.end
            for found in blocks(segment, begin, end, payloads=payloads):
                if isinstance(found, Damage):
                    self.set_aside(segment, found)
                elif len(wanted := _without_copies(found.where(want(found.headers)), newest)):
                    newest = int(wanted.headers["sequence"][-1])
                    yield wanted

    def records(self, start: Location, stop: Location, want: Want) -> Iterator[Record]:
        """Yield the wanted records one by one, without payloads; see ``blocks``."""
        return (record for block in self.blocks(start, stop, want) for record in block.records())

    def schemas(self, record: Record) -> Mapping[int, pa.Schema]:
        """Return the schemas needed to read a record; any intact copy in its segment serves."""
        found = self._schemas.get(record.segment.number)
        if found is None:
            found = self._schemas.setdefault(record.segment.number, _Schemas(record.segment))
        for end in (record.start, record.segment.end):
            if record.header.schema and record.header.schema not in found.known:
                found.look_until(end)
        return found.known

    def set_aside(self, segment: Segment, damage: Damage) -> None:
        """Copy unreadable bytes to ``damaged/`` and log it once."""
        target = self.folder / "damaged" / f"{segment.number:010d}-{damage.start}"
        if target.exists():
            return
        try:
            make_folders(target.parent)
            with segment.path.open("rb") as file, replacing(target) as copy:
                _copy_part(file, damage.start, damage.end, copy)
        except OSError as error:
            logger.warning("damaged bytes can't be copied to %s: %s", target, error)
        self.damaged += 1
        size_bytes = damage.end - damage.start
        message = "%d bytes of %s are damaged; they are kept in %s and the rest is delivered; check the disk"
        logger.error(message, size_bytes, segment.path, target)

    def report(self, loss: Loss, first_sequence: int) -> None:
        """Log bytes that were on disk and are gone, and leave a note in ``damaged/``."""
        path = self.folder / f"{loss.segment:010d}{SUFFIX}"
        target = self.folder / "damaged" / f"{loss.segment:010d}-missing-{loss.start}"
        message = (
            f"{loss.end - loss.start} bytes of {path} are gone that were on the disk, and with them whatever was not "
            f"yet delivered of the sequence numbers {first_sequence} to {loss.last_sequence}; check the disk"
        )
        try:
            make_folders(target.parent)
            with replacing(target) as note:
                note.write(f"{message}\n".encode())
        except OSError as error:
            logger.warning("%s can't be written: %s", target, error)
        self.damaged += 1
        logger.error("%s", message)

    def remove_before(self, needed: Location) -> list[Segment]:
        """Remove and return the segments before a location, except the last one, which may still be written."""
        gone = [number for number in list(self.segments)[:-1] if number < needed.segment]
        for number in gone:
            self._schemas.pop(number, None)
        return [self.segments.pop(number) for number in gone]


class _Schemas:
    """The schemas of one segment, read no further than needed."""

    def __init__(self, segment: Segment) -> None:
        self.known: dict[int, pa.Schema] = {}
        self._segment = segment
        self._seen_until = segment.begin

    def look_until(self, end: int) -> None:
        if end <= self._seen_until:
            return
        for found in scan(self._segment, self._seen_until, end, _is_schema):
            if isinstance(found, Record) and zlib.crc32(found.payload) == found.header.payload_crc and found.payload:
                self.known[found.header.schema] = pa.ipc.read_schema(pa.py_buffer(found.payload))
        self._seen_until = end


def _is_schema(headers: Headers) -> Mask:
    chosen: Mask = headers["kind"] == RecordKind.SCHEMA
    return chosen


def _without_copies(block: Block, newest: int) -> Block:
    """The records whose sequence number is higher than all before it."""
    sequences = block.headers["sequence"]
    before = np.maximum.accumulate(np.concatenate([np.array([newest], sequences.dtype), sequences]))[:-1]
    is_new = sequences > before
    return block if is_new.all() else block.where(is_new)


def _copy_part(source: BinaryIO, start: int, end: int, copy: BinaryIO) -> None:
    source.seek(start)
    copy.writelines(source.read(min(_COPY_BYTES, end - at)) for at in range(start, end, _COPY_BYTES))
