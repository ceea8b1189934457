"""The columns of a key, as a user gives them."""

from collections.abc import Sequence

from api2db.errors import ConfigurationError

__all__ = ["checked_keys"]


def checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Give them as a tuple.

    Raises:
        ConfigurationError: They are no list of names.
    """
    if isinstance(keys, str) or not all(map(_is_name, keys)):
        raise ConfigurationError(f"keys must be a list of column names, not {keys!r}")
    return tuple(keys)


def _is_name(key: object) -> bool:
    return isinstance(key, str) and bool(key)
