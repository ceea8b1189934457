"""The loader for streams whose ``stream`` method a user has overridden: it is called with each frame, at least once.

What the method hands on to the class it overrides goes into that class's target, under the position of its frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
import pyarrow as pa

from api2db.delivery._dtypes import Dtypes
from api2db.delivery._loader import Loader, acknowledge
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._refusals import TooManyRefusalsError
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch, batch_of
from api2db.errors import TargetUnavailableError
from api2db.frames import to_batch, to_pandas
from api2db.journal import Delivered, Entry, Position, StreamReader
from api2db.redaction import redact
from api2db.targets.port import Column, Target


class OverrideTarget:
    """The user's own method as a target, in front of the one that it may hand frames on to."""

    keys: tuple[str, ...] = ()
    largest_bytes: int | None = None
    replaces_table = False
    whole_frames = True

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


class OverrideLoader:
    """Calls a method with each frame; see ``Loader``.

    Args:
        reader: The stream's view of its journal.
        call: Runs the method on a DataFrame, and gives the frames that it handed on.
        parking: Holds what the method kept raising on.
        rejects: Takes what is refused, where the stream has no target of its own.
        onward: Delivers those; None for a stream without a target of its own.
        keyed: Whether that replaces rows by key, as ``batch_of`` has it.
        dtypes: What the frames that are handed on become.
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

    @property
    def columns(self) -> Sequence[Column] | None:
        return None if self._onward is None else self._onward.columns

    def recover(self) -> None:
        if self._onward is not None:
            self._onward.recover()
        else:
            self._rejects.settle()
            self._rejects.resolve(self._reader.position)

    def deliver(self, batch: Batch) -> None:
        ends = [entry for entry in batch.entries if entry.frame_end]
        for end, piece in zip(ends, batch.pieces(), strict=True):
            try:
                handed_on = self._call(to_pandas(piece.rows))
            except Exception as error:  # whatever a user's code raises, the frame is kept and tried again
                raise TargetUnavailableError(f"the overridden stream method raised {redact(repr(error))}") from error
            self._pass_on(end, piece.rows.num_rows, handed_on)

    def reject(self, batch: Batch, reason: str) -> None:
        if self._onward is not None:
            self._onward.reject(batch, reason)
            return
        self._rejects.set_aside(batch, dict.fromkeys(range(batch.num_rows), reason), alone=True)
        self._reach(batch.end, Delivered(frames=batch.frames))

    def _pass_on(self, end: Entry, rows: int, handed_on: list[pa.RecordBatch]) -> None:
        """The position moves with the last frame; frames whose schemas do not go together are loaded in turn."""
        if self._onward is None or not handed_on:
            self._reach(end.position, Delivered(frames=1, rows=rows))
            return
        start = self._reader.position
        entries = [Entry(start, end.timestamp_ns, to_batch(frame), False, end.retried) for frame in handed_on]
        entries[-1] = replace(entries[-1], position=end.position, frame_end=True)
        while entries:
            batch = batch_of(entries, start, keyed=self._keyed, dtypes=self._dtypes)
            _deliver(self._onward, batch)
            entries = entries[len(batch.entries) :]

    def _reach(self, reached: Position, delivered: Delivered) -> None:
        acknowledge(self._reader, self._rejects, self._parking, reached, delivered)


def _deliver(onward: Loader, batch: Batch) -> None:
    """In halves where too many rows are refused for one load; only the last half moves the position."""
    try:
        onward.deliver(batch)
    except TooManyRefusalsError:
        for half in _halves(batch):
            _deliver(onward, half)


def _halves(batch: Batch) -> list[Batch]:
    middle, entry = batch.num_rows // 2, batch.entries[-1]
    rows = batch.put_rows.combine_chunks().to_batches()[0]
    first = Entry(batch.start, entry.timestamp_ns, rows.slice(0, middle), False, entry.retried)
    second = replace(entry, batch=rows.slice(middle))
    return [batch_of([half], batch.start, dtypes=batch.dtypes) for half in (first, second)]
