"""``api2db explain``: where rows of a collector are: waiting, in a target, or rejected, and why."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
from rich.console import Console

from api2db.app._cluster import cluster_address
from api2db.app._rejects import read_rows, rejected_files
from api2db.app.figures import read_figures
from api2db.app.project import collector_in
from api2db.app.screen import print_table
from api2db.errors import Api2dbError, ConfigurationError
from api2db.journal import names_on_disk, waiting_on_disk
from api2db.stream.diagnosis import rows_where
from api2db.stream.stream import Stream
from api2db.texts import counted

_MOST: Final = 5
_REASON: Final = "_api2db_reason"


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows were found.

    Attributes:
        state: ``unknown``: the place could not be searched, and ``why`` says why.
        place: The journal, the target, or the file of rejected rows.
        rows: How many rows were found; in a target, at most a few.
        why: Why they are there.
    """

    state: Literal["waiting", "delivered", "rejected", "unknown"]
    place: str
    rows: int
    why: str = ""


def print_places(main_file: Path, home: Path, name: str, conditions: Sequence[str], *, as_json: bool) -> bool:
    """Print where the rows of a collector are whose columns have some values; return whether any were found.

    Raises:
        ConfigurationError: A condition is none, or there is no such collector.
    """
    where = dict(map(_condition, conditions))
    collector = collector_in(main_file, name)
    streams = () if callable(collector.streams) else collector.streams
    places = [*_waiting(home, name, where), *_delivered(streams, where), *_rejected(home, name, where)]
    is_found = any(place.rows for place in places)
    if as_json:
        print(json.dumps({"found": is_found, "places": [asdict(place) for place in places]}, indent=2))
        return is_found
    console = Console(soft_wrap=True, highlight=False)
    if places:
        rows = [[place.state, f"{place.rows:,}", place.place, place.why] for place in places]
        print_table(console, ["state", "rows", "place", "why"], rows)
    if not is_found:
        print(_not_found(name, " and ".join(conditions), places))
    return is_found


def _not_found(name: str, conditions: str, places: Sequence[Place]) -> str:
    """What to say of rows that were not found; where a place was not searched, they may be there."""
    if any(place.state == "unknown" for place in places):
        return f"No row of {name} with {conditions} was found, but a place above could not be searched."
    return (
        f"No row of {name} with {conditions} waits, is in a target, or was rejected: it was never put, or was deleted."
    )


def _condition(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise ConfigurationError(f"--where {text}: write column=value, such as id=42")
    return name.strip(), value.strip()


def _waiting(home: Path, name: str, where: Mapping[str, str]) -> Iterator[Place]:
    if cluster_address() is not None:
        yield Place("unknown", "the journals in the cluster", 0, "rows that wait there are not searched")
        return
    if name not in names_on_disk(home):
        return
    counts: dict[str, tuple[int, int]] = {}
    for waiting in waiting_on_disk(home, name):
        if rows := rows_where(pa.Table.from_batches([waiting.rows]), where).num_rows:
            for stream in waiting.streams:
                before, since_ns = counts.get(stream, (0, waiting.timestamp_ns))
                counts[stream] = before + rows, since_ns
    for stream, (rows, since_ns) in counts.items():
        yield Place("waiting", f"journal of {name} → {stream}", rows, _why_waiting(home, name, stream, since_ns))


def _why_waiting(home: Path, name: str, identity: str, since_ns: int) -> str:
    since = f"since {datetime.fromtimestamp(since_ns / 1e9, tz=UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    found = (each for figures in read_figures(home, [name]) for each in figures.streams)
    stream = next((each for each in found if each.identity == identity), None)
    if stream is not None and stream.last_error:
        return f"{since}; {stream.last_error}"
    return f"{since}; " + ("being delivered" if stream is not None and stream.running else "start a run: api2db run")


def _delivered(streams: Sequence[Any], where: Mapping[str, str]) -> Iterator[Place]:
    for stream in streams:
        if not isinstance(stream, Stream):
            continue
        try:
            rows = len(stream.find(where, _MOST))
        except Api2dbError as error:
            yield Place("unknown", stream.describe(), 0, str(error))
        else:
            if rows:
                more = f"at least {counted(rows, 'row')}" if rows == _MOST else ""
                yield Place("delivered", stream.describe(), rows, more)


def _rejected(home: Path, name: str, where: Mapping[str, str]) -> Iterator[Place]:
    for file in rejected_files(home):
        if file.collector != name:
            continue
        found = rows_where(read_rows(home, file), where)
        if found.num_rows:
            reasons = "; ".join(dict.fromkeys(map(str, found.column(_REASON).to_pylist())))
            step = f"fix the cause, then: api2db rejected retry {shlex.quote(file.file)}"
            yield Place("rejected", file.file, found.num_rows, f"{reasons}; {step}")
