"""The recorded rows that the demo's API serves, and the accelerated clock that makes them visible."""

import csv
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from importlib.resources import files
from typing import Any

from api2db.errors import ConfigurationError

Row = dict[str, Any]

_TEXT = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})
_FRACTIONS = frozenset({"temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"})


@dataclass(frozen=True, slots=True)
class Record:
    """A row, and the time from which the API shows it.

    Attributes:
        id: Unique and stable. Ids sort in the order of ``visible_from``, so the last id seen is a cursor.
        visible_from: In UTC.
        row: What the API sends, ``id`` included.
    """

    id: str
    visible_from: datetime
    row: Row


def departures() -> tuple[Record, ...]:
    """Return the departures by schedule; the times of a cancelled flight are None.

    The columns are those of the source, and ``id``, ``scheduled_at``, ``airline`` (a dict) and ``route`` (a list).
    """
    airlines = {line["carrier"]: line["name"] for line in _lines("airlines.csv")}
    return _sorted(_departure(line, airlines) for line in _lines("departures.csv"))


def weather() -> tuple[Record, ...]:
    """Return one row for each airport and hour: the columns of the source, and ``id``."""
    return _sorted(_observation(line) for line in _lines("weather.csv"))


def ids_digest(ids: Iterable[str]) -> str:
    """Hash ids in sorted order, so that two places can be compared without sending all ids.

    A missing id and a duplicate each change the digest.
    """
    return sha256("\n".join(sorted(ids)).encode()).hexdigest()


class AcceleratedClock:
    """Maps the span from ``first`` to ``last`` to the next ``seconds`` of wall time, then stops.

    Args:
        first: The time it shows now.
        last: The time it shows after ``seconds`` and from then on.
        seconds: Greater than 0.
        wall_clock_s: Monotonic seconds.

    Raises:
        ConfigurationError: ``seconds`` is not greater than 0.
    """

    def __init__(
        self, first: datetime, last: datetime, seconds: float, wall_clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        if not seconds > 0:
            raise ConfigurationError(f"The demo can't last {seconds} seconds; give a number greater than 0.")
        self._first = first
        self._last = last
        self._seconds = seconds
        self._wall_clock_s = wall_clock_s
        self._started_s = wall_clock_s()

    def now(self) -> datetime:
        """Return the accelerated time; at the end it is exactly ``last``."""
        passed = (self._wall_clock_s() - self._started_s) / self._seconds
        return self._last if passed >= 1 else self._first + (self._last - self._first) * passed


def _departure(line: Mapping[str, str], airlines: Mapping[str, str]) -> Record:
    columns = {name: _value(name, text) for name, text in line.items()}
    scheduled = datetime.fromisoformat(line["time_hour"]) + timedelta(minutes=int(line["minute"]))
    airline = {"carrier": line["carrier"], "name": airlines[line["carrier"]]}
    route = [line["origin"], line["dest"]]
    id_ = f"{scheduled:%Y%m%dT%H%MZ}-{line['carrier']}{line['flight']}-{line['origin']}"
    row = {"id": id_, "scheduled_at": f"{scheduled:%Y-%m-%dT%H:%M:00Z}", **columns, "airline": airline, "route": route}
    return Record(id_, scheduled, row)


def _observation(line: Mapping[str, str]) -> Record:
    columns = {name: _value(name, text) for name, text in line.items()}
    observed = datetime.fromisoformat(line["time_hour"])
    id_ = f"{observed:%Y%m%dT%H%MZ}-{line['origin']}"
    return Record(id_, observed, {"id": id_, **columns})


def _value(column: str, text: str) -> str | int | float | None:
    if text == "NA":
        return None
    if column in _TEXT:
        return text
    return float(text) if column in _FRACTIONS else int(text)


def _sorted(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda record: record.id))


def _lines(name: str) -> Iterable[dict[str, str]]:
    text = files("api2db.demo").joinpath("data", name).read_text("utf-8")
    return csv.DictReader(text.splitlines())
