"""Remove a file whose rows are put again: with that put or at the next open, and never another file of its name.

Another file may have taken the name: streams to two targets of one kind reject rows of one frame into one folder.
"""

import json
from contextlib import suppress
from pathlib import Path

from api2db.errors import ConfigurationError


def removal_of(home: Path, name: str) -> bytes:
    """Encode a file's name, size and time for a ``REMOVAL`` record.

    Raises:
        ConfigurationError: The name leads out of the home.
    """
    return json.dumps({"file": name, "known_by": _known_by(_file_below(home, name))}).encode()


def finish_removal(home: Path, payload: bytes) -> None:
    """Remove the file that a ``REMOVAL`` record names, if it is still the same file; ignore unreadable payloads."""
    with suppress(ConfigurationError, FileNotFoundError, KeyError, TypeError, ValueError):
        said = json.loads(payload)
        path = _file_below(home, said["file"])
        if _known_by(path) == said["known_by"]:
            path.unlink()


def _file_below(home: Path, name: str) -> Path:
    """Resolve a file name below the home.

    Raises:
        ConfigurationError: The name leads out of the home.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        message = f"{name} is not below {home}; name a file of the project"
        raise ConfigurationError(message)
    return home / name


def _known_by(path: Path) -> list[int] | None:
    """Size and time of a file; a restored copy has the same."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return [found.st_size, found.st_mtime_ns]
