"""The figures of a project's collectors and streams, for screens and scripts."""

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from api2db.ingest.status import CollectorStatus, read_status
from api2db.journal import JournalStore, Recovery, StreamOverview, journal_store, rejected_on_disk
from api2db.store import StoreFigures

_WINDOW_S = 3.0


@dataclass(frozen=True, slots=True)
class CollectorFigures:
    """A collector and its streams at one moment.

    Attributes:
        running: Whether a living process owns its journal.
        status: What it has polled; None if it never did.
        error: Why its journal can't be read; None if it can.
        damaged: Number of damaged parts of its journal that were set aside.
        damaged_in: Where these are kept.
        recovering: How far the recovery of its journal is; None if it is not being recovered.
    """

    name: str
    running: bool
    status: CollectorStatus | None
    streams: tuple[StreamOverview, ...]
    error: str | None = None
    damaged: int = 0
    damaged_in: str = ""
    recovering: Recovery | None = None

    @property
    def healthy(self) -> bool:
        """Whether its journal is intact and readable, and its streams are healthy."""
        unhealthy = any(is_unhealthy(stream, owned=self.running) for stream in self.streams)
        return not (self.error or self.damaged or unhealthy)


def read_figures(home: Path, names: Collection[str] | None = None) -> list[CollectorFigures]:
    """Read all journals of a project, or those of some collectors, without writing or locking.

    A journal whose streams have all been forgotten is left out, unless it is in use or damaged.
    """
    store = journal_store(home)
    found = (_figures(home, store, name) for name in store.names() if names is None or name in names)
    return [collector for collector in found if collector.streams or collector.running or not collector.healthy]


def only_named(collectors: Sequence[CollectorFigures], only: str | None) -> list[CollectorFigures]:
    """Return the collectors whose name contains a text, and of the others the streams that do; all without a text."""
    if only is None:
        return list(collectors)
    found = []
    for collector in collectors:
        streams = tuple(stream for stream in collector.streams if only in stream.identity)
        if only in collector.name:
            found.append(collector)
        elif streams:
            found.append(replace(collector, streams=streams))
    return found


def is_unhealthy(stream: StreamOverview, *, owned: bool) -> bool:
    """Whether something needs attention.

    That is so if rows are parked or rejected, the target has an error, or rows wait for a stream that does not run
    while its journal is in use.
    """
    left_alone = owned and not stream.running and stream.rows_waiting
    return bool(stream.rows_parked or stream.rows_rejected or stream.last_error or left_alone)


def as_json(home: Path, collectors: Sequence[CollectorFigures], stores: Sequence[StoreFigures] = ()) -> dict[str, Any]:
    """Convert the figures to JSON types."""
    return {
        "home": str(home),
        "healthy": all(found.healthy for found in collectors)
        and all(store.healthy for store in stores)
        and not (stores and _stores_rejected(home)),
        "collectors": [_collector_as_json(collector) for collector in collectors],
        "stores": [asdict(store) for store in stores],
    }


def _stores_rejected(home: Path) -> bool:
    """Whether stores set rows aside."""
    from api2db.store.rejected import is_of_store

    return any(is_of_store(file.file) for file in rejected_on_disk(home))


class Rates:
    """Rows per second of each stream, over the last few seconds."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], deque[tuple[float, int]]] = {}

    def of(self, stream: StreamOverview, now_s: float | None = None) -> float:
        """Record how many rows are delivered; return the rate."""
        seen = self._seen.setdefault((stream.collector, stream.identity), deque())
        seen.append((time.monotonic() if now_s is None else now_s, stream.rows_delivered))
        while len(seen) > 2 and seen[-1][0] - seen[0][0] > _WINDOW_S:
            seen.popleft()
        return self.last(stream)

    def last(self, stream: StreamOverview) -> float:
        """Return the rate as of the last record; 0 without one."""
        seen = self._seen.get((stream.collector, stream.identity))
        if not seen:
            return 0.0
        (begin_s, before), (end_s, after) = seen[0], seen[-1]
        return max(0.0, (after - before) / (end_s - begin_s)) if end_s > begin_s else 0.0


def _figures(home: Path, store: JournalStore, name: str) -> CollectorFigures:
    seen = store.overview(name)
    return CollectorFigures(
        name,
        seen.running,
        read_status(home, name),
        seen.streams,
        seen.error,
        seen.damaged,
        seen.damaged_in,
        seen.recovering,
    )


def _collector_as_json(collector: CollectorFigures) -> dict[str, Any]:
    said = asdict(collector)
    said["damaged_folder"] = said.pop("damaged_in")
    said["streams"] = [{**asdict(stream), "lag_s": stream.lag_s} for stream in collector.streams]
    return said
