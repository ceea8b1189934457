"""Temporary files that a killed composer or store left, named after the folder of shards that they belong to.

Whoever works on a folder holds its lock. So temporary files of that folder have a dead owner; others may be in use.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from api2db.disk.atomic import is_temporary

_DIGITS = 16


def owner_of(folder: Path) -> str:
    """The part of a temporary file's name that stands for a folder of shards."""
    named = f"{folder.stat().st_ino} {folder.resolve()}"
    return hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]


def sweep(folder: Path, name: str) -> None:
    """Remove the temporary files of a name; the caller knows that nobody writes them."""
    for path in files_named(folder, lambda found: found.startswith(f".{name}.")):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def files_named(folder: Path, is_one: Callable[[str], bool]) -> list[Path]:
    """List a folder by names alone: a million files may have been moved there."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if is_one(entry.name)]
