"""Open a journal: what its state file, its segments and its other files say, and what a crash left unfinished."""

import json
import logging
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from api2db.disk.atomic import make_folders, sync_folder
from api2db.errors import JournalError, JournalWriteError
from api2db.journal._core import COUNTER_BITS, NO_CURSOR, Core, Cursor
from api2db.journal._epochs import add_epoch, read_epochs
from api2db.journal._lock import JournalLock
from api2db.journal._overview import withdraw
from api2db.journal._record import RecordKind
from api2db.journal._recovery import RecoveryProgress, withdraw_recovery
from api2db.journal._registered import RegisteredStream, parked_bytes
from api2db.journal._removal import removal_in, resume_removals
from api2db.journal._repair import repair
from api2db.journal._retention import Retention
from api2db.journal._scan import Record
from api2db.journal._segment import read_preambles, segment_paths
from api2db.journal._segment_set import SegmentSet
from api2db.journal._state import State
from api2db.journal._state_connection import hold_reserve, release_reserve
from api2db.journal._state_file import STATE_NAME, DamagedStateError, Removal, registered
from api2db.journal._synced import NOTHING_SYNCED, Loss, Synced, keep_synced, known_ends, losses
from api2db.journal.port import Durability

logger = logging.getLogger(__name__)
MOVED_NAME: Final = "moved"


def open_core(home: Path, folder: Path, durability: Durability, *, arrives: bool = False) -> Core:
    """Take the journal's lock, recover what a crash left, and count this open.

    Args:
        home: The project's folder.
        folder: The journal's.
        durability: When a put returns.
        arrives: Whether to open a journal that is not here yet; see ``_moving``.

    Raises:
        JournalBusyError: Another process owns it.
        JournalError: The disk refuses, or another version wrote the journal in a format unknown here.
    """
    try:
        if not arrives:
            _check_not_moved(folder)
        make_folders(folder)
        lock = JournalLock(folder)
    except JournalError:
        raise
    except OSError as error:
        raise _cannot_open(folder, error) from error
    try:
        if not arrives:
            _check_not_moved(folder)
        withdraw(folder)  # what an owner before this one has said
        withdraw_recovery(folder)
        return _recovered(home, folder, durability, lock)
    except BaseException as error:
        lock.release()
        if isinstance(error, OSError) and not isinstance(error, JournalError):
            raise _cannot_open(folder, error) from error
        raise


def moved_by(folder: Path) -> Mapping[str, Any] | None:
    """What is recorded of the move of a journal that is not here, or not yet; None if it is here."""
    path = folder / MOVED_NAME
    return json.loads(path.read_bytes()) if path.exists() else None


def _check_not_moved(folder: Path) -> None:
    said = moved_by(folder)
    if said is not None:
        raise JournalError(
            f"the journal of {folder.name} was moved to {said['where']}; run the project there with --cluster, or "
            f"bring the journal back with: api2db cluster export {folder.name}"
        )


def _recovered(home: Path, folder: Path, durability: Durability, lock: JournalLock) -> Core:
    preambles = read_preambles(folder)
    newest = preambles[-1] if preambles else {}
    try:
        state = _open_state(folder, newest)
    except JournalWriteError:
        release_reserve(folder)
        state = _open_state(folder, newest)
    try:
        journal_id = state.meta("journal") or newest.get("journal") or secrets.token_hex(8)
        cursor = _newest_of([_cursor_of(newest), Cursor(*(state.meta("cursor") or NO_CURSOR))])
        core = Core(home, folder, durability, lock, state, journal_id, cursor, SegmentSet(folder))
        _Opening(core, preambles, newest).recover()
    except BaseException:
        state.close()
        raise
    return core


class _Opening:
    """Completes a core from what is on the disk."""

    def __init__(self, core: Core, preambles: Sequence[Mapping[str, Any]], newest: Mapping[str, Any]) -> None:
        self._core = core
        self._preambles = preambles
        self._newest = newest
        self._retention = Retention(core)
        self._removals: list[Removal] = []

    def recover(self) -> None:
        core = self._core
        self._scan_segments()
        core.durable = core.segment_set.visible
        rows = core.state.streams()
        numbers = [row.stream_no for row in rows]
        core.last_stream_no = max(
            [core.state.meta("last_stream_no") or 0, self._newest.get("last_stream_no", 0), *numbers]
        )
        for row in rows:
            parked = parked_bytes(core.state.checkpoint(row.stream_no, "parked"))
            core.streams[row.stream_no] = RegisteredStream(core.segment_set, row, parked)
        at_least = self._highest_counter()
        try:
            self._count_open(at_least)
        except OSError:
            self._retention.reclaim()
            release_reserve(core.folder)
            self._count_open(at_least)
        resume_removals(core, self._removals)
        self._retention.discard(self._retention.take_finished())
        hold_reserve(core.folder)

    def _scan_segments(self) -> None:
        core = self._core
        summaries = core.state.segments()
        core.cursor = _newest_of([core.cursor, *map(_cursor_of, summaries.values())])
        ends = known_ends(core.folder, summaries)
        missing = losses(segment_paths(core.folder), ends)
        for record in self._repaired(summaries, ends):
            core.cursor = _newest_of([core.cursor, _cursor_in(record)])
            if record.header.kind == RecordKind.REMOVAL and _is_sound(record):
                removal = removal_in(record)
                self._removals += [] if removal is None else [removal]
        core.durable_cursor = core.cursor
        self._report(missing)
        segments = core.segment_set.segments
        for number, segment in segments.items():
            if number not in summaries or summaries[number]["end"] != segment.end:
                self._retention.retire(number)
        times_ns = [segment.last_timestamp_ns for segment in segments.values()]
        core.timestamp_ns = max([0, *(said["timestamp_ns"] for said in self._preambles), *times_ns])

    def _repaired(self, summaries: Mapping[int, Mapping[str, Any]], ends: Mapping[int, Synced]) -> Iterator[Record]:
        core = self._core
        scanned = {number: path for number, path in segment_paths(core.folder).items() if number not in summaries}
        sizes = {number: path.stat().st_size for number, path in scanned.items()}
        with RecoveryProgress(core.folder, sizes) as progress:
            for segment, record in repair(core.folder, core.segment_set, summaries, ends):
                progress.reached(segment.number, record.end)
                yield record

    def _report(self, missing: Sequence[Loss]) -> None:
        """Report lost bytes once; from then on what remains counts as complete."""
        core, segments = self._core, self._core.segment_set.segments
        delivered = min((row.position.sequence for row in core.state.streams()), default=0)
        for loss in missing:
            found = [segment.last_sequence for number, segment in segments.items() if number <= loss.segment]
            first = max([delivered, *found]) + 1
            if first <= loss.last_sequence:
                core.segment_set.report(loss, first)
        if gone := {loss.segment for loss in missing} - segments.keys():
            core.state.drop_segments(gone)
        last = segments.get(core.segment_set.visible.segment)
        keep_synced(core.folder, Synced(last.number, last.end, last.last_sequence) if last else NOTHING_SYNCED)

    def _highest_counter(self) -> int:
        """The highest open counter that any file mentions."""
        seen = [segment.last_sequence for segment in self._core.segment_set.segments.values()]
        seen += [stream.position.sequence for stream in self._core.streams.values()]
        counters: list[int] = [*(said["counter"] for said in self._preambles), *self._core.state.epochs().values()]
        return max([0, *counters, *(sequence >> COUNTER_BITS for sequence in seen)])

    def _count_open(self, at_least: int) -> None:
        """Record this open under a counter above all earlier ones."""
        core = self._core
        known = {**{said["epoch"]: said["counter"] for said in self._preambles}, **core.state.epochs()}
        core.counter, core.epoch, known_epochs = add_epoch(core.folder, at_least)
        core.epochs = {**known, **known_epochs, core.epoch: core.counter}
        core.state.add_epochs(core.epochs)
        core.state.keep_meta({"journal": core.journal_id})
        core.sequence = core.counter << COUNTER_BITS


def _open_state(folder: Path, newest: Mapping[str, Any]) -> State:
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


def _cursor_of(said: Mapping[str, Any]) -> Cursor:
    """The collector's state in a preamble or a summary."""
    return Cursor(*said["cursor"]) if "cursor" in said else NO_CURSOR


def _cursor_in(record: Record) -> Cursor:
    """The collector's state in a record; an empty one if the record is damaged."""
    if record.header.kind != RecordKind.CURSOR or not _is_sound(record):
        return NO_CURSOR
    return Cursor(record.header.sequence, json.loads(record.payload))


def _newest_of(cursors: Iterable[Cursor]) -> Cursor:
    return max(cursors, key=lambda cursor: cursor.sequence)


def _is_sound(record: Record) -> bool:
    return zlib.crc32(record.payload) == record.header.payload_crc


def _cannot_open(folder: Path, error: OSError) -> JournalWriteError:
    return JournalWriteError(
        f"the journal in {folder} can't be opened ({error}); free disk space or mend the disk, then start again"
    )
