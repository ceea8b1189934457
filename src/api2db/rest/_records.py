"""Finding the records of a document: at a given path, or in the only list of objects."""

from collections.abc import Iterator
from typing import Any, Final

from api2db.errors import PollError
from api2db.rest._json import encode
from api2db.rest._paths import Path, compiled

_DEEPEST: Final = 4
WHOLE: Final = "@"
"""JMESPath's name of the document itself."""


def path_of_records(document: Any) -> str:
    """Return the path of the records: the top-level list, the one list of objects, or the object itself.

    Raises:
        PollError: There are several lists of objects; the message names them.
    """
    if isinstance(document, list):
        return WHOLE
    lists = list(_lists(document, "", 0))
    full = [path for path, items in lists if items]
    candidates = full or [path for path, _ in lists]
    if len(candidates) > 1:
        said = ", ".join(f"{path!r}" for path in candidates)
        raise PollError(f"the document has several lists: {said}; name one, as in records={candidates[0]!r}")
    return candidates[0] if candidates else WHOLE


def records_at(document: Any, path: str, find: Path | None = None) -> list[Any]:
    """Return the records at a path. A single object becomes a list of one; a missing value is an empty list.

    Raises:
        PollError: The value is something else.
    """
    found = document if path == WHOLE else (find or compiled(path, "records"))(document)
    if found is None:
        return []
    if isinstance(found, dict):
        return [found]
    if not isinstance(found, list):
        raise PollError(f"records={path!r} is a {type(found).__name__}, neither a list of objects nor an object")
    return found


def _lists(found: Any, path: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    """Yield the lists of objects, and empty lists, that are not inside of other lists."""
    if not isinstance(found, dict) or depth > _DEEPEST:
        return
    for name, value in found.items():
        below = f"{path}.{_quoted(name)}" if path else _quoted(name)
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            yield below, value
        else:
            yield from _lists(value, below, depth + 1)


def _quoted(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else encode(name).decode()
