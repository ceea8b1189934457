"""Figures of journals, read without owning them: nothing is written, no lock is held."""

import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api2db.disk.atomic import read_json, write_json
from api2db.journal._lock import LOCK_NAME
from api2db.journal._state_file import StreamRow, seal
from api2db.journal.port import Backlog, Checkpoint, StreamOverview

if TYPE_CHECKING:
    from api2db.journal._core import Core

STATUS_NAME = "status.json"
DETAILS_NAME = "details.json"


def journal_folder(home: Path, name: str) -> Path:
    """Return the folder of a collector's journal."""
    return home / "STORE" / "journal" / name


def journals_in(home: Path) -> list[Path]:
    """The folders of all journals of a project, by name."""
    return sorted({path.parent for path in (home / "STORE" / "journal").glob(f"*/{LOCK_NAME}")})


def describe(core: "Core") -> list[StreamOverview]:
    """What the owner knows."""
    core.lock.check_process()
    found = []
    for stream in list(core.streams.values()):
        parked = parked_rows(core.state.checkpoint(stream.stream_no, "parked"))
        row, backlog = stream.current_row(), core.backlog(stream)
        found.append(stream_overview(core.folder.name, row, backlog, parked, running=stream.attached))
    return found


def publish(core: "Core", streams: list[StreamOverview]) -> None:
    """Write what the owner knows where readers find it; it need not survive a power cut.

    The streams are true for as long as the journal has its owner: the next one withdraws them. The summary of the
    newest segment outlives a killed owner, so that a reader counts only what was written later.
    """
    with core.changed:
        visible, summary = core.segment_set.visible, {}
        newest = core.segment_set.segments.get(visible.segment)
        if newest is not None:
            summary = {**newest.summary(), "number": visible.segment, "end": visible.offset}
    figures = {"at": time.time(), "streams": [asdict(stream) for stream in streams], "newest_segment": seal(summary)}
    write_json(core.folder / STATUS_NAME, figures)


def publish_details(core: "Core", before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write what the streams say of themselves, as ``publish`` does; return it.

    Args:
        before: What was written last; None if that is not known.
    """
    if before is None:
        before = details(core.folder)
    found = {
        stream.row.identity: stream.details() or before.get(stream.row.identity, {})
        for stream in list(core.streams.values())
    }
    if any(found.values()) and found != before:
        write_json(core.folder / DETAILS_NAME, found)
    return found


def withdraw(folder: Path) -> None:
    """Have readers count from the files."""
    with suppress(OSError):
        (folder / STATUS_NAME).unlink(missing_ok=True)


def details(folder: Path) -> dict[str, dict[str, Any]]:
    """What the streams said of themselves last, by identity; true of that moment, whether or not the owner lives."""
    return read_json(folder / DETAILS_NAME) or {}


def published(folder: Path) -> list[StreamOverview] | None:
    """The streams as the owner has last published them; None if no such report can be read."""
    try:
        return [StreamOverview(**stream) for stream in (read_json(folder / STATUS_NAME) or {})["streams"]]
    except (KeyError, TypeError):
        return None


def parked_rows(checkpoint: Checkpoint | None) -> int:
    """The number of rows of a parked batch."""
    return int((checkpoint or {}).get("rows", 0))


def stream_overview(
    name: str, row: StreamRow, waiting: Backlog, parked: int, *, running: bool = False
) -> StreamOverview:
    """What a journal knows of a stream, for those who look at it."""
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
        oldest_ns=waiting.oldest_ns,
        last_error=row.error,
        error_at=row.error_at,
    )
