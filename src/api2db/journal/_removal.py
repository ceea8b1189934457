"""Remove files of rejected rows that were put again or dropped, and no longer count these rows.

The state file has each removal until its file is gone. So a file that can't be removed now is not put again, and is
removed later: in a round of the housekeeper, or at the next open. What a ``REMOVAL`` record says stands for the state
file until that is written.

Another file may have taken the name: streams to two targets of one kind reject rows of one frame into one folder.
"""

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from api2db.errors import ConfigurationError, JournalWriteError
from api2db.journal._core import Core
from api2db.journal._refusals import file_below
from api2db.journal._scan import Record
from api2db.journal._state_file import Removal

logger = logging.getLogger(__name__)


def removal_of(core: Core, name: str, stream_no: int, rows: int) -> Removal:
    """Describe the removal of a file.

    Raises:
        ConfigurationError: The name leads out of the home, or the file is being removed already.
    """
    removal = Removal(name, _known_by(file_below(core.home, name)), stream_no, rows)
    if removal.known_by is not None and any(_is_same_file(removal, other) for other in core.removals):
        message = (
            f"the rows of {name} were put again or dropped before, and only the file could not be removed; "
            "it is removed as soon as its folder allows that"
        )
        raise ConfigurationError(message)
    return removal


def payload_of(removal: Removal) -> bytes:
    """Encode a removal for a ``REMOVAL`` record."""
    return json.dumps({"file": removal.file, "known_by": removal.known_by, "rows": removal.rows}).encode()


def removal_in(record: Record) -> Removal | None:
    """Decode a ``REMOVAL`` record; None if it can't be read."""
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        said = json.loads(record.payload)
        return Removal(said["file"], said["known_by"], record.header.stream_no, said.get("rows", 0))
    return None


def remove(core: Core, removal: Removal) -> None:
    """Remove a file, now or later; called with the journal's lock held."""
    if removal.known_by is None:
        return
    core.removals = [*core.removals, removal]
    try:
        core.state.keep_removals(core.removals)
    except JournalWriteError as error:
        logger.warning("the removal of %s is not recorded: %s", removal.file, error)
    try:
        _finish(core, removal)
    except OSError as error:
        logger.warning("%s is removed later: %s", core.home / removal.file, error)


def finish_removals(core: Core) -> None:
    """Try again to remove the files that could not be removed; called with the journal's lock held."""
    for removal in core.removals:
        with suppress(OSError):
            _finish(core, removal)


def resume_removals(core: Core, recorded: Iterable[Removal]) -> None:
    """Go on with the removals of the last owner at an open.

    Args:
        core: The journal, with its streams.
        recorded: What ``REMOVAL`` records say. The file of one that was finished is gone.
    """
    core.removals = core.state.removals()
    for removal in recorded:
        with suppress(ConfigurationError, OSError):
            known_by = _known_by(file_below(core.home, removal.file))
            is_known = any(_is_same_file(removal, other) for other in core.removals)
            if known_by == removal.known_by and not is_known:
                remove(core, removal)
    finish_removals(core)


def _finish(core: Core, removal: Removal) -> None:
    """Remove the file if it is still the same one, and no longer count its rows.

    Raises:
        OSError: The file can't be removed, or the state file can't be written.
    """
    path = core.home / removal.file
    with suppress(FileNotFoundError):
        if _known_by(path) == removal.known_by:
            path.unlink()
    left = [other for other in core.removals if other is not removal]
    rows, size_bytes = core.state.finish_removal(removal, left)
    core.removals = left
    stream = core.streams.get(removal.stream_no)
    if stream is not None:
        before = stream.delivered
        stream.delivered = replace(
            before, rejected=before.rejected - rows, rejected_bytes=before.rejected_bytes - size_bytes
        )
        core.on_change()


def _is_same_file(one: Removal, other: Removal) -> bool:
    return (one.file, one.known_by) == (other.file, other.known_by)


def _known_by(path: Path) -> list[int] | None:
    """Size and time of a file; a restored copy has the same."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return [found.st_size, found.st_mtime_ns]
