"""A file whose rows are put again: it goes with that put, at the latest at the next open, and no other of its name.

The name may be another file's by then: streams to two targets of one kind set rows of one frame aside in one folder.
"""

import json
from contextlib import suppress
from pathlib import Path

from api2db.errors import ConfigurationError


def removal_of(home: Path, name: str) -> bytes:
    """What a record says of a file, by which it is known again.

    Raises:
        ConfigurationError: The name leads out of the home.
    """
    return json.dumps({"file": name, "known_by": _known_by(_file_below(home, name))}).encode()


def finish_removal(home: Path, payload: bytes) -> None:
    """Remove the file that a record speaks of, if it is still there; what can't be read speaks of none."""
    with suppress(ConfigurationError, FileNotFoundError, KeyError, TypeError, ValueError):
        said = json.loads(payload)
        path = _file_below(home, said["file"])
        if _known_by(path) == said["known_by"]:
            path.unlink()


def _file_below(home: Path, name: str) -> Path:
    """A file by its name, if that can't lead out of the home.

    Raises:
        ConfigurationError: It can.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        message = f"{name} is not below {home}; name a file of the project"
        raise ConfigurationError(message)
    return home / name


def _known_by(path: Path) -> list[int] | None:
    """Size and time, which a restored copy has too."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return [found.st_size, found.st_mtime_ns]
