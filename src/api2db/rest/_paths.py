"""JMESPath expressions, checked when an object is constructed. A plain dotted path runs without the library."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import jmespath
import jmespath.exceptions

from api2db.errors import ConfigurationError

Path = Callable[[Any], Any]
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


def compiled(path: object, name: str) -> Path:
    """Return a function that looks up a path in a decoded document, and returns None if it is missing.

    Raises:
        ConfigurationError: The path is not JMESPath.
    """
    if not isinstance(path, str) or not path:
        raise ConfigurationError(f"{name} must be a path such as 'data.items', not {path!r}")
    if _PLAIN.fullmatch(path):
        return _plain(path.split("."))
    try:
        expression = jmespath.compile(path)
    except jmespath.exceptions.JMESPathError as error:
        said = str(error).splitlines()[0]
        raise ConfigurationError(f"{name}={path!r} is not JMESPath: {said}{_quoted(path)}") from None
    return expression.search


@cache
def names_of(path: str) -> tuple[str, ...]:
    """Return the names that a path begins with, as far as it only leads into objects."""
    if _PLAIN.fullmatch(path):
        return tuple(path.split("."))
    return _leading(jmespath.compile(path).parsed)[0]


def _leading(node: Any) -> tuple[tuple[str, ...], bool]:
    """The names at the left of an expression, and whether they are all of it."""
    match node["type"]:
        case "field":
            return (node["value"],), True
        case "subexpression":
            names, is_all = _leading(node["children"][0])
            below, is_rest = _leading(node["children"][1]) if is_all else ((), False)
            return names + below, is_all and is_rest
        case "index_expression" | "projection" | "value_projection" | "filter_projection" | "flatten" | "pipe":
            return _leading(node["children"][0])[0], False
    return (), False


def _plain(names: list[str]) -> Path:
    if len(names) == 1:
        [only] = names
        return lambda found: found.get(only) if isinstance(found, dict) else None

    def search(found: Any) -> Any:
        for name in names:
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return found

    return search


def _quoted(path: str) -> str:
    """Return a hint: JMESPath needs names with special characters in double quotes."""
    odd = all(part and not re.search(r"[\s\"'`\[\]{}()|&*]", part) for part in path.split("."))
    return f"""; a name with special characters needs quotes: '"{path}"'""" if odd else ""
