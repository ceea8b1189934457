"""The JSON documents of the page. They have no secrets: journals and status files have none."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from api2db.app._rejects import find_file, read_rows, rejected_files
from api2db.app.figures import CollectorFigures, read_figures
from api2db.app.health import timeliness, troubles
from api2db.app.history import HOURS, MINUTES, History, Ring, Sample
from api2db.ingest import CollectorStatus, read_polls
from api2db.journal import StreamOverview, journal_store
from api2db.store import store_figures

_SPARK_POINTS: Final = 30
_MOST_ROWS: Final = 50
_LONGEST_CELL: Final = 200
Document = dict[str, Any]


class Documents:
    """Reads a project.

    Args:
        home: The project's folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._history = History(home)

    def project(self) -> Document:
        """All collectors and streams, and what is wrong: the first screen."""
        now_s = time.time()
        collectors, stores = read_figures(self._home), store_figures(self._home)
        samples = self._history.read(MINUTES, now_s)
        return {
            "project": self._home.resolve().name,
            "running": any(collector.running for collector in collectors),
            "troubles": [asdict(trouble) for trouble in troubles(collectors, stores, now_s)],
            "collectors": [self._collector(collector, samples, now_s) for collector in collectors],
            "stores": [asdict(store) for store in stores],
        }

    def collector(self, name: str) -> Document | None:
        """One collector whole, with its polls, curves, columns and newest rows; None where there is none."""
        found = read_figures(self._home, [name])
        if not found:
            return None
        now_s = time.time()
        details = journal_store(self._home).details(name)
        recent, day = self._history.read(MINUTES, now_s), self._history.read(HOURS, now_s)
        document = self._collector(found[0], recent, now_s)
        for stream in document["streams"]:
            key = (name, stream["identity"])
            said = details.get(stream["identity"], {})
            stream |= {
                "columns": said.get("columns", {}),
                "changes": said.get("changes", []),
                "rows": said.get("rows", []),
                "latency": said.get("latency", {}),
                "minutes": _curve(recent.get(key, ()), MINUTES, now_s),
                "hours": _curve(day.get(key, ()), HOURS, now_s),
            }
        document["recent_polls"] = [asdict(poll) for poll in read_polls(self._home, name)]
        document["troubles"] = [asdict(trouble) for trouble in troubles(found, (), now_s)]
        return document

    def rejected(self) -> list[Document]:
        """The files of rejected rows, newest first."""
        return [
            {
                "file": file.file,
                "collector": file.collector,
                "stream_type": file.stream_type,
                "at": file.rejected_at.timestamp(),
                "rows": file.rows,
                "reason": file.reason,
                "reasons": file.reasons,
            }
            for file in reversed(rejected_files(self._home))
        ]

    def rejected_rows(self, file: str) -> Document:
        """The first rows of a file, with their reasons.

        Raises:
            ConfigurationError: There is no such file.
        """
        found = find_file(self._home, file)
        rows = read_rows(self._home, found).slice(0, _MOST_ROWS).to_pylist()
        return {"file": found.file, "rows": [{name: _cell(value) for name, value in row.items()} for row in rows]}

    def _collector(
        self, collector: CollectorFigures, samples: Mapping[tuple[str, str], Sequence[Sample]], now_s: float
    ) -> Document:
        status = collector.status
        details = journal_store(self._home).details(collector.name)
        figures = (status.figures if status is not None else None) or {}
        return {
            "name": collector.name,
            "state": timeliness(collector, now_s),
            "running": collector.running,
            "interval_s": status.interval_s if status is not None else 0,
            "polls": status.polls if status is not None else 0,
            "failed": status.failed if status is not None else 0,
            "late": status.late if status is not None else 0,
            "rows": status.rows if status is not None else 0,
            "polled_at": status.polled_at if status is not None else None,
            "next_at": _next_at(status),
            "last_error": status.last_error if status is not None else None,
            "calls": figures.get("calls"),
            "not_modified": figures.get("not_modified"),
            "retried": figures.get("retried"),
            "waited_s": figures.get("waited_s"),
            "streams": [
                _stream(
                    stream, details.get(stream.identity, {}), samples.get((collector.name, stream.identity), ()), now_s
                )
                for stream in collector.streams
            ],
        }


def _stream(stream: StreamOverview, details: Mapping[str, Any], samples: Sequence[Sample], now_s: float) -> Document:
    latency = details.get("latency", {})
    return {
        "identity": stream.identity,
        "stream_type": stream.stream_type,
        "running": stream.running,
        "delivered": stream.rows_delivered,
        "waiting": stream.rows_waiting,
        "waiting_bytes": stream.bytes_waiting,
        "rejected": stream.rows_rejected,
        "parked": stream.rows_parked,
        "oldest_at": stream.oldest_ns / 1e9 if stream.oldest_ns else None,
        "visible_at": details.get("visible_at"),
        "rate": _rate(samples, stream.rows_delivered, now_s),
        "curve": _spark(samples, now_s),
        "p50_s": latency.get("p50_s"),
        "p99_s": latency.get("p99_s"),
        "last_error": stream.last_error,
        "error_at": stream.error_at,
    }


def _rate(samples: Sequence[Sample], delivered: int, now_s: float) -> float:
    """Rows a second since the sample before the last one."""
    if len(samples) < 2:
        return 0.0
    since = samples[-2]
    return max(0.0, (delivered - since.delivered) / max(1.0, now_s - since.at))


def _spark(samples: Sequence[Sample], now_s: float) -> list[float]:
    """Rows a second in equal parts of the last 15 minutes, oldest first."""
    return [point["rate"] for point in _points(samples, now_s, MINUTES.step_s * MINUTES.slots, _SPARK_POINTS)]


def _curve(samples: Sequence[Sample], ring: Ring, now_s: float) -> list[Document]:
    return list(_points(samples, now_s, ring.step_s * ring.slots, ring.slots // 2))


def _points(samples: Sequence[Sample], now_s: float, span_s: float, parts: int) -> Iterator[Document]:
    """Join samples into parts of a span: the rate of each, and what waited at its end."""
    step_s, at = span_s / parts, 0
    before: Sample | None = None
    for part in range(parts):
        end_s = now_s - span_s + (part + 1) * step_s
        last = before
        while at < len(samples) and samples[at].at <= end_s:
            last, at = samples[at], at + 1
        rate = 0.0
        if last is not None and before is not None and last.at > before.at:
            rate = max(0.0, (last.delivered - before.delivered) / (last.at - before.at))
        waiting, lag_s = (last.waiting, last.lag_s) if last is not None else (0, 0.0)
        yield {"at": end_s, "rate": round(rate, 3), "waiting": waiting, "lag_s": round(lag_s, 3)}
        before = last


def _cell(value: Any) -> str | None:
    text = None if value is None else str(value)
    return text if text is None or len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"


def _next_at(status: CollectorStatus | None) -> float | None:
    if status is None or status.polled_at is None or not status.interval_s:
        return None
    return status.next_poll_at or status.polled_at + status.interval_s
