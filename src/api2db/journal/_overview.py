"""Looking at journals without owning them: nothing is written, nothing is held."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from api2db.disk.atomic import read_json, write_json
from api2db.journal._core import Core
from api2db.journal._lock import LOCK_NAME, is_owned
from api2db.journal._record import Header, RecordKind
from api2db.journal._repair import committed, look_at
from api2db.journal._scan import Record, scan
from api2db.journal._segment import Count, counts_of, read_preambles, segment_paths
from api2db.journal._state_file import (
    DamagedStateError,
    StreamRow,
    read_checkpoint,
    read_segments,
    read_streams,
    reading,
    registered,
)
from api2db.journal._synced import NOTHING_SYNCED, Synced, known_ends
from api2db.journal.port import ALL, Checkpoint, StreamOverview

STATUS_NAME = "status.json"
DETAILS_NAME = "details.json"


def journals_in(home: Path) -> list[Path]:
    """The folders of all journals of a project, by name."""
    return sorted(path.parent for path in (home / "STORE" / "journal").glob(f"*/{LOCK_NAME}"))


def describe(core: Core) -> list[StreamOverview]:
    """What the owner knows."""
    core.lock.check_process()
    found = []
    for stream in list(core.streams.values()):
        backlog = core.backlog(stream)
        count = Count(backlog.frames, backlog.rows, backlog.size_bytes)
        parked = _parked_rows(core.state.checkpoint(stream.stream_no, "parked"))
        row = stream.current_row()
        found.append(_overview(core.folder.name, row, count, parked, backlog.oldest_ns, running=stream.attached))
    return found


def publish(folder: Path, streams: list[StreamOverview]) -> None:
    """Write what the owner knows where readers find it; it need not survive a power cut.

    It is true for as long as the journal has its owner: the next one withdraws it.
    """
    write_json(folder / STATUS_NAME, {"at": time.time(), "streams": [asdict(stream) for stream in streams]})


def publish_details(core: Core) -> None:
    """Write what the streams say of themselves, as ``publish`` does."""
    before = details(core.folder)
    found = {
        stream.row.identity: stream.details() or before.get(stream.row.identity, {})
        for stream in list(core.streams.values())
    }
    if any(found.values()) and found != before:
        write_json(core.folder / DETAILS_NAME, found)


def withdraw(folder: Path) -> None:
    """Have readers count from the files."""
    with suppress(OSError):
        (folder / STATUS_NAME).unlink(missing_ok=True)


def overview(folder: Path) -> list[StreamOverview]:
    """The streams of a journal: from its owner where one lives, else counted from the files."""
    if is_owned(folder) and (streams := _published(folder)) is not None:
        return streams
    return _counted(folder)


def details(folder: Path) -> dict[str, dict[str, Any]]:
    """What the streams said of themselves last, by identity; true of that moment, whether or not the owner lives."""
    return read_json(folder / DETAILS_NAME) or {}


def _published(folder: Path) -> list[StreamOverview] | None:
    try:
        return [StreamOverview(**stream) for stream in (read_json(folder / STATUS_NAME) or {})["streams"]]
    except (KeyError, TypeError):
        return None


@dataclass(slots=True)
class _Known:
    """What the state file says; where it is damaged, what the newest segment's beginning says."""

    rows: list[StreamRow]
    summaries: Mapping[int, Mapping[str, Any]]
    ends: Mapping[int, Synced]
    parked_rows: Mapping[int, int]


def _counted(folder: Path) -> list[StreamOverview]:
    known = _known(folder)
    waiting = {row.stream_no: Count() for row in known.rows}
    oldest: dict[int, int] = {}
    newest = max(segment_paths(folder), default=0)
    for number, path in segment_paths(folder).items():
        with suppress(FileNotFoundError):  # an owner has freed it meanwhile
            for header in _headers(number, path, known, is_newest=number == newest):
                _count(header, known.rows, waiting, oldest)
    return [
        _overview(
            folder.name, row, waiting[row.stream_no], known.parked_rows.get(row.stream_no, 0), oldest.get(row.stream_no)
        )
        for row in known.rows
    ]


def _known(folder: Path) -> _Known:
    try:
        with reading(folder) as connection:
            rows = read_streams(connection)
            parked = {row.stream_no: _parked_rows(read_checkpoint(connection, row.stream_no, "parked")) for row in rows}
            summaries = read_segments(connection)
            return _Known(rows, summaries, known_ends(folder, summaries), parked)
    except DamagedStateError:
        preambles = read_preambles(folder)
        return _Known(registered(preambles[-1]) if preambles else [], {}, known_ends(folder, {}), {})


def _headers(number: int, path: Path, known: _Known, *, is_newest: bool) -> Iterator[Header]:
    segment = look_at(number, path)
    if segment is None:
        return
    if number in known.summaries and segment.recall(known.summaries[number]):
        if all(row.position.sequence >= segment.last_sequence for row in known.rows):
            return
        found = scan(segment, segment.begin, segment.end)
        yield from (record.header for record in found if isinstance(record, Record))
    else:
        synced_end = known.ends.get(number, NOTHING_SYNCED).end
        runs = committed(segment, synced_end, is_newest=is_newest)
        yield from (record.header for run in runs for record in run.records)


def _count(header: Header, rows: list[StreamRow], waiting: dict[int, Count], oldest: dict[int, int]) -> None:
    if header.kind != RecordKind.ROWS:
        return
    for row in rows:
        if header.stream_no in {ALL, row.stream_no} and header.sequence > row.position.sequence:
            skip = row.position.skip if header.sequence == row.position.sequence + 1 else 0
            waiting[row.stream_no].add(*counts_of(header))
            waiting[row.stream_no].add(0, -skip, 0)
            oldest.setdefault(row.stream_no, header.timestamp_ns)


def _parked_rows(checkpoint: Checkpoint | None) -> int:
    return int((checkpoint or {}).get("rows", 0))


def _overview(
    name: str, row: StreamRow, waiting: Count, parked: int, oldest_ns: int | None, *, running: bool = False
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
        rows_rejected=max(0, row.delivered.rejected),  # Rows may be put again before they are counted.
        rows_superseded=row.delivered.superseded,
        duplicates_dropped=row.delivered.duplicates,
        oldest_ns=oldest_ns,
        last_error=row.error,
        error_at=row.error_at,
    )
