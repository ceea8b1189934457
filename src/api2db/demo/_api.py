"""The API of the demo: what has departed and what the weather was, as far as accelerated time has come.

    GET /departures?after=ID&limit=N   {"departures": [row, …], "next": ID, "more": bool}
        The departures after ``after`` (from the beginning without it), at most ``limit``. Handing ``next`` back as
        ``after`` gives every departure once and only once.
    GET /weather?since=TIME            {"weather": [row, …], "until": TIME}
        The hours from ``OVERLAP`` before ``since`` on (from the beginning without it): neighbouring answers overlap,
        and whoever wants each row once drops those up to the ``until`` that was known already.
    GET /served                        what a faultless collector would hold by now, see ``Served``; it never fails

Departures and weather now and then answer 500, or 429 with ``Retry-After`` in seconds.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from api2db.demo import _records
from api2db.demo._clock import AcceleratedClock
from api2db.demo._faults import Faults

OVERLAP = timedelta(hours=6)
PAGE_ROWS = 100
PAGE_ROWS_MAX = 1000

Query = Mapping[str, str]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """What one endpoint has made visible so far.

    Attributes:
        rows: Visible rows, each counted once.
        ids_sha256: Their ids by ``_records.ids_digest``.
        sent: Rows sent in all answers, repeats counted.
        faults: Answers with 500 and with 429.
    """

    rows: int
    ids_sha256: str
    sent: int
    faults: dict[int, int]


@dataclass(frozen=True, slots=True)
class Served:
    """What the API has made visible so far.

    Attributes:
        now: The accelerated time.
        complete: Whether everything is visible, so that these counts are final.
    """

    now: str
    complete: bool
    departures: Shown
    weather: Shown


class _Endpoint:
    """The records of one path, its faults, and how much of it was sent."""

    def __init__(self, all_records: tuple[_records.Record, ...], faults: Faults) -> None:
        self.records = all_records
        self.faults = faults
        self._sent_rows = 0
        self._lock = threading.Lock()

    def visible(self, now: datetime) -> tuple[_records.Record, ...]:
        return self.records[: bisect_right(self.records, now, key=lambda record: record.visible_from)]

    def send(self, chosen: tuple[_records.Record, ...]) -> list[_records.Row]:
        with self._lock:
            self._sent_rows += len(chosen)
        return [record.row for record in chosen]

    def shown(self, now: datetime) -> Shown:
        visible = self.visible(now)
        ids = _records.ids_digest(record.id for record in visible)
        faults = {int(status): count for status, count in self.faults.drawn().items()}
        return Shown(len(visible), ids, self._sent_rows, faults)


class Api:
    """Answers queries; knows nothing of HTTP but its statuses. Accelerated time begins when it is made.

    Args:
        seconds: Wall time in which the whole slice becomes visible.
        seed: Fixes the faults.
        fault_share: The chance of a fault for a request, from 0 to 1.
        wall_clock_s: Seconds that only rise.

    Raises:
        ConfigurationError: ``seconds`` is not greater than 0.
    """

    def __init__(
        self, seconds: float, seed: int, fault_share: float, wall_clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.departures = _Endpoint(_records.departures(), Faults(f"departures {seed}", fault_share))
        self.weather = _Endpoint(_records.weather(), Faults(f"weather {seed}", fault_share))
        moments = [record.visible_from for record in (*self.departures.records, *self.weather.records)]
        self.clock = AcceleratedClock(min(moments), max(moments), seconds, wall_clock_s)
        self._last = max(moments)

    def answer(self, path: str, query: Query) -> tuple[HTTPStatus, Answer]:
        """Answer ``GET path?query``; a query that makes no sense is a 400 that says why."""
        try:
            return self._answer(path, query)
        except (ValueError, OverflowError) as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}

    def served(self) -> Served:
        """Count what is visible by now."""
        now = self.clock.now()
        return Served(_text(now), now >= self._last, self.departures.shown(now), self.weather.shown(now))

    def _answer(self, path: str, query: Query) -> tuple[HTTPStatus, Answer]:
        match path:
            case "/departures":
                return self._or_fault(self.departures, self._departures, query)
            case "/weather":
                return self._or_fault(self.weather, self._weather, query)
            case "/served":
                return HTTPStatus.OK, asdict(self.served())
            case _:
                return HTTPStatus.NOT_FOUND, {"error": f"There is no {path}."}

    def _or_fault(
        self, endpoint: _Endpoint, answer: Callable[[Query], Answer], query: Query
    ) -> tuple[HTTPStatus, Answer]:
        fault = endpoint.faults.draw()
        return (fault, {"error": fault.phrase}) if fault else (HTTPStatus.OK, answer(query))

    def _departures(self, query: Query) -> Answer:
        after = query.get("after", "")
        limit = _limit(query)
        visible = self.departures.visible(self.clock.now())
        start = bisect_right(visible, after, key=lambda record: record.id)
        page = visible[start : start + limit]
        following = page[-1].id if page else after
        more = start + limit < len(visible)
        return {"departures": self.departures.send(page), "next": following, "more": more}

    def _weather(self, query: Query) -> Answer:
        visible = self.weather.visible(self.clock.now())
        since = _moment(query["since"]) - OVERLAP if "since" in query else visible[0].visible_from
        start = bisect_left(visible, since, key=lambda record: record.visible_from)
        return {"weather": self.weather.send(visible[start:]), "until": _text(visible[-1].visible_from)}


def _limit(query: Query) -> int:
    limit = int(query.get("limit", PAGE_ROWS))
    if not 1 <= limit <= PAGE_ROWS_MAX:
        raise ValueError(f"limit must be from 1 to {PAGE_ROWS_MAX}, not {limit}")
    return limit


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"since must name its time zone, as in {text}Z")
    return moment


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
