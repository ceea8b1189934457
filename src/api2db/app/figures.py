"""The figures of a project's collectors and streams, for screens and scripts."""

import sqlite3
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from api2db.app._rejects import rejected_files
from api2db.disk.atomic import is_temporary
from api2db.ingest.status import CollectorStatus, read_status
from api2db.journal import StreamOverview, is_owned, journals_in, overview
from api2db.store import StoreFigures
from api2db.store.rejected import is_of_store

_WINDOW_S = 3.0


@dataclass(frozen=True, slots=True)
class CollectorFigures:
    """A collector and its streams at one moment.

    Attributes:
        running: Whether a living process owns its journal.
        status: What it has polled; None if it never did.
        error: Why its journal can't be read; None if it can.
        damaged: Number of damaged parts of its journal that were set aside.
    """

    name: str
    running: bool
    status: CollectorStatus | None
    streams: tuple[StreamOverview, ...]
    error: str | None = None
    damaged: int = 0

    @property
    def damaged_folder(self) -> Path:
        """The folder of the damaged parts, relative to the home."""
        return Path("STORE", "journal", self.name, "damaged")

    @property
    def healthy(self) -> bool:
        """Whether its journal is intact and readable, and its streams are healthy."""
        unhealthy = any(is_unhealthy(stream, owned=self.running) for stream in self.streams)
        return not (self.error or self.damaged or unhealthy)


def read_figures(home: Path, names: Collection[str] | None = None) -> list[CollectorFigures]:
    """Read all journals of a project, or those of some collectors, without writing or locking.

    A journal whose streams have all been forgotten is left out, unless it is in use or damaged.
    """
    wanted = (folder for folder in journals_in(home) if names is None or folder.name in names)
    found = (_figures(home, folder) for folder in wanted)
    return [collector for collector in found if collector.streams or collector.running or not collector.healthy]


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
        and not (stores and any(is_of_store(file.file) for file in rejected_files(home))),
        "collectors": [_collector_as_json(collector) for collector in collectors],
        "stores": [asdict(store) for store in stores],
    }


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
        (begin_s, before), (end_s, after) = seen[0], seen[-1]
        return max(0.0, (after - before) / (end_s - begin_s)) if end_s > begin_s else 0.0


def _figures(home: Path, folder: Path) -> CollectorFigures:
    name = folder.name
    try:
        streams, error = tuple(overview(folder)), None
    except (sqlite3.DatabaseError, OSError) as problem:
        streams, error = (), f"its journal can't be read: {problem}"
    return CollectorFigures(name, is_owned(folder), read_status(home, name), streams, error, _damaged_in(folder))


def _damaged_in(folder: Path) -> int:
    try:
        return sum(not is_temporary(path) for path in (folder / "damaged").iterdir())
    except FileNotFoundError:
        return 0


def _collector_as_json(collector: CollectorFigures) -> dict[str, Any]:
    said = asdict(collector)
    said["damaged_folder"] = str(collector.damaged_folder)
    said["streams"] = [{**asdict(stream), "lag_s": stream.lag_s} for stream in collector.streams]
    return said
