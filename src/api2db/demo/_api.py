"""The demo's API: recorded departures and weather, served over HTTP in accelerated time.

    GET /departures?since=TIME&after=ID&limit=N   {"departures": [row, …], "has_more": bool}
        The departures scheduled from ``since`` on (without it, from the first one), at most ``limit``. Pass the last
        id of a page as ``after`` to get the next page.
    GET /weather?since=TIME                       {"weather": [row, …]}
        The hours from ``since`` on (without it, from the first one).
    GET /served                                   what a faultless collector holds, see ``Served``; it never fails

Some requests for departures and weather are answered with 500, or with 429 and ``Retry-After`` in seconds.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from random import Random
from typing import Self

from api2db.demo import _records
from api2db.demo._server import Answer, JsonServer, Query

PAGE_ROWS = 100
PAGE_ROWS_MAX = 1000
_FAULTS = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True, slots=True)
class Shown:
    """What one endpoint has made visible so far.

    Attributes:
        rows: Number of visible rows.
        ids_sha256: ``_records.ids_digest`` of their ids.
        sent: Number of rows in all answers, repeats included.
        faults: Number of answers with 500 and with 429.
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
        complete: Whether everything is visible, so that the counts are final.
    """

    now: str
    complete: bool
    departures: Shown
    weather: Shown


class Faults:
    """Decides for each request whether it fails, in an order that depends on the seed alone.

    The request after a fault never fails, so one retry is always enough.

    Args:
        seed: The same seed gives the same faults.
        share: The chance of a fault, from 0 (never) to 1 (every other request).
    """

    def __init__(self, seed: int | str, share: float) -> None:
        self._random = Random(seed)  # noqa: S311 - faults must be repeatable, not secret
        self._share = share
        self._lock = threading.Lock()
        self._last: HTTPStatus | None = None
        self._drawn: Counter[HTTPStatus] = Counter()

    def draw(self) -> HTTPStatus | None:
        """Return the status with which the next request fails, or None."""
        with self._lock:
            self._last = self._draw() if self._last is None else None
            return self._last

    def drawn(self) -> dict[HTTPStatus, int]:
        """Return the number of faults so far for each status."""
        with self._lock:
            return dict(self._drawn)

    def _draw(self) -> HTTPStatus | None:
        if self._random.random() >= self._share:
            return None
        kind = self._random.choice(_FAULTS)
        self._drawn[kind] += 1
        return kind


class _Endpoint:
    """The records of one path, its faults, and the number of rows sent."""

    def __init__(self, all_records: tuple[_records.Record, ...], faults: Faults) -> None:
        self.records = all_records
        self.faults = faults
        self._sent_rows = 0
        self._lock = threading.Lock()

    def visible(self, now: datetime) -> tuple[_records.Record, ...]:
        return self.records[: bisect_right(self.records, now, key=lambda record: record.visible_from)]

    def send(self, chosen: Sequence[_records.Record]) -> list[_records.Row]:
        with self._lock:
            self._sent_rows += len(chosen)
        return [record.row for record in chosen]

    def shown(self, now: datetime) -> Shown:
        visible = self.visible(now)
        ids = _records.ids_digest(record.id for record in visible)
        faults = {int(status): count for status, count in self.faults.drawn().items()}
        return Shown(len(visible), ids, self._sent_rows, faults)


class Api:
    """Answers queries without a network. Accelerated time starts when it is constructed.

    Args:
        seconds: Wall time in which all records become visible.
        seed: The same seed gives the same faults.
        fault_share: The chance of a fault for a request, from 0 to 1.
        wall_clock_s: Monotonic seconds.

    Raises:
        ConfigurationError: ``seconds`` is not greater than 0.
    """

    def __init__(
        self, seconds: float, seed: int, fault_share: float, wall_clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.departures = _Endpoint(_records.departures(), Faults(f"departures {seed}", fault_share))
        self.weather = _Endpoint(_records.weather(), Faults(f"weather {seed}", fault_share))
        moments = [record.visible_from for record in (*self.departures.records, *self.weather.records)]
        self.clock = _records.AcceleratedClock(min(moments), max(moments), seconds, wall_clock_s)
        self._last = max(moments)

    def answer(self, path: str, query: Query) -> tuple[HTTPStatus, Answer]:
        """Answer ``GET path?query``; an invalid query gets a 400 with the reason."""
        try:
            return self._answer(path, query)
        except (ValueError, OverflowError) as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}

    def served(self) -> Served:
        """Return what is visible by now."""
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
        after, limit = query.get("after", ""), _limit(query)
        found = [record for record in self._since(self.departures, query) if record.id > after]
        return {"departures": self.departures.send(found[:limit]), "has_more": limit < len(found)}

    def _weather(self, query: Query) -> Answer:
        return {"weather": self.weather.send(self._since(self.weather, query))}

    def _since(self, endpoint: _Endpoint, query: Query) -> Sequence[_records.Record]:
        visible = endpoint.visible(self.clock.now())
        begin = (
            bisect_left(visible, _moment(query["since"]), key=lambda record: record.visible_from)
            if "since" in query
            else 0
        )
        return visible[begin:]


class DemoApi:
    """Serves the records on a free loopback port; use it as a context manager.

    Accelerated time starts with the server. Clients may be killed, disconnect and reconnect.

    Args:
        seconds: Wall time in which all records become visible.
        seed: The same seed gives the same faults.
        fault_share: The chance of a fault for a request, from 0 to 1.
        wall_clock_s: Monotonic seconds.
    """

    def __init__(
        self,
        seconds: float = 15.0,
        *,
        seed: int = 2025,
        fault_share: float = 0.15,
        wall_clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._seed = seed
        self._fault_share = fault_share
        self._wall_clock_s = wall_clock_s
        self._running: tuple[Api, JsonServer] | None = None

    @property
    def url(self) -> str:
        """The address, without a trailing slash."""
        return self._started()[1].url

    def served(self) -> Served:
        """Return what ``GET /served`` answers, without the network."""
        return self._started()[0].served()

    def start(self) -> None:
        """Listen, and start accelerated time.

        Raises:
            ConfigurationError: ``seconds`` is not greater than 0.
        """
        api = Api(self._seconds, self._seed, self._fault_share, self._wall_clock_s)
        self._running = api, JsonServer(api.answer)

    def stop(self) -> None:
        """Finish the current requests, then close the port; do nothing if the server is not running."""
        if self._running is None:
            return
        self._running[1].close()
        self._running = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _started(self) -> tuple[Api, JsonServer]:
        if self._running is None:
            raise RuntimeError("The demo's API is not running; start it first.")
        return self._running


def _limit(query: Query) -> int:
    limit = int(query.get("limit", PAGE_ROWS))
    if not 1 <= limit <= PAGE_ROWS_MAX:
        raise ValueError(f"limit must be from 1 to {PAGE_ROWS_MAX}, not {limit}")
    return limit


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"since must have a time zone, as in {text}Z")
    return moment


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
