"""Options that several constructors take, and the checks of options."""

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict, TypeVar, get_args

from api2db.errors import ConfigurationError
from api2db.journal import Durability
from api2db.targets.port import IfExists, SchemaRule

IF_EXISTS = ("append", "replace", "fail")
ON_CONFLICT = ("reject", "json")
_Init = TypeVar("_Init", bound=Callable[..., None])


class LoadOptions(TypedDict, total=False):
    """Options of all streams, and of all stores with a target; ``Stream`` describes them."""

    home: str | os.PathLike[str] | None
    schema: SchemaRule
    dtypes: dict[str, Any] | None


class StreamOptions(LoadOptions, total=False):
    """Options of all streams; ``Stream`` describes them."""

    durability: Durability
    max_backlog_bytes: int | None
    stream_id: str | None


def passes_options_to(callee: Callable[..., None]) -> Callable[[_Init], _Init]:
    """Show the options that a constructor passes on in its signature, with the defaults of the callee.

    ``**options: Unpack[StreamOptions]`` tells a type checker which options there are. This tells ``help`` and
    ``inspect.signature``.
    """

    def decorate(init: _Init) -> _Init:
        signature = inspect.signature(init)
        *own, options = signature.parameters.values()
        (named,) = get_args(options.annotation)
        known = inspect.signature(callee).parameters
        passed = [known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in named.__annotations__]
        init.__signature__ = signature.replace(parameters=[*own, *passed])  # type: ignore[attr-defined]
        return init

    return decorate


def one_of(value: Any, known: Iterable[str], what: str) -> Any:
    """Return the value.

    Raises:
        ConfigurationError: It is not one of the known values.
    """
    if isinstance(value, str) and value in known:
        return value
    raise ConfigurationError(f"{what} must be one of {', '.join(known)}, not {value!r}")


def whole_number(value: object, what: str, least: int = 0) -> int:
    """Return the value.

    Raises:
        ConfigurationError: It is not a whole number of at least ``least``.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ConfigurationError(f"{what} must be a whole number of at least {least}, not {value!r}")


def column_names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Return a list of columns as a tuple.

    Raises:
        ConfigurationError: The value is not a list of names.
    """
    if isinstance(names, str) or not all(map(_is_name, names)):
        raise ConfigurationError(f"{what} must be a list of column names, not {names!r}")
    return tuple(names)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name)


def for_own_table(if_exists: IfExists, *, table_is_own: bool) -> IfExists:
    """Return the rule for a load: ``"fail"`` refuses only a table that someone else created."""
    return "append" if if_exists == "fail" and table_is_own else if_exists
