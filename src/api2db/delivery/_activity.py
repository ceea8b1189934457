"""Figures on what a stream delivered recently: latencies, the table's columns, the newest rows."""

import bisect
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from api2db.delivery.batch import Batch
from api2db.journal import Entry, Position
from api2db.targets.port import Column

LATENCY_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
_RECENT: Final = 1_000  # latencies from which the percentiles are computed
_MOST_FRAMES: Final = 100  # whose latencies count, of one batch
_NEWEST_ROWS: Final = 20
_MOST_COLUMNS: Final = 100
_MOST_CHANGES: Final = 20
_LONGEST_CELL: Final = 200  # characters
_COPY_S: Final = 0.25  # the shortest time between two copies of rows


class Activity:
    """Records deliveries; cheap enough for each batch.

    A latency is the time from the put of a frame to the moment at which its last row is visible in the target.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visible_at: float | None = None
        self._counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._sum_s = 0.0
        self._recent_s: deque[float] = deque(maxlen=_RECENT)
        self._columns: dict[str, str] = {}
        self._changes: deque[dict[str, Any]] = deque(maxlen=_MOST_CHANGES)
        self._newest: deque[pa.RecordBatch] = deque()
        self._has_skipped = False
        self._copied_s = 0.0

    def resume(self, before: Mapping[str, Any]) -> None:
        """Take over what was known in an earlier process: the columns and their changes, in the form of ``as_json``."""
        with self._lock:
            self._columns = dict(before.get("columns", {}))
            self._changes.extend(before.get("changes", ()))

    def delivered(self, batch: Batch, reached: Position, columns: Sequence[Column] | None, *, more_waits: bool) -> None:
        """Record that a batch is visible.

        Args:
            batch: What was delivered; its rejected rows count too.
            reached: The stream's position; entries of the batch after it are delivered later.
            columns: The table's columns; None if the target has no columns of its own.
            more_waits: Whether further frames wait, so that these rows will not be the newest for long.
        """
        now_s = time.time()
        entries = [*_delivered(batch.entries, reached)]
        if not entries:
            return
        ends_ns = [time_ns for entry in entries for time_ns in _ends_ns(entry)]
        with self._lock:
            self._visible_at = now_s
            for ended_ns in ends_ns[:: len(ends_ns) // _MOST_FRAMES + 1]:
                self._add_latency(max(0.0, now_s - ended_ns / 1e9))
            self._note_columns(_declared(batch, columns), now_s)
            if not more_waits or time.monotonic() - self._copied_s >= _COPY_S:
                self._copied_s = time.monotonic()
                self._copy_rows([entry.batch for entry in entries])
            else:
                self._has_skipped = True

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON types; an empty dict before the first delivery.

        Keys: ``visible_at`` (seconds since 1970); ``latency`` (``bounds_s``, ``counts``, ``sum_s``, and ``p50_s`` and
        ``p99_s`` of the last 1,000 frames); ``columns`` (name to type); ``changes`` (each with ``at``, ``column``,
        ``before`` and ``after``); ``rows`` (the newest 20, newest first, as text).
        """
        with self._lock:
            if self._visible_at is None:
                return {}
            recent_s, newest = sorted(self._recent_s), list(self._newest)
            latency = {"bounds_s": list(LATENCY_BOUNDS_S), "counts": list(self._counts), "sum_s": self._sum_s}
            said = {"visible_at": self._visible_at, "columns": dict(self._columns), "changes": list(self._changes)}
        if recent_s:
            latency |= {name: recent_s[int(len(recent_s) * share)] for name, share in _PERCENTILES}
        rows = [row for batch in reversed(newest) for row in _readable(batch)]
        return {**said, "latency": latency, "rows": rows[:_NEWEST_ROWS]}

    def _add_latency(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self._sum_s += seconds
        self._recent_s.append(seconds)

    def _note_columns(self, columns: Mapping[str, str], now_s: float) -> None:
        if columns == self._columns:
            return
        if self._columns:
            for name in [*self._columns, *(name for name in columns if name not in self._columns)]:
                before, after = self._columns.get(name), columns.get(name)
                if before != after:
                    self._changes.append({"at": now_s, "column": name, "before": before, "after": after})
        self._columns = dict(columns)

    def _copy_rows(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Copy the last rows; a slice would keep the memory of the whole batch."""
        if self._has_skipped:
            self._newest.clear()
            self._has_skipped = False
        copied: list[pa.RecordBatch] = []
        missing = _NEWEST_ROWS
        for batch in reversed(batches):
            if batch.num_rows and missing > 0:
                copied.append(batch.take(pa.array(range(max(0, batch.num_rows - missing), batch.num_rows))))
                missing -= batch.num_rows
        self._newest.extend(reversed(copied))
        rows = sum(batch.num_rows for batch in self._newest)
        while self._newest and rows - self._newest[0].num_rows >= _NEWEST_ROWS:
            rows -= self._newest.popleft().num_rows


def _delivered(entries: Sequence[Entry], reached: Position) -> Iterator[Entry]:
    for entry in entries:
        if entry.position <= reached:
            yield entry
        elif entry.earlier is not None and (frames := entry.earlier.up_to(reached.sequence)):
            yield entry.up_to(frames)


def _ends_ns(entry: Entry) -> Iterator[int]:
    """The times of the frames that end in an entry, or of some of them if they are many."""
    if entry.earlier is not None:
        yield from entry.earlier.times_ns[:: len(entry.earlier) // _MOST_FRAMES + 1].tolist()
    if entry.frame_end:
        yield entry.timestamp_ns


_PERCENTILES: Final = (("p50_s", 0.5), ("p99_s", 0.99))


def _declared(batch: Batch, columns: Sequence[Column] | None) -> dict[str, str]:
    if columns is None:
        return {field.name: str(field.type) for field in batch.schema}
    return {column.name: column.declared for column in columns}


def _readable(rows: pa.RecordBatch) -> list[dict[str, str | None]]:
    names = rows.schema.names[:_MOST_COLUMNS]
    columns = [_texts(column) for column in rows.columns[:_MOST_COLUMNS]]
    return [dict(zip(names, row, strict=True)) for row in reversed(list(zip(*columns, strict=True)))]


def _texts(column: pa.Array) -> list[str | None]:
    """Values as text: JSON has no exact form for large integers, decimals, times and infinities."""
    try:
        texts = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        texts = [_text(value) for value in column]
    return [text if text is None or len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…" for text in texts]


def _text(value: pa.Scalar) -> str | None:
    try:
        return str(value.as_py()) if value.is_valid else None
    except (OverflowError, ValueError):
        return f"a {value.type} that Python has no value for"
