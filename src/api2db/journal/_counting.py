"""Count what waits in a journal that nobody owns; nothing is written, no lock is held.

What was counted before is not counted again: the state file has a summary of each finished segment, and the last
owner's report one of the newest. If there is none, the records of that segment are counted.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from api2db.disk.atomic import read_json
from api2db.journal._overview import STATUS_NAME, parked_rows, stream_overview
from api2db.journal._record import Headers, packed
from api2db.journal._repair import committed, look_at
from api2db.journal._scan import Block, blocks
from api2db.journal._segment import Segment, read_preambles, rows_for, segment_paths
from api2db.journal._state_file import (
    DamagedStateError,
    StreamRow,
    read_checkpoint,
    read_segments,
    read_streams,
    reading,
    registered,
    unseal,
)
from api2db.journal._synced import NOTHING_SYNCED, Synced, known_ends
from api2db.journal.port import Backlog, StreamOverview


@dataclass(slots=True)
class _Known:
    """What the state file says; where it is damaged, what the newest segment's beginning says.

    Attributes:
        newest: The summary of the newest segment when its owner last published its figures.
    """

    rows: list[StreamRow]
    newest: Mapping[str, Any]
    summaries: Mapping[int, Mapping[str, Any]]
    ends: Mapping[int, Synced]
    parked_rows: Mapping[int, int]


def counted(folder: Path) -> list[StreamOverview]:
    """The streams of a journal that nobody owns, with what waits for each."""
    known = _known(folder)
    waiting = {row.stream_no: Backlog(0, 0, 0, None) for row in known.rows}
    paths = segment_paths(folder)
    for number, path in paths.items():
        with suppress(FileNotFoundError):  # an owner has freed it meanwhile
            segment = look_at(number, path)
            if segment is not None:
                _complete(segment, known, is_newest=number == max(paths))
                for row in known.rows:
                    waiting[row.stream_no] = _with(segment, row, waiting[row.stream_no])
    return [
        stream_overview(folder.name, row, waiting[row.stream_no], known.parked_rows.get(row.stream_no, 0))
        for row in known.rows
    ]


def _known(folder: Path) -> _Known:
    newest = _newest(folder)
    try:
        with reading(folder) as connection:
            rows = read_streams(connection)
            parked = {row.stream_no: parked_rows(read_checkpoint(connection, row.stream_no, "parked")) for row in rows}
            summaries = read_segments(connection)
            return _Known(rows, newest, summaries, known_ends(folder, summaries), parked)
    except DamagedStateError:
        preambles = read_preambles(folder)
        return _Known(registered(preambles[-1]) if preambles else [], newest, {}, known_ends(folder, {}), {})


def _newest(folder: Path) -> Mapping[str, Any]:
    """The last published summary of the newest segment; nothing if there is none, or if it is damaged."""
    sealed = (read_json(folder / STATUS_NAME) or {}).get("newest_segment")
    try:
        summary: dict[str, Any] = unseal(sealed) if isinstance(sealed, str) else {}
    except DamagedStateError:
        return {}
    return summary


def _complete(segment: Segment, known: _Known, *, is_newest: bool) -> None:
    """Restore the counts of a segment, and count what was written after they were remembered."""
    number, start, end = segment.number, segment.begin, segment.end
    if number in known.summaries and segment.recall(known.summaries[number]):
        return
    if number == known.newest.get("number") and segment.recall_part(known.newest):
        start = known.newest["end"]
    durable_end = max(start, min(known.ends.get(number, NOTHING_SYNCED).end, end))
    for headers in _headers(segment, start, durable_end):
        segment.add_all(headers)
    segment.note_step(durable_end)
    for run in committed(segment, durable_end, is_newest=is_newest, start=durable_end):
        segment.add_all(packed(record.header for record in run.records))


def _headers(segment: Segment, start: int, end: int) -> Iterator[Headers]:
    return (block.headers for block in blocks(segment, start, end) if isinstance(block, Block))


def _with(segment: Segment, row: StreamRow, before: Backlog) -> Backlog:
    """Add what waits for a stream in a segment; the first that waits is the oldest."""
    (sequence, skip), oldest_ns = row.position, before.oldest_ns
    count = segment.count_behind(sequence, row.stream_no, partial(_headers, segment))
    if count.size_bytes <= 0:
        return before
    if oldest_ns is None:
        first = _first(segment, row)
        oldest_ns = int(first["timestamp_ns"])
        count.add(0, -skip if first["sequence"] == sequence + 1 else 0, 0)
    return Backlog(
        before.frames + count.frames, before.rows + count.rows, before.size_bytes + count.size_bytes, oldest_ns
    )


def _first(segment: Segment, row: StreamRow) -> np.void:
    """The header of the first record that waits for a stream."""
    sequence = row.position.sequence
    for headers in _headers(segment, segment.steps_around(sequence)[0].offset, segment.end):
        behind = headers[rows_for(headers, row.stream_no) & (headers["sequence"] > sequence)]
        if len(behind):
            first: np.void = behind[0]
            return first
    raise AssertionError("it was counted")
