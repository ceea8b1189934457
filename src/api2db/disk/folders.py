"""The project's folders, and the check of names that become part of a path in them."""

import os
import re
from pathlib import Path

from api2db.errors import InvalidNameError

_LONGEST_BYTES = 120
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]|^\.|^\s|\s$")


def project_home(home: str | os.PathLike[str] | None = None) -> Path:
    """Return the project's folder: the one given, else ``API2DB_HOME``, else the current folder."""
    return Path(home or os.environ.get("API2DB_HOME") or ".").absolute()


def check_name(name: object, what: str = "collector") -> str:
    """Return a name that is safe as a folder and file name; it can't lead out of its folder.

    Raises:
        InvalidNameError: The name is not safe.
    """
    if isinstance(name, str) and name and not _FORBIDDEN.search(name) and _encodes(name):
        return name
    message = (
        f"{name!r} can't name a {what}: give it 1 to {_LONGEST_BYTES} bytes without slashes, control characters, "
        "a leading dot, or spaces at its ends"
    )
    raise InvalidNameError(message)


def _encodes(name: str) -> bool:
    try:
        return len(name.encode()) <= _LONGEST_BYTES
    except UnicodeEncodeError:
        return False


def upload_failed_folder(home: Path, name: str, stream_type: str) -> Path:
    """The folder of parked batches."""
    return home / "STORE" / "upload_failed" / name / stream_type


def rejected_folder(home: Path, name: str, stream_type: str) -> Path:
    """The folder of rejected rows."""
    return home / "STORE" / "rejected" / name / stream_type


def shard_folder(home: Path, name: str, fmt: str) -> Path:
    """The default folder of Stream2Local's shards."""
    return home / "STORE" / name / fmt


def static_file(home: Path, name: str, fmt: str) -> Path:
    """The default file of Stream2Local's modes ``update`` and ``replace``."""
    return home / "CACHE" / f"{name}_static.{fmt}"


def relative_to_home(path: Path, home: Path) -> str:
    """Return a path inside the project relative to it, so that the project can be moved; any other path in full."""
    resolved, base = path.resolve(), home.resolve()
    return str(resolved.relative_to(base)) if resolved.is_relative_to(base) else str(resolved)
