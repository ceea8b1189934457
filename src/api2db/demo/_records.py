"""The rows of the slice, as the API serves them, in the order in which they become visible."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from importlib.resources import files
from typing import Any

Row = dict[str, Any]

_TEXT = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})
_FRACTIONS = frozenset({"temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"})


@dataclass(frozen=True, slots=True)
class Record:
    """One row and the moment from which the API shows it.

    Attributes:
        id: Unique and stable. Ids sort as the moments do, so the last id seen is a cursor.
        visible_from: In UTC.
        row: What the API sends, ``id`` included.
    """

    id: str
    visible_from: datetime
    row: Row


def departures() -> tuple[Record, ...]:
    """Give the departures by schedule; a cancelled flight has None where it has no time.

    To the columns of the source come ``id``, ``airline`` (a dict) and ``route`` (a list).
    """
    airlines = {line["carrier"]: line["name"] for line in _lines("airlines.csv")}
    return _sorted(_departure(line, airlines) for line in _lines("departures.csv"))


def weather() -> tuple[Record, ...]:
    """Give one row an airport and hour; to the columns of the source comes ``id``."""
    return _sorted(_observation(line) for line in _lines("weather.csv"))


def ids_digest(ids: Iterable[str]) -> str:
    """Hash ids in sorted order, one a line, so that two places can be compared without sending them all.

    An id that is missing or there twice gives another digest.
    """
    return sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _departure(line: Mapping[str, str], airlines: Mapping[str, str]) -> Record:
    columns = {name: _value(name, text) for name, text in line.items()}
    scheduled = datetime.fromisoformat(line["time_hour"]) + timedelta(minutes=int(line["minute"]))
    airline = {"carrier": line["carrier"], "name": airlines[line["carrier"]]}
    route = [line["origin"], line["dest"]]
    id_ = f"{scheduled:%Y%m%dT%H%MZ}-{line['carrier']}{line['flight']}-{line['origin']}"
    return Record(id_, scheduled, {"id": id_, **columns, "airline": airline, "route": route})


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
