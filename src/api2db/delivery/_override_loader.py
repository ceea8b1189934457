"""The loader for streams whose ``stream`` method a user has overridden: it is called with each frame, at least once.

What the method hands on to the class it overrides goes into that class's target. No position lies within these rows:
the journal does not have them. The position moves with the last of them, past the frame. If a load fails, the rest is
kept in memory for the next attempt. After a restart the method is called with the whole frame again.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa

from api2db.delivery._dtypes import Dtypes
from api2db.delivery._loader import Loader, acknowledge
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._refusals import SMALL_ROWS, TooLargeError, TooManyRefusalsError
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch, Source, batch_of, rows_of_frame
from api2db.errors import TargetUnavailableError
from api2db.frames import to_batch, to_pandas
from api2db.journal import Delivered, Entry, Position, StreamReader
from api2db.targets.port import Column, Target
from api2db.texts import redact

# As the worker does after a batch that was too large.
_SLOWLY = 8


class OverrideTarget:
    """The user's own method as a target, before the one that gets what the method hands on."""

    keys: tuple[str, ...] = ()
    largest_bytes: int | None = None
    large_batches = False
    replaces_table = False
    whole_frames = True
    rest_s = 0.0

    def __init__(self, onward: Target | None = None) -> None:
        self._onward = onward

    def connect(self) -> None:
        if self._onward is not None:
            self._onward.connect()

    def close(self) -> None:
        if self._onward is not None:
            self._onward.close()

    def end_waiting(self) -> None:
        if self._onward is not None:
            self._onward.end_waiting()


@dataclass(slots=True)
class _HandedOn:
    """What the method handed on for one frame and is not in the target yet.

    Attributes:
        start: The stream's position before the frame.
        source: The frame.
        entries: All but the last have ``start`` as their position; the last has the frame's end.
        most_rows: The most rows of one load; smaller after a load that was too large or had too many refusals.
    """

    start: Position
    source: Source
    entries: list[Entry]
    most_rows: int = sys.maxsize


class OverrideLoader(Loader):
    """Calls a method with each frame; see ``Loader``.

    Args:
        reader: The stream's reader.
        call: Calls the method with a DataFrame; returns the frames that it handed on.
        parking: Holds the parked batch.
        rejects: Stores refused rows if the stream has no target of its own.
        onward: Delivers the frames that are handed on; None if the stream has no target of its own.
        keyed: Whether the target replaces rows by key; see ``batch_of``.
        dtypes: The types that handed-on rows are cast to.
    """

    def __init__(
        self,
        reader: StreamReader,
        call: Callable[[pd.DataFrame], list[pa.RecordBatch]],
        parking: ParkedBatches,
        rejects: Rejects,
        onward: Loader | None,
        *,
        keyed: bool = False,
        dtypes: Dtypes | None = None,
    ) -> None:
        self._keyed = keyed
        self._dtypes = dtypes or Dtypes()
        self._reader = reader
        self._parking = parking
        self._rejects = rejects
        self._call = call
        self._onward = onward
        self._handed_on: _HandedOn | None = None

    @property
    def columns(self) -> Sequence[Column] | None:
        return None if self._onward is None else self._onward.columns

    def recover(self) -> int:
        if self._onward is None:
            self._rejects.settle()
            self._rejects.resolve(self._reader.position)
            return 0
        rows_in = self._onward.recover()
        if self._handed_on is not None:
            self._handed_on.entries = _after_rows(self._handed_on.entries, rows_in)
        return 0

    def deliver(self, batch: Batch) -> Batch:
        for frame in batch.entries_by_frame():
            position, end = self._reader.position, frame[-1].position
            handed_on = self._handed_on
            if handed_on is None or (handed_on.start, handed_on.source.end) != (position, end):
                handed_on = self._call_with(frame)
            if self._onward is None or not handed_on.entries:
                told = Delivered(frames=int(frame[-1].frame_end), rows=handed_on.source.rows)
                self._reach(end, told)
            else:
                self._pass_on(self._onward, handed_on)
        return batch

    def reject(self, batch: Batch, reason: str) -> None:
        if self._onward is not None:
            self._onward.reject(batch, reason)
            return
        self._rejects.set_aside(batch, dict.fromkeys(range(batch.num_rows), reason), alone=True)
        self._reach(batch.end, Delivered(frames=batch.frames))

    def _call_with(self, frame: Sequence[Entry]) -> _HandedOn:
        rows, start, end = rows_of_frame(frame), self._reader.position, frame[-1]
        try:
            made = self._call(to_pandas(rows))
        except Exception as error:  # whatever a user's code raises, the frame is kept and retried
            raise TargetUnavailableError(f"the overridden stream method raised {redact(repr(error))}") from error
        entries = [Entry(start, end.timestamp_ns, to_batch(each), False, end.retried) for each in made]
        if entries:
            entries[-1] = replace(entries[-1], position=end.position, frame_end=end.frame_end)
        return _HandedOn(start, Source(end.position, rows.num_rows), entries)

    def _pass_on(self, onward: Loader, handed_on: _HandedOn) -> None:
        """Load one part after another; the last one moves the position.

        If a load fails, the rest is kept for the next attempt, so that committed rows are not loaded again.
        """
        self._handed_on = handed_on
        while handed_on.entries and self._reader.position == handed_on.start:
            batch = self._next_batch(handed_on)
            try:
                loaded = onward.deliver(batch)
            except TooLargeError as error:
                handed_on.most_rows = error.rows
            except TooManyRefusalsError:
                handed_on.most_rows = max(1, min(SMALL_ROWS, batch.num_rows // 2))
            else:
                handed_on.most_rows += max(1, handed_on.most_rows // _SLOWLY)
                handed_on.entries = _after(handed_on.entries, loaded)
        self._handed_on = None

    def _next_batch(self, handed_on: _HandedOn) -> Batch:
        """Return the next load; frames without a common schema are loaded one after another."""
        entries, start, source = handed_on.entries, handed_on.start, handed_on.source
        batch = batch_of(entries, start, keyed=self._keyed, dtypes=self._dtypes, source=source)
        return batch.head(handed_on.most_rows)

    def _reach(self, reached: Position, delivered: Delivered) -> None:
        acknowledge(self._reader, self._rejects, self._parking, reached, delivered)


def _after(entries: Sequence[Entry], loaded: Batch) -> list[Entry]:
    """The entries after a batch of the first ones, which may end within an entry."""
    count = len(loaded.entries)
    last, rows = entries[count - 1], loaded.entries[-1].batch.num_rows
    cut = [replace(last, batch=last.batch.slice(rows))] if rows < last.batch.num_rows else []
    return [*cut, *entries[count:]]


def _after_rows(entries: Sequence[Entry], rows: int) -> list[Entry]:
    """The entries without their first rows. An entry without rows stays: the last one moves the position."""
    left: list[Entry] = []
    for entry in entries:
        taken = min(rows, entry.batch.num_rows)
        left.append(replace(entry, batch=entry.batch.slice(taken)))
        rows -= taken
    return left
