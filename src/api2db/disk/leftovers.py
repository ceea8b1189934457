"""Temporary files left by a killed composer or store, named after the folder of shards that they belong to.

A composer or store holds the lock of its folder. Temporary files of that folder therefore have no living owner;
temporary files of other folders may be in use.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from api2db.disk.atomic import is_temporary

_DIGITS = 16


def owner_of(folder: Path) -> str:
    """Return the part of a temporary file's name that identifies a folder of shards."""
    named = f"{folder.stat().st_ino} {folder.resolve()}"
    return hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]


def sweep(folder: Path, name: str) -> None:
    """Remove the temporary files with a name; the caller knows that nothing writes them."""
    for path in files_named(folder, lambda found: found.startswith(f".{name}.")):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def files_named(folder: Path, is_one: Callable[[str], bool]) -> list[Path]:
    """List a folder by names alone, because a million files may have been moved there."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if is_one(entry.name)]
