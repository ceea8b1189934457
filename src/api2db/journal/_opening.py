"""What is known when a journal is opened: from its state file or, if that is damaged, from everything else."""

import json
import logging
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from api2db.disk.atomic import make_folders, sync_folder
from api2db.journal._epochs import read_epochs
from api2db.journal._record import RecordKind
from api2db.journal._scan import Record
from api2db.journal._segment import read_preamble, segment_paths
from api2db.journal._state import State
from api2db.journal._state_file import STATE_NAME, DamagedStateError, StreamRow
from api2db.journal.port import Delivered, Position

logger = logging.getLogger(__name__)


class Cursor(NamedTuple):
    """The collector's state, and the number of the record that stored it; the highest number is the newest."""

    sequence: int
    value: dict[str, Any]


NO_CURSOR = Cursor(0, {})


def cursor_of(said: Mapping[str, Any]) -> Cursor:
    """The collector's state in a preamble or a summary."""
    return Cursor(*said["cursor"]) if "cursor" in said else NO_CURSOR


def cursor_in(record: Record) -> Cursor:
    """The collector's state in a record; an empty one if the record is damaged."""
    if record.header.kind != RecordKind.CURSOR or not is_sound(record):
        return NO_CURSOR
    return Cursor(record.header.sequence, json.loads(record.payload))


def newest_of(cursors: Iterable[Cursor]) -> Cursor:
    """The cursor that was committed last."""
    return max(cursors, key=lambda cursor: cursor.sequence)


def is_sound(record: Record) -> bool:
    """Whether a payload matches its checksum."""
    return zlib.crc32(record.payload) == record.header.payload_crc


def read_preambles(folder: Path) -> list[Mapping[str, Any]]:
    """Return the intact preambles of all segments, in order."""
    found = (read_preamble(path).says for path in segment_paths(folder).values())
    return [says for says in found if says is not None]


def open_state(folder: Path, newest: Mapping[str, Any]) -> State:
    """Open the state file; rebuild a damaged or missing one from the newest segment's preamble.

    Raises:
        JournalError: The disk refuses.
    """
    try:
        state = State(folder)
    except DamagedStateError as error:
        _set_aside(folder, error)
        state = State(folder)
    if state.meta("journal") is None and (newest or read_epochs(folder)):
        _rebuild(state, newest)
        logger.warning("the positions of %s are rebuilt from its newest segment and the targets' ledgers", folder)
    return state


def registered(newest: Mapping[str, Any]) -> list[StreamRow]:
    """The streams that a preamble names, at the positions they had when it was written."""
    return [
        StreamRow(
            stream_no=stream["stream_no"],
            key=stream["key"],
            identity=stream["identity"],
            stream_type=stream["stream_type"],
            quota_bytes=None,
            position=Position(*stream["position"]),
            delivered=Delivered(),
            error=None,
            error_at=None,
        )
        for stream in newest.get("streams", [])
    ]


def _set_aside(folder: Path, error: DamagedStateError) -> None:
    aside = folder / "damaged" / f"state-{time.time_ns()}"
    make_folders(aside)
    for path in folder.glob(f"{STATE_NAME}*"):
        path.rename(aside / path.name)
    sync_folder(folder)
    logger.error("%s was damaged (%s); it is kept in %s and rebuilt", folder / STATE_NAME, error, aside)


def _rebuild(state: State, newest: Mapping[str, Any]) -> None:
    for row in registered(newest):
        state.add_stream(row)
        state.save_checkpoint(row.stream_no, "rebuilt", {"from": list(row.position)})
    state.keep_meta({"last_stream_no": newest.get("last_stream_no", 0)})
