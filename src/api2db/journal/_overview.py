"""Looking at journals without owning them: nothing is written, nothing is held."""

import json
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from api2db.journal._owner import is_owned
from api2db.journal._record import Kind
from api2db.journal._segment import Count, Record, Segment, figures, read_preamble, segment_paths, walk
from api2db.journal._state import STATE_NAME, StreamRow, read_segments, read_streams, reading

if TYPE_CHECKING:
    from api2db.journal._log import SegmentedJournal

STATUS_NAME = "status.json"
_FRESH_S = 5.0


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


def journals_in(home: Path) -> list[Path]:
    """The folders of all journals of a project, by name."""
    return sorted(path.parent for path in (home / "STORE" / "journal").glob(f"*/{STATE_NAME}"))


def describe(journal: "SegmentedJournal", name: str) -> list[StreamOverview]:
    """What the owner knows."""
    found = []
    for log in list(journal.lanes.values()):
        backlog = log.backlog()
        count = Count(backlog.frames, backlog.rows, backlog.size_bytes)
        parked = log.note("parked") or {}
        found.append(_overview(name, log.current_row(), count, int(parked.get("rows", 0)), backlog.oldest_ns, log.attached))
    return found


def publish(folder: Path, streams: list[StreamOverview]) -> None:
    """Leave what the owner knows where readers find it."""
    temporary = folder / f".{STATUS_NAME}.tmp"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps({"at": time.time(), "streams": [asdict(stream) for stream in streams]}))
    temporary.replace(folder / STATUS_NAME)


def overview(folder: Path) -> list[StreamOverview]:
    """The streams of a journal: from its owner where one lives, else counted from the files.

    Raises:
        sqlite3.DatabaseError: The state file is damaged; the next owner will rebuild it.
    """
    if is_owned(folder) and (streams := _published(folder)) is not None:
        return streams
    return _counted(folder)


def _published(folder: Path) -> list[StreamOverview] | None:
    try:
        said = json.loads((folder / STATUS_NAME).read_text())
        if time.time() - said["at"] > _FRESH_S:
            return None
        return [StreamOverview(**stream) for stream in said["streams"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _counted(folder: Path) -> list[StreamOverview]:
    with reading(folder) as connection:
        rows = read_streams(connection)
        summaries = read_segments(connection)
        parked = {row.lane: _parked_rows(connection, row.lane) for row in rows}
    waiting = {row.lane: Count() for row in rows}
    oldest: dict[int, int] = {}
    for number, path in segment_paths(folder).items():
        _count_segment(_known(number, path, summaries), rows, waiting, oldest)
    return [
        _overview(folder.name, row, waiting[row.lane], parked[row.lane], oldest.get(row.lane), running=False)
        for row in rows
    ]


def _known(number: int, path: Path, summaries: dict[int, dict[str, object]]) -> Segment:
    head = read_preamble(path)
    segment = Segment(number, path, head[1] if head else 0, path.stat().st_size)
    if number in summaries:
        segment.recall(summaries[number])
    return segment


def _count_segment(
    segment: Segment, rows: list[StreamRow], waiting: dict[int, Count], oldest: dict[int, int]
) -> None:
    behind = [row for row in rows if not segment.last_sequence or row.position.sequence < segment.last_sequence]
    if not behind:
        return
    for found in walk(segment.path, segment.begin, segment.end):
        if not isinstance(found, Record) or found.header.kind != Kind.ROWS:
            continue
        for row in behind:
            if found.header.lane in {0, row.lane} and found.header.sequence > row.position.sequence:
                waiting[row.lane].add(*figures(found.header))
                oldest.setdefault(row.lane, found.header.timestamp_ns)


def _parked_rows(connection: sqlite3.Connection, lane: int) -> int:
    note = connection.execute("SELECT body FROM notes WHERE lane = ? AND kind = 'parked'", (lane,)).fetchone()
    return int(json.loads(note[0]).get("rows", 0)) if note else 0


def _overview(
    name: str, row: StreamRow, waiting: Count, parked: int, oldest_ns: int | None, running: bool
) -> StreamOverview:
    return StreamOverview(
        collector=name,
        identity=row.identity,
        stream_type=row.stream_type,
        running=running,
        frames_waiting=waiting.frames,
        rows_waiting=waiting.rows,
        bytes_waiting=waiting.size_bytes,
        frames_delivered=row.delivered.frames,
        rows_delivered=row.delivered.rows,
        rows_parked=parked,
        rows_rejected=row.delivered.rejected,
        rows_superseded=row.delivered.superseded,
        duplicates_dropped=row.delivered.duplicates,
        oldest_ns=oldest_ns,
        last_error=row.error,
        error_at=row.error_at,
    )
