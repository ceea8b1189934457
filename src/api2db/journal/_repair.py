"""Recover an unclosed segment: keep whole groups, truncate the torn tail."""

import logging
import os
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from api2db.disk.atomic import sync_folder
from api2db.errors import JournalError
from api2db.journal._record import HEADER_BYTES, Flag, Headers, Mask, RecordKind, unpack
from api2db.journal._scan import Block, Damage, Record, anything, blocks, scan
from api2db.journal._segment import Location, Segment, read_preamble, segment_paths
from api2db.journal._synced import NOTHING_SYNCED, Synced

if TYPE_CHECKING:
    from api2db.journal._segment_set import SegmentSet

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """The records of one append, and the damaged ranges among them."""

    start: int
    end: int
    records: list[Record] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether all headers from the first to the last are present."""
        ends = self.records and self.records[0].header.flags & Flag.FIRST and self.records[-1].header.flags & Flag.LAST
        return bool(ends) and not self.damages

    @property
    def synced_end(self) -> int:
        """The highest durable offset that its records mention."""
        return max((record.header.synced_end for record in self.records), default=0)


def repair(
    folder: Path, segment_set: "SegmentSet", summaries: Mapping[int, Mapping[str, Any]], ends: Mapping[int, Synced]
) -> Iterator[tuple[Segment, Record]]:
    """Add every segment to the set, truncate torn tails, and yield the records of segments without a summary.

    Args:
        folder: The journal's folder.
        segment_set: Empty; complete when the iterator has ended.
        summaries: Summaries of finished segments, which are not scanned.
        ends: The durable offset of each segment.

    Raises:
        JournalError: A tail can't be truncated or made durable.
    """
    paths = segment_paths(folder)
    sequence = 0
    for number, path in paths.items():
        segment = look_at(number, path)
        if segment is None:
            path.unlink()
            continue
        if not segment.epoch:
            segment_set.set_aside(segment, Damage(0, segment.begin))
        if not (number in summaries and segment.recall(summaries[number])):
            synced_end = ends.get(number, NOTHING_SYNCED).end
            for run in _mend(segment_set, segment, synced_end, is_newest=number == max(paths)):
                for record in run.records:
                    if record.header.sequence > sequence:
                        segment.add(record.header)
                        yield segment, record
                segment.note_step(run.end)
        sequence = max(sequence, segment.last_sequence)
        segment_set.segments[number] = segment
        segment_set.visible = Location(number, segment.end)


def look_at(number: int, path: Path) -> Segment | None:
    """Read only a segment's preamble; None if its creation was not finished."""
    preamble = read_preamble(path)
    if preamble.torn:
        return None
    size = path.stat().st_size
    if preamble.says is None:
        return Segment(number, path, _first_record(Segment(number, path, 0, size)), size)
    return Segment(number, path, preamble.begin, size, preamble.says["epoch"])


def committed(segment: Segment, synced_end: int, *, is_newest: bool, start: int | None = None) -> Iterator[Run]:
    """Yield the groups that count, in order, from an offset on; read-only.

    Every segment except the newest was durable before the next one was created. Of the newest, the bytes below
    ``synced_end``, or below the durable offset in a later record, were durable: damage there costs the damaged records
    only. Behind that offset a group counts if it is complete.
    """
    begin = segment.begin if start is None else start
    counting_end = _counting_end(segment, begin, synced_end) if is_newest else None
    if counting_end is not None:
        yield from takewhile(lambda run: run.end <= counting_end, _runs(segment, begin))
        return
    waiting: deque[Run] = deque()
    for run in _runs(segment, begin):
        waiting.append(run)
        synced_end = max(synced_end, run.synced_end)
        while waiting and waiting[0].end <= synced_end:
            yield waiting.popleft()
        while len(waiting) > 1 and not is_newest:
            yield waiting.popleft()
    found = scan(segment, waiting[0].start, segment.end, anything) if waiting else iter(())
    while waiting and (_is_sound(waiting[0], found) or (not is_newest and waiting[0].damages)):
        yield waiting.popleft()


def _counting_end(segment: Segment, begin: int, synced_end: int) -> int | None:
    """Where the last group of the newest segment ends that counts, found without an object for each record.

    Returns:
        The offset; None if what is durable does not end between two groups, so that each must be looked at.
    """
    found = (block for block in blocks(segment, begin, segment.end) if isinstance(block, Block))
    end = max([begin, synced_end, *(int(block.headers["synced_end"].max()) for block in found)])
    groups = _Groups(end)
    for block in blocks(segment, end, segment.end, payloads=True):
        if isinstance(block, Damage) or not groups.add(block):
            break
    return None if groups.has_begun_within else groups.end


class _Groups:
    """Finds the end of the last whole group whose payloads are intact.

    Attributes:
        end: The offset behind it.
        has_begun_within: Whether the first record is not the beginning of a group.
    """

    def __init__(self, start: int) -> None:
        self.end = self._start = start
        self.has_begun_within = False
        self._is_open = False

    def add(self, block: Block) -> bool:
        """Look at the next records; return False if no later group counts."""
        records = block.where(block.headers["kind"] != RecordKind.SCHEMA)
        is_first, is_last = ((records.headers["flags"] & flag) != 0 for flag in (Flag.FIRST, Flag.LAST))
        must_be_first = np.concatenate([[not self._is_open], is_last])[:-1]
        wrong = [*records.starts[is_first != must_be_first][:1], *block.starts[~block.intact()][:1]]
        whole = records.ends[is_last & (records.ends <= min(wrong, default=block.segment.end))]
        self.has_begun_within |= self._start == block.starts[0] and not is_first[:1].all()
        self.end = int(max([self.end, *whole[-1:]]))
        self._is_open = not is_last[-1] if len(is_last) else self._is_open
        return not wrong


def _first_record(segment: Segment) -> int:
    return next((found.start for found in scan(segment, 0, segment.end) if isinstance(found, Record)), segment.end)


def _runs(segment: Segment, start: int) -> Iterator[Run]:
    run: Run | None = None
    schema_start: int | None = None
    for found in scan(segment, start, segment.end, _is_note):
        start = found.start if schema_start is None else schema_start
        if isinstance(found, Record) and found.header.kind == RecordKind.SCHEMA:
            schema_start = start
            continue
        schema_start = None
        if run is None or (isinstance(found, Record) and found.header.flags & Flag.FIRST):
            if run is not None:
                yield run
            run = Run(start, found.end)
        run.end = found.end
        if isinstance(found, Damage):
            run.damages.append(found)
            continue
        run.records.append(found)
        if found.header.flags & Flag.LAST:
            yield run
            run = None
    if run is not None:
        yield run


def _mend(segment_set: "SegmentSet", segment: Segment, synced_end: int, *, is_newest: bool) -> Iterator[Run]:
    end = segment.begin
    for run in committed(segment, synced_end, is_newest=is_newest):
        for damage in run.damages:
            segment_set.set_aside(segment, damage)
        end = run.end
        yield run
    if end < segment.end and not _is_torn(segment, end):
        segment_set.set_aside(segment, Damage(end, segment.end))
    _cut_and_sync(segment, end)


def _is_sound(run: Run, found: Iterator[Record | Damage]) -> bool:
    """Whether a group is whole, by a scan that has come to it and is left behind it."""
    return run.is_whole and all(map(_is_intact, _up_to(run.end, found)))


def _up_to(end: int, found: Iterator[Record | Damage]) -> Iterator[Record | Damage]:
    for each in found:
        yield each
        if each.end >= end:
            return


def _is_intact(found: Record | Damage) -> bool:
    return isinstance(found, Record) and zlib.crc32(found.payload) == found.header.payload_crc


def _is_torn(segment: Segment, start: int) -> bool:
    """Whether a tail is what a killed process leaves: valid records, the last of them cut short."""
    with segment.path.open("rb") as file:
        for found in scan(segment, start, segment.end, anything):
            if isinstance(found, Damage):
                file.seek(found.start)
                head = file.read(HEADER_BYTES)
                return found.end == segment.end and (len(head) < HEADER_BYTES or unpack(head) is not None)
            if zlib.crc32(found.payload) != found.header.payload_crc or found.header.flags & Flag.LAST:
                return False
    return True


def _cut_and_sync(segment: Segment, end: int) -> None:
    """Sync what a killed owner may have left in the page cache: nothing is delivered before it is durable."""
    try:
        with segment.path.open("r+b") as file:
            if segment.end > end:
                file.truncate(end)
            os.fsync(file.fileno())
        sync_folder(segment.path.parent)
    except OSError as error:
        message = f"{segment.path} can't be made durable ({error}); mend the disk and start again"
        raise JournalError(message) from error
    segment.end = end


def _is_note(headers: Headers) -> Mask:
    chosen: Mask = (headers["kind"] == RecordKind.CURSOR) | (headers["kind"] == RecordKind.REMOVAL)
    return chosen
