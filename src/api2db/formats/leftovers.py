"""What a composer or a store that died has left: temporary files that say for which folder of shards they were.

Who works on a folder holds its lock. So those of that folder are of somebody who is dead; all others may be alive.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from api2db.formats.atomic import is_temporary

__all__ = ["files_named", "owner_of", "sweep"]

_DIGITS = 16


def owner_of(folder: Path) -> str:
    """What temporary files carry that are for this folder of shards, wherever they lie."""
    named = f"{folder.stat().st_ino} {folder.resolve()}"
    return hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]


def sweep(folder: Path, name: str) -> None:
    """Clear away the temporary files of a name; the caller knows that nobody writes them any more."""
    for path in files_named(folder, lambda found: found.startswith(f".{name}.")):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def files_named(folder: Path, is_one: Callable[[str], bool]) -> list[Path]:
    """The files of a folder by their names alone: it may hold a million that were moved there."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if is_one(entry.name)]
