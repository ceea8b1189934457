"""The parts of a collector as a notebook shows it."""

import functools
from pathlib import Path
from typing import Any

from api2db import hypertext
from api2db.ingest.status import facts_of, read_status
from api2db.journal import StreamOverview, journal_store

_STREAM_HEAD = ("stream", "running", "delivered", "waiting", "lag", "rejected", "parked", "last error")


def figures(home: Path, name: str) -> list[str]:
    """Return the figures of a collector's journal and of its last run.

    Raises:
        Api2dbError, OSError: They can't be read.
    """
    status, journal = read_status(home, name), journal_store(home).overview(name)
    parts = [] if status is None else [hypertext.facts(facts_of(status))]
    if journal.streams:
        parts.append(hypertext.table(_STREAM_HEAD, [_row(stream) for stream in journal.streams], _STREAM_HEAD[2:7]))
    return parts if journal.error is None else [*parts, hypertext.paragraph(journal.error, is_error=True)]


def _row(stream: StreamOverview) -> list[object]:
    return [
        stream.identity,
        stream.running,
        stream.rows_delivered,
        stream.rows_waiting,
        f"{stream.lag_s:.1f} s",
        stream.rows_rejected,
        stream.rows_parked,
        stream.last_error or "",
    ]


def listed(items: Any) -> str:
    """Name streams or stores, or the callable that makes them."""
    return f"those of {named(items)}" if callable(items) else "; ".join(map(repr, items)) or "none"


def named(function: Any) -> str:
    """Name what is called. Its own repr may hold arguments, and so a secret, except for a class of api2db."""
    if isinstance(function, functools.partial):
        return named(function.func)
    if type(function).__module__.startswith("api2db."):
        return repr(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__))
