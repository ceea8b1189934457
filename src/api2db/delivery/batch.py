"""A batch: consecutive entries of a journal as one Arrow table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby, islice, takewhile
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from api2db.delivery._dtypes import Dtypes
from api2db.delivery._fitting import Mismatch
from api2db.errors import DataError
from api2db.frames import conform, reason_of, unify
from api2db.journal import Entry, Position, Superseded, split
from api2db.targets.port import BegunLoad, FrameRows

_NOTHING_SUPERSEDED = Superseded()
_NO_DTYPES = Dtypes()
_MANY_ROWS = 512
_MANY_RUNS = 16
_RECENT = 8


class Source(NamedTuple):
    """The frame in the journal from which a user's own method made other rows.

    Attributes:
        end: The stream's position after it.
        rows: The number of its rows in the journal.
    """

    end: Position
    rows: int


@dataclass(frozen=True)
class Batch:
    """The rows of one load.

    Attributes:
        entries: Consecutive entries whose schemas have a common schema.
        start: The stream's position before them.
        put_schema: The common schema.
        superseded: What is before the newest frame and not loaded.
        dtypes: The types that rows are cast to on their way into the target.
        source: The frame from which a user's own method made the rows; None for the journal's own rows. There is no
            position within rows that the journal does not have: all entries but the last end at ``start``.
        rest: The entries read behind these that can't be in the batch, for instance because a type differs. A loader
            may load some of them in the same transaction.
        begun: Its load, if that was begun ahead of its turn.
    """

    entries: Sequence[Entry]
    start: Position
    put_schema: pa.Schema
    superseded: Superseded = _NOTHING_SUPERSEDED
    dtypes: Dtypes = _NO_DTYPES
    source: Source | None = None
    rest: Sequence[Entry] = ()
    begun: BegunLoad | None = None

    @property
    def end(self) -> Position:
        """The stream's position after them."""
        return self.entries[-1].position

    @property
    def retried(self) -> bool:
        """Whether its rows had been set aside before."""
        return self.entries[0].retried

    @property
    def refused(self) -> str | None:
        """Why no target accepts its rows; None if they can be loaded."""
        return reason_of(self.entries[0].batch.schema) if self.entries[0].refused else None

    @property
    def frames(self) -> int:
        """How many frames end in it, including those that it supersedes."""
        return sum(entry.frames for entry in self.entries) + self.superseded.frames

    @property
    def first_time_ns(self) -> int:
        """The ``timestamp_ns`` of its first frame."""
        return self.entries[0].first_time_ns

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return sum(entry.batch.num_rows for entry in self.entries)

    @property
    def size_bytes(self) -> int:
        """What its entries take of memory."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def schema(self) -> pa.Schema:
        """The schema of ``rows``."""
        return self.dtypes.schema(self.put_schema)

    @property
    def rows(self) -> pa.Table:
        """All rows, cast to the stream's dtypes; null for each value that can't be cast."""
        return self._applied[0]

    @property
    def mismatches(self) -> list[Mismatch]:
        """The values that can't be cast to their dtype."""
        return self._applied[1]

    @cached_property
    def _applied(self) -> tuple[pa.Table, list[Mismatch]]:
        return self.dtypes.applied(self.put_rows)

    @cached_property
    def put_rows(self) -> pa.Table:
        """All rows as they were put, under the common schema.

        Small entries with one schema are cast together.
        """
        batches = [entry.batch for entry in self.entries]
        runs = [list(run) for _, run in groupby(batches, key=lambda batch: batch.schema)]
        if len(runs) > _MANY_RUNS and _are_small(batches):
            return pa.Table.from_batches([_conformed(batches, self.put_schema)], self.put_schema)
        joined = [batch for run in runs for batch in _joined(run)]
        return pa.Table.from_batches([conform(batch, self.put_schema) for batch in joined], self.put_schema)

    def by_schema(self) -> "list[Batch]":
        """The entries of each schema as a batch of their own; ``in_order`` puts their rows back in order."""
        groups = [[self.entries[number] for number in group] for group in self._groups]
        return [Batch(group, self.start, group[0].batch.schema, dtypes=self.dtypes) for group in groups]

    def in_order(self, rows: pa.Table) -> pa.Table:
        """The rows of all batches of ``by_schema``, one behind the other, in the order of the entries."""
        return rows.take(_in_order(self._groups, [entry.batch for entry in self.entries]))

    @cached_property
    def _groups(self) -> list[list[int]]:
        return _by_schema([entry.batch for entry in self.entries])

    def frame_times(self) -> Iterator[tuple[int, int]]:
        """For each slice of a frame, the frame's ``timestamp_ns`` and the slice's number of rows."""
        return chain.from_iterable(entry.frame_times() for entry in self.entries)

    def pieces(self) -> list[FrameRows]:
        """The rows of each frame, under the frame's own schema."""
        return [FrameRows(frame[0].timestamp_ns, rows_of_frame(frame)) for frame in self.entries_by_frame()]

    def entries_by_frame(self) -> Iterator[list[Entry]]:
        """Yield the entries of each frame; the last of a frame may lack ``frame_end``, after damage."""
        return (list(frame) for _, frame in groupby(split(self.entries), key=lambda entry: entry.timestamp_ns))

    def head(self, rows: int) -> "Batch":
        """The batch's first rows; the last frame may be cut."""
        kept: list[Entry] = []
        for entry in self.entries:
            if entry.batch.num_rows > rows:
                kept += self._cut(entry, rows)
                break
            kept.append(entry)
            rows -= entry.batch.num_rows
        return replace(self, entries=kept, rest=())

    def _cut(self, entry: Entry, rows: int) -> list[Entry]:
        """The first rows of an entry that has more, as an entry of whole frames and a part of the next frame."""
        ends = np.cumsum([] if entry.earlier is None else entry.earlier.rows)
        whole = int(np.searchsorted(ends, rows, side="right"))
        kept = [entry.up_to(whole)] if whole else []
        rows -= int(ends[whole - 1]) if whole else 0
        return [*kept, self._cut_slice(next(islice(entry.split(), whole, None)), rows)] if rows else kept

    def _cut_slice(self, entry: Entry, rows: int) -> Entry:
        begin = self._begin(entry)
        position = self.start if self.source else begin._replace(skip=begin.skip + rows)
        return replace(entry, position=position, batch=entry.batch.slice(0, rows), frame_end=False)

    def _begin(self, entry: Entry) -> Position:
        """The stream's position before a slice, counted in the slice's own record."""
        if entry.position.skip:
            return Position(entry.position.sequence, entry.position.skip - entry.batch.num_rows)
        before = entry.position.sequence - 1
        return Position(before, self.start.skip if self.start.sequence == before else 0)

    def leading_alike(self) -> "Batch":
        """The leading entries that have the columns of the first one."""
        names = self.entries[0].batch.schema.names
        return self._leading(lambda entry: entry.batch.schema.names == names)

    def leading_with_same_of(self, columns: set[str]) -> "Batch":
        """The leading entries that have the same of some columns as the first one; those without rows don't count."""
        some = next((entry for entry in self.entries if entry.batch.num_rows), self.entries[0])
        same = columns & {*some.batch.schema.names}
        return self._leading(lambda entry: not entry.batch.num_rows or columns & {*entry.batch.schema.names} == same)

    def _leading(self, belongs: Callable[[Entry], bool]) -> "Batch":
        leading = list(takewhile(belongs, self.entries))
        if len(leading) == len(self.entries):
            return self
        return batch_of(leading, self.start, self.superseded, dtypes=self.dtypes, source=self.source)


def batch_of(
    entries: Sequence[Entry],
    start: Position,
    superseded: Superseded = _NOTHING_SUPERSEDED,
    *,
    whole_frames: bool = False,
    keyed: bool = False,
    dtypes: Dtypes = _NO_DTYPES,
    source: Source | None = None,
) -> Batch:
    """The batch of the leading entries that have a common schema.

    Args:
        entries: At least one.
        start: The stream's position before them.
        superseded: What is before the newest frame and not loaded.
        whole_frames: Whether it must not end within a frame.
        keyed: Whether rows are replaced by key. Then all entries have the same columns, because a row keeps its values
            in columns that its frame lacks, and retried entries are not mixed with others.
        dtypes: The types that rows are cast to.
        source: The frame from which a user's own method made the rows; None for the journal's own rows.
    """
    entries = _of_one_fate(entries)
    if keyed:
        entries = _of_one_kind(entries)
    schema = unify([entry.batch.schema for entry in entries])
    if schema is None:
        entries = _with_common_schema(entries, whole_frames=whole_frames)
        schema = unify([entry.batch.schema for entry in entries])
    if schema is None:
        raise AssertionError("the slices of one frame have one schema")
    batch = Batch(entries, start, schema, superseded, dtypes, source)
    first = entries[0].batch.schema
    if all(entry.batch.schema.equals(first) for entry in entries) or _can_be_cast(batch):
        return batch
    return Batch(_of_one_schema(entries), start, first, superseded, dtypes, source)


def _of_one_fate(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The leading refused entries, of one frame; or, if the first is not refused, all before the first refused one."""
    first = entries[0]
    if first.refused:
        return list(takewhile(lambda entry: entry.refused and entry.timestamp_ns == first.timestamp_ns, entries))
    end = next((number for number, entry in enumerate(entries) if entry.refused), len(entries))
    return entries[:end] if end < len(entries) else entries


def _of_one_kind(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The leading entries that have the columns of the first one; if that was retried, those of its frame."""
    first = entries[0]
    if first.retried:
        return list(takewhile(lambda entry: entry.timestamp_ns == first.timestamp_ns, entries))
    known, names = first.batch.schema, frozenset(first.batch.schema.names)
    for number, entry in enumerate(entries):
        schema = entry.batch.schema
        if entry.retried or not (schema.equals(known) or names == frozenset(schema.names)):
            return entries[:number]
        known = schema
    return entries


def _can_be_cast(batch: Batch) -> bool:
    """Whether the common schema holds every value: of two units of time, the finer one has the smaller range."""
    try:
        _ = batch.put_rows
    except DataError:
        return False
    return True


def _of_one_schema(entries: Sequence[Entry]) -> Sequence[Entry]:
    first = entries[0].batch.schema
    return list(takewhile(lambda entry: entry.batch.schema.equals(first), entries))


def _with_common_schema(entries: Sequence[Entry], *, whole_frames: bool) -> Sequence[Entry]:
    """The leading entries that have a common schema."""
    count, schema = 0, unify([entries[0].batch.schema])
    while schema is not None and count < len(entries):
        count += 1
        schema = unify([schema, entries[count].batch.schema]) if count < len(entries) else None
    kept = entries[:count]
    ends = [number for number, entry in enumerate(kept, 1) if entry.frame_end]
    return kept[: ends[-1]] if whole_frames and ends else kept


def rows_of_frame(entries: Sequence[Entry]) -> pa.Table:
    """The rows of one frame; if a user's own method handed on several frames for it, under their common schema."""
    batches = [entry.batch for entry in entries]
    schema = unify([batch.schema for batch in batches])
    return pa.Table.from_batches([conform(batch, schema) for batch in batches], schema)


def _joined(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """One batch, or the batches as they are if they have many rows: copying these would cost more than it saves."""
    return [pa.concat_batches(batches)] if len(batches) > 1 and _are_small(batches) else batches


def _are_small(batches: Sequence[pa.RecordBatch]) -> bool:
    rows: int = sum(batch.num_rows for batch in batches)
    return rows < _MANY_ROWS * len(batches)


def _conformed(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Cast the batches of each schema together, and put the rows back in order. Schemas often come in turn."""
    groups = _by_schema(batches)
    found = pa.concat_batches([conform(pa.concat_batches([batches[at] for at in group]), schema) for group in groups])
    return found.take(_in_order(groups, batches))


def _by_schema(batches: Sequence[pa.RecordBatch]) -> list[list[int]]:
    """The numbers of the batches that have the same schema."""
    groups: list[list[int]] = []
    for number, batch in enumerate(batches):
        recent = (group for group in reversed(groups[-_RECENT:]) if batches[group[0]].schema.equals(batch.schema))
        group = next(recent, None)
        if group is None:
            groups.append([number])
        else:
            group.append(number)
    return groups


def _in_order(groups: Sequence[Sequence[int]], batches: Sequence[pa.RecordBatch]) -> pa.Array:
    """Where each row is among the rows of all groups, one behind the other."""
    numbers = np.concatenate([np.array(group) for group in groups])
    rows = np.array([batches[number].num_rows for number in numbers])
    return pa.array(np.argsort(np.repeat(numbers, rows), kind="stable"))
