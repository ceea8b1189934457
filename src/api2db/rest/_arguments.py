"""Parsers for arguments: durations, sizes, rates and names, checked when an object is constructed."""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeVar

from api2db.errors import ConfigurationError

_Class = TypeVar("_Class", bound=type)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_BYTES: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_RATE: Final = re.compile(r"(\d+)\s*/\s*(\d*)\s*([A-Za-z]+)")
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
    if found and found[2] in _BYTES:
        return int(float(found[1]) * _BYTES[found[2]])
    raise ConfigurationError(f"{name} is {value!r}; write a number and a unit, such as '500KB', '64MB' or '1GB'")


def rate(value: object, name: str) -> Rate:
    """Return the rate of text such as ``"80/min"`` or ``"10/5s"``.

    Raises:
        ConfigurationError: It is not a rate.
    """
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    unit = {**_SECONDS, **_PERIODS}.get(found[3]) if found else None
    if found and unit and int(found[1]) > 0 and found[2] != "0":
        return Rate(int(found[1]), float(found[2] or 1) * unit)
    raise ConfigurationError(f"{name} is {value!r}; write calls and a period, such as '10/s', '80/min' or '1000/h'")


def _listed(kinds: type | tuple[type, ...]) -> tuple[type, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)
