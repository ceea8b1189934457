"""Parsers for arguments: durations, sizes, rates and names, checked when an object is constructed."""

import dataclasses
import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from api2db.errors import ConfigurationError

_Class = TypeVar("_Class", bound=type)
_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_RATE: Final = re.compile(r"(\d+)\s*/\s*(\d*)\s*([A-Za-z]+)")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PERIODS: Final = {"second": 1.0, "sec": 1.0, "minute": 60.0, "hour": 3600.0, "hr": 3600.0, "day": 86_400.0}


class Rate(NamedTuple):
    """A maximum number of calls in any period of this length."""

    calls: int
    period_s: float


def suggesting(cls: _Class) -> _Class:
    """Make the constructor of a dataclass suggest the nearest argument for an unknown one."""
    make: Callable[..., None] = cls.__init__  # type: ignore[misc]
    known = [field.name for field in dataclasses.fields(cls) if field.init]

    def init(self: object, *values: Any, **options: Any) -> None:
        for name in options:
            if name not in known:
                raise ConfigurationError(f"{cls.__name__} has no argument {name!r}{nearest(name, known)}")
        make(self, *values, **options)

    cls.__init__ = init  # type: ignore[misc]
    return cls


def suggesting_call(method: Callable[_Options, _Result]) -> Callable[_Options, _Result]:
    """Make a method of RestApi name the nearest argument for one that it does not have, and those that it lacks."""
    signature = inspect.signature(method)
    known = [name for name, one in signature.parameters.items() if name != "self" and one.kind is not one.VAR_KEYWORD]
    takes_others = len(known) + 1 < len(signature.parameters)

    @functools.wraps(method)
    def call(*values: _Options.args, **options: _Options.kwargs) -> _Result:
        try:
            signature.bind(*values, **options)
        except TypeError as error:
            unknown = [name for name in options if name not in known]
            if unknown and not takes_others:
                said = f"has no argument {unknown[0]!r}{nearest(unknown[0], known)}"
                raise ConfigurationError(f"{method.__name__} of RestApi {said}") from None
            like = [name for name in unknown if difflib.get_close_matches(name, known, cutoff=0.6)]
            hint = f"; {like[0]!r} may be meant as {nearest(like[0], known)[15:]}".removesuffix("?") if like else ""
            raise ConfigurationError(f"{method.__name__} of RestApi: {error}{hint}") from None
        return method(*values, **options)

    return call


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the most similar known name, or all of them."""
    choices = list(known)
    found = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; it has {', '.join(choices)}"


def of_kind(value: Any, kinds: type | tuple[type, ...], name: str, says: str) -> Any:
    """Return the value.

    Raises:
        ConfigurationError: It is of another type.
    """
    if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in _listed(kinds)):
        return value
    given = f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
    raise ConfigurationError(f"{name} must be {says}, not {given}")


def one_of(value: Any, known: Iterable[str], name: str) -> Any:
    """Return the value.

    Raises:
        ConfigurationError: It is not a known one.
    """
    choices = list(known)
    if value in choices:
        return value
    raise ConfigurationError(f"{name} is {value!r}{nearest(str(value), choices)}")


def whole(value: Any, name: str, least: int = 1) -> int:
    """Return a whole number.

    Raises:
        ConfigurationError: It is not a whole number, or less than ``least``.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {value!r}")


def text(value: Any, name: str) -> str:
    """Return a text.

    Raises:
        ConfigurationError: It is none, or empty.
    """
    if isinstance(value, str) and value:
        return value
    raise ConfigurationError(f"{name} must be text that is not empty, not {value!r}")


def optional_text(value: Any, name: str) -> str | None:
    """Return a text or None, as ``text`` does."""
    return None if value is None else text(value, name)


def flag(value: Any, name: str) -> bool:
    """Return whether something is so.

    Raises:
        ConfigurationError: It is neither True nor False.
    """
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name} must be True or False, not {value!r}")


def headers_of(value: Any, name: str) -> dict[str, str]:
    """Return headers.

    Raises:
        ConfigurationError: They are no dict of text, or HTTP can't carry one. No value is shown: it may be a secret.
    """
    found = dict(of_kind(value, Mapping, name, "a dict of text"))
    for header, content in found.items():
        if not isinstance(header, str) or not _HEADER.fullmatch(header):
            raise ConfigurationError(f"{name} has {header!r}, which is no name of a header")
        if not isinstance(content, str) or not content.isascii() or not (content.isprintable() or "\t" in content):
            raise ConfigurationError(f"{name}[{header!r}] must be text of ASCII without a newline")
        if any(sign in content for sign in "\r\n\0"):
            raise ConfigurationError(f"{name}[{header!r}] must be text of ASCII without a newline")
    return found


def params_of(value: Any, name: str) -> dict[str, Any]:
    """Return parameters of a query.

    Raises:
        ConfigurationError: They are no dict of plain values and lists of these.
    """
    found = dict(of_kind(value, Mapping, name, "a dict"))
    for param, content in found.items():
        parts = content if isinstance(content, (list, tuple)) else [content]
        if not isinstance(param, str) or any(isinstance(part, (Mapping, list, tuple, set)) for part in parts):
            raise ConfigurationError(f"{name}[{param!r}] must be a plain value or a list of them")
    return found


def positive_s(value: object, name: str) -> float:
    """Return seconds as ``duration_s`` does, but not 0."""
    seconds = duration_s(value, name)
    if seconds > 0:
        return seconds
    raise ConfigurationError(f"{name} is {value!r}; it must be more than 0")


def duration_s(value: object, name: str) -> float:
    """Return the seconds of a duration: text such as ``"5m"``, or a number of seconds.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found and found[2] in _SECONDS:
        return float(found[1]) * _SECONDS[found[2]]
    raise ConfigurationError(f"{name} is {value!r}; write a number and a unit, such as '30s', '5m', '2h' or '1d'")


def size_bytes(value: object, name: str) -> int:
    """Return the bytes of a size: text such as ``"64MB"``, or a number of bytes.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found and found[2] in _BYTES and (count := int(float(found[1]) * _BYTES[found[2]])) > 0:
        return count
    raise ConfigurationError(f"{name} is {value!r}; write a number and a unit, such as '500KB', '64MB' or '1GB'")


def rate(value: object, name: str) -> Rate:
    """Return the rate of text such as ``"80/min"`` or ``"10/5s"``.

    Raises:
        ConfigurationError: It is not a rate.
    """
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    unit = {**_SECONDS, **_PERIODS}.get(found[3]) if found else None
    if found and unit and int(found[1]) > 0 and float(found[2] or 1) > 0:
        return Rate(int(found[1]), float(found[2] or 1) * unit)
    raise ConfigurationError(f"{name} is {value!r}; write calls and a period, such as '10/s', '80/min' or '1000/h'")


def _listed(kinds: type | tuple[type, ...]) -> tuple[type, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)
