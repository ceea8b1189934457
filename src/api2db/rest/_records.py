"""Finding the records of a document: at a given path, or in the only list of objects."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from api2db.errors import PollError
from api2db.rest._json import encode
from api2db.rest._paths import Path, compiled, names_of

_DEEPEST: Final = 4
_SHOWN: Final = 200
_ASIDE: Final = frozenset({"error", "errors", "warning", "warnings", "notices", "problems", "faults"})
"""What lists beside the records are called."""
_OF_ERRORS: Final = frozenset(
    {"error", "errors", "error_message", "errormessage", "exception", "fault", "message", "msg", "detail", "reason"}
)
_BESIDE_ERRORS: Final = frozenset(
    {
        *("status", "code", "type", "title", "instance", "success", "ok", "path", "timestamp", "time", "trace"),
        *("request_id", "requestid", "error_code", "errorcode", "error_description", "documentation_url", "statuscode"),
    }
)
WHOLE: Final = "@"
"""JMESPath's name of the document itself."""


def path_of_records(document: Any) -> str:
    """Return the path of the records: the top-level list, the one list of objects, or the object itself.

    Raises:
        PollError: There are several lists of objects, and it lists them; or the object says that something went wrong.
    """
    if not isinstance(document, dict):
        return WHOLE
    lists = [path for path, _ in _lists(document, "", 0)]
    candidates = [path for path in lists if path.rpartition(".")[2].lower() not in _ASIDE] or lists
    if len(candidates) > 1:
        said = ", ".join(f"{path!r}" for path in candidates)
        raise PollError(f"the records may be any of {said}; name the right one, as in records={candidates[0]!r}")
    if candidates:
        return candidates[0]
    if _is_error(document):
        raise PollError(
            f"the response looks like an error: {encode(document)[:_SHOWN].decode(errors='replace')}; give records='@' "
            "if it is a record"
        )
    return WHOLE


def guessed_records(document: Any) -> tuple[str | None, list[Any]]:
    """Return the records of a document, and their path if later documents can be trusted to have theirs there.

    An empty list may be another one, and a single object may be anything.

    Raises:
        PollError: There is no one place for them.
    """
    path = path_of_records(document)
    if path == WHOLE and isinstance(document, dict):
        return None, [] if _is_empty(document) else [document]
    records = records_at(document, path)
    return path if records else None, records


def records_at(document: Any, path: str, find: Path | None = None) -> list[Any]:
    """Return the records at a path; a single object is a list of one, and null is an empty list.

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


def check_path(document: Any, path: str, *, is_xml: bool) -> None:
    """Check that a document has the path of the records, which may hold null.

    An XML document has no element where a list is empty, so only its root counts.

    Raises:
        PollError: It has not: the document is something else, such as an error with the status 200.
    """
    names, found = names_of(path), document
    for name in names[:1] if is_xml else names:
        if found is None and found is not document:
            return
        if not isinstance(found, dict) or name not in found:
            raise PollError(
                f"the response has nothing at records={path!r}; it is {_described(document)}; if the API leaves that "
                f"out where there are no records, give records='{path} || `[]`'"
            )
        found = found[name]


def check_list(document: Any) -> None:
    """Check that a document is a list, as the earlier ones were.

    Raises:
        PollError: It is something else.
    """
    if document is not None and not isinstance(document, list):
        raise PollError(
            f"the response is {_described(document)}, and earlier ones were lists of records; name the place of the "
            "records as records= if the API has changed"
        )


def _described(document: Any) -> str:
    if isinstance(document, dict):
        return f"an object with {', '.join(repr(name) for name in list(document)[:5]) or 'nothing in it'}"
    return "null" if document is None else f"a {type(document).__name__}"


def _is_empty(document: Mapping[str, Any]) -> bool:
    """Whether an object says nothing, as ``{"items": null}`` where there are none."""
    return all(value is None or value in ({}, []) for value in document.values())


def _is_error(document: Mapping[str, Any]) -> bool:
    """Whether an object is an error with the status 200, by what its fields are called."""
    names = {name.lower() for name, value in document.items() if value}
    return bool(names & _OF_ERRORS) and (names <= _BESIDE_ERRORS | _OF_ERRORS)


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
