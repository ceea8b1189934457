"""Checks of options that a user gives."""

from collections.abc import Iterable, Sequence
from typing import Any

from api2db.errors import ConfigurationError

IF_EXISTS = ("append", "replace", "fail")


def one_of(value: Any, known: Iterable[str], what: str) -> Any:
    """Return the value.

    Raises:
        ConfigurationError: It is not one of the known values.
    """
    if isinstance(value, str) and value in known:
        return value
    raise ConfigurationError(f"{what} must be one of {', '.join(known)}, not {value!r}")


def checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a key as a tuple.

    Raises:
        ConfigurationError: They are not a list of names.
    """
    if isinstance(keys, str) or not all(map(_is_name, keys)):
        raise ConfigurationError(f"keys must be a list of column names, not {keys!r}")
    return tuple(keys)


def _is_name(key: object) -> bool:
    return isinstance(key, str) and bool(key)
