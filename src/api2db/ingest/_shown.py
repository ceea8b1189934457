"""A collector as a notebook shows it."""

import functools
from typing import Any

from api2db import hypertext
from api2db.errors import Api2dbError
from api2db.ingest._collector import Collector
from api2db.ingest.runner import home_of_collector
from api2db.ingest.status import facts_of, read_status
from api2db.journal import StreamOverview, journal_store

_STREAM_HEAD = ("stream", "running", "delivered", "waiting", "lag", "rejected", "parked", "last error")


def collector_html(collector: Collector) -> str:
    """Return what a collector polls and where its rows go, and the figures of its journal."""
    said: dict[str, object] = {
        "polls": _named(collector.import_target),
        "every": f"{collector.seconds:g} s" if collector.seconds else "never: it is disabled",
        "streams": _listed(collector.streams),
    }
    if collector.stores is not None:
        said["stores"] = _listed(collector.stores)
    return hypertext.area(hypertext.title(f"Collector {collector.name}"), hypertext.facts(said), *_figures(collector))


def _figures(collector: Collector) -> list[str]:
    try:
        home = home_of_collector(collector)
        status, journal = read_status(home, collector.name), journal_store(home).overview(collector.name)
    except (Api2dbError, OSError) as error:
        return [hypertext.paragraph(error, is_error=True)]
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


def _listed(items: Any) -> str:
    return f"those of {_named(items)}" if callable(items) else "; ".join(map(repr, items)) or "none"


def _named(function: Any) -> str:
    """Name what is called. Its own repr may hold arguments, and so a secret, except for a class of api2db."""
    if isinstance(function, functools.partial):
        return _named(function.func)
    if type(function).__module__.startswith("api2db."):
        return repr(function)
    return str(getattr(function, "__qualname__", type(function).__qualname__))
