"""The segments of a journal side by side: walking over them, setting damage aside, freeing what nobody needs."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from api2db.errors import JournalError
from api2db.formats.atomic import make_folders, replacing, sync_folder
from api2db.journal._record import HEADER_BYTES, Flag, Header, Kind, unpack
from api2db.journal._segment import Damage, Location, Record, Segment, read_preamble, segment_paths, walk

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A record, and where the next one stands."""

    header: Header
    payload: memoryview | None
    segment: Segment
    at: Location
    after: Location


class Shelf:
    """The segments in order, up to the byte that readers may see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.segments: dict[int, Segment] = {}
        self.visible = Location(0, 0)
        self.damaged = 0
        self._schemas: dict[int, dict[int, pa.Schema]] = {}

    def records(
        self, start: Location, want: Callable[[Header], bool] | None = None, stop: Location | None = None
    ) -> Iterator[Found]:
        """What is visible from a place on; damaged bytes are set aside, and copies that a rescue left are skipped."""
        stop, newest = stop or self.visible, 0
        for segment in list(self.segments.values()):
            if not start.segment <= segment.number <= stop.segment:
                continue
            begin = start.offset if segment.number == start.segment else segment.begin
            end = stop.offset if segment.number == stop.segment else segment.end
            for found in walk(segment.path, begin, end, want):
                if isinstance(found, Damage):
                    self.set_aside(segment, found)
                elif found.header.kind != Kind.SCHEMA and found.header.sequence > newest:
                    newest = found.header.sequence
                    at, after = Location(segment.number, found.start), Location(segment.number, found.end)
                    yield Found(found.header, found.payload, segment, at, after)

    def schemas(self, segment: Segment, needed: int) -> dict[int, pa.Schema]:
        """The schemas that a segment's records refer to."""
        known = self._schemas.setdefault(segment.number, {})
        if needed and needed not in known:
            for found in walk(segment.path, segment.begin, segment.end, _is_schema):
                if isinstance(found, Record) and found.payload is not None:
                    known[found.header.schema] = pa.ipc.read_schema(pa.py_buffer(bytes(found.payload)))
        return known

    def set_aside(self, segment: Segment, damage: Damage) -> None:
        """Keep a copy of bytes that can't be read, and say so once."""
        target = self.folder / "damaged" / f"{segment.number:010d}-{damage.start}"
        if target.exists():
            return
        with segment.path.open("rb") as file:
            file.seek(damage.start)
            data = file.read(damage.end - damage.start)
        try:
            make_folders(target.parent)
            with replacing(target) as copy:
                copy.write(data)
        except OSError as error:
            _log.warning("damaged bytes can't be copied to %s: %s", target, error)
        self.damaged += 1
        _log.error(
            "%d bytes of %s are damaged; they are kept in %s, what follows is delivered; check the disk",
            len(data),
            segment.path,
            target,
        )

    def free(self, needed: Location) -> list[int]:
        """Unlink the segments before a place; the last one stays, it may be open for writing."""
        gone = [number for number in list(self.segments)[:-1] if number < needed.segment]
        for number in gone:
            self.segments.pop(number).path.unlink(missing_ok=True)
            self._schemas.pop(number, None)
        return gone


def repair(folder: Path, shelf: Shelf, known: dict[int, dict[str, object]]) -> Iterator[tuple[Segment, Record]]:
    """Put every segment on the shelf, cut torn tails, and give the records of those that were not finished.

    Args:
        folder: The journal's.
        shelf: Empty; holds the segments when the iterator has ended.
        known: Summaries of finished segments, which need not be walked.
    """
    for number, path in segment_paths(folder).items():
        head = read_preamble(path)
        size = path.stat().st_size
        segment = Segment(number, path, head[1] if head else 0, size)
        if number in known:
            segment.recall(known[number])
        else:
            yield from _walk_unfinished(shelf, segment)
        if segment.end > segment.begin or head:
            shelf.segments[number] = segment
            shelf.visible = Location(number, segment.end)
        else:
            path.unlink()


def _walk_unfinished(shelf: Shelf, segment: Segment) -> Iterator[tuple[Segment, Record]]:
    """The committed records; a group is open until its last record, or until the next one shows that it was whole."""
    group: list[Record] = []
    sound_end = segment.begin
    damages: list[Damage] = []
    for found in walk(segment.path, segment.begin, None, _is_note):
        if isinstance(found, Damage):
            damages.append(found)
        elif found.header.kind == Kind.SCHEMA:
            sound_end = sound_end if group else found.end
        else:
            if found.header.flags & Flag.FIRST:
                yield from ((segment, record) for record in group)
                group = []
            group.append(found)
            if found.header.flags & Flag.LAST:
                yield from ((segment, record) for record in group)
                group, sound_end = [], found.end
    for damage in damages:
        if damage.start < sound_end or not _is_torn(segment, damage):
            shelf.set_aside(segment, damage)
    _cut_and_sync(segment, sound_end)


def _is_torn(segment: Segment, damage: Damage) -> bool:
    """Whether the bytes at a segment's end are what a crash leaves of a write, rather than a damaged record."""
    with segment.path.open("rb") as file:
        file.seek(damage.start)
        tail = file.read(damage.end - damage.start)
    return len(tail) < HEADER_BYTES or unpack(tail) is not None or not tail.strip(b"\0")


def _cut_and_sync(segment: Segment, end: int) -> None:
    """What a killed owner left may still be in the page cache only: nothing is delivered before it is on the disk."""
    segment.end = end
    try:
        with segment.path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size > end:
                file.truncate(end)
            os.fsync(file.fileno())
        sync_folder(segment.path.parent)
    except OSError as error:
        message = f"{segment.path} can't be made durable ({error}); mend the disk and start again"
        raise JournalError(message) from error


def _is_schema(header: Header) -> bool:
    return header.kind == Kind.SCHEMA


def _is_note(header: Header) -> bool:
    return header.kind in {Kind.CURSOR, Kind.REMOVAL}
