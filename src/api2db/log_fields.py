"""The fields of log lines: the collector, the stream and the frame that the code at hand works for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_NONE: Final[Mapping[str, str]] = {}
_fields: ContextVar[Mapping[str, str]] = ContextVar("api2db_log_fields", default=_NONE)


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Add fields to the lines that this thread logs within the block."""
    before = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(before)


def add_log_field(name: str, value: str) -> None:
    """Add a field until the end of the block of ``log_fields`` that this is called in."""
    _fields.set({**_fields.get(), name: value})


def current_log_fields() -> Mapping[str, str]:
    """Return the fields of the lines that this thread logs now."""
    return _fields.get()
