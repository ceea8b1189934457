"""The loader for targets without transactions that know how many rows of a plan are committed.

A plan is on disk before any of its rows is sent. After an error, or if a killed process left the plan, the loader asks
the target how many of its rows are committed; from then on no more of them can be. The plan names the position in the
journal at which each of its steps ends, so delivery continues after the committed rows, whatever the next batch is.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from api2db.delivery._casting import comes_again
from api2db.delivery._loader import TableLoader, acknowledge, drop_plan
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._refusals import TooLargeError, TooManyRefusalsError
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch, Source, batch_of
from api2db.errors import BatchRefusedError, RowsRefusedError, TableChangedError, TargetUnavailableError
from api2db.journal import CheckpointKind, Delivered, Entry, Position, ReadLimit, StreamReader, split
from api2db.targets.port import Column, LoadPlan, SteppedTarget

logger = logging.getLogger(__name__)


class _Step(NamedTuple):
    """The end of one step of a plan, as in the plan's checkpoint.

    Attributes:
        sent: The number of rows sent up to here.
        rows: The number of the batch's rows up to here, including those that were left out.
        frames: The number of frames that have ended.
    """

    sent: int
    rows: int
    frames: int
    sequence: int
    skip: int

    @property
    def position(self) -> Position:
        """The stream's position after the step."""
        return Position(self.sequence, self.skip)


@dataclass(frozen=True)
class _Load:
    """A batch cast to its table.

    Attributes:
        rows: All rows of the batch.
        columns: The table's columns when the rows were cast.
        reasons: Why rows are left out, by the row's number.
        keys: Of rows with the same values in these columns, only the last is sent.
    """

    batch: Batch
    rows: pa.Table
    columns: Sequence[Column]
    reasons: dict[int, str]
    keys: Sequence[str]

    @cached_property
    def kept(self) -> Sequence[int]:
        """The numbers of the rows that are sent."""
        kept: Sequence[int] = range(self.rows.num_rows)
        if self.reasons:
            kept = [row for row in kept if row not in self.reasons]
        if self.keys and kept:
            again = comes_again(self.rows.take(pa.array(kept)), self.keys)
            kept = [row for row, is_repeated in zip(kept, again, strict=True) if not is_repeated]
        return kept

    @cached_property
    def sent(self) -> pa.Table:
        """The rows that are sent."""
        return self.rows if len(self.kept) == self.rows.num_rows else self.rows.take(pa.array(self.kept))

    def without(self, reasons: Mapping[int, str]) -> "_Load":
        """The load without further rows."""
        return replace(self, reasons={**self.reasons, **reasons})

    def head(self, rows: int) -> "_Load":
        """A load of the batch's first rows."""
        reasons = {row: reason for row, reason in self.reasons.items() if row < rows}
        return replace(self, batch=self.batch.head(rows), rows=self.rows.slice(0, rows), reasons=reasons)

    def checkpoint(self, plan: LoadPlan) -> "_Checkpoint":
        """What a restart needs to continue after the committed rows of a plan."""
        return _Checkpoint(
            plan=plan,
            start=self.batch.start,
            steps=[self._step(end) for end in plan.ends],
            superseded=self.batch.superseded.rows,
            duplicates=self.batch.num_rows - len(self.reasons) - len(self.kept),
            refused=self._refused(),
            source=self.batch.source,
        )

    def _refused(self) -> list[tuple[str, Sequence[int]]]:
        rows: dict[str, list[int]] = {}
        for row, reason in self.reasons.items():
            rows.setdefault(reason, []).append(row)
        return list(rows.items())

    def _step(self, sent: int) -> _Step:
        """A step ends before the next row that is sent; the last step ends with the batch."""
        reached = self.batch if sent == len(self.kept) else self.batch.head(self.kept[sent])
        return _Step(sent, reached.num_rows, reached.frames, *reached.end)


@dataclass(frozen=True)
class _Checkpoint:
    """A plan, and what a restart needs to continue after its committed rows.

    Attributes:
        start: The stream's position before the batch.
        steps: Where each step of the plan ends.
        superseded: How many rows the batch's newest frame replaced.
        duplicates: How many rows are left out because a later row has the same key.
        refused: Each reason to leave rows out, with the numbers of these rows.
        source: The batch's.
        unknown: For each position at which a restart may begin, how many of the journal's rows after it have an
            unknown outcome.
    """

    plan: LoadPlan
    start: Position
    steps: Sequence[_Step]
    superseded: int
    duplicates: int
    refused: Sequence[tuple[str, Sequence[int]]]
    source: Source | None = None
    unknown: Mapping[Position, int] = field(default_factory=dict)

    @property
    def end(self) -> Position:
        """The position after all rows whose outcome may become unknown."""
        return self.source.end if self.source else self.steps[-1].position

    def as_json(self) -> dict[str, Any]:
        unknown = [[*position, rows] for position, rows in self.unknown.items()]
        return {**vars(self), "plan": self.plan.as_json(), "unknown": unknown}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "_Checkpoint":
        source = content.get("source")
        return cls(
            LoadPlan.from_json(content["plan"]),
            Position(*content["start"]),
            [_Step(*step) for step in content["steps"]],
            content["superseded"],
            content["duplicates"],
            content["refused"],
            Source(Position(*source[0]), source[1]) if source else None,
            {Position(*position): rows for *position, rows in content.get("unknown", ())},
        )


class ResumableLoader(TableLoader):
    """Delivers batches into one target; see ``Loader``."""

    def __init__(self, reader: StreamReader, target: SteppedTarget, rejects: Rejects, parking: ParkedBatches) -> None:
        super().__init__(target)
        self._reader = reader
        self._target = target
        self._rejects = rejects
        self._parking = parking

    def recover(self) -> int:
        self._target.connect()
        self._rejects.settle()
        saved = self._reader.checkpoint("plan")
        checkpoint = _Checkpoint.from_json(saved) if saved else None
        position, rows_in = self._reader.position, 0
        if checkpoint and position in checkpoint.unknown and position < checkpoint.end:
            self._set_aside_unknown(
                checkpoint, checkpoint.unknown[position]
            )  # an earlier run was interrupted while it did that
        elif checkpoint and checkpoint.start == position:
            rows_in = self._close(checkpoint)
        else:
            drop_plan(self._reader)
        self._rejects.resolve(self._reader.position)
        self._target.acquire(self._reader.key)
        return rows_in if checkpoint and checkpoint.source else 0

    def _load_prepared(self, batch: Batch, columns: Sequence[Column]) -> Batch:
        load = self._cast(batch, columns)
        largest_bytes, size_bytes = self._target.largest_bytes, load.rows.nbytes
        if largest_bytes and size_bytes > largest_bytes and batch.num_rows > 1:
            raise TooLargeError(max(1, batch.num_rows * largest_bytes // size_bytes * 2 // 3))
        return self._load(load)

    def _cast(self, batch: Batch, columns: Sequence[Column]) -> _Load:
        rows, columns, reasons = self._casting.cast(batch, self._target.shape(batch.rows, columns), columns)
        for row, reason in self._target.unsupported_rows(rows, columns).items():
            reasons.setdefault(row, reason)
        return _Load(batch, rows, columns, reasons, self._target.keys)

    def reject(self, batch: Batch, reason: str) -> None:
        self._set_aside(batch, dict.fromkeys(range(batch.num_rows), reason))

    def _set_aside(self, batch: Batch, reasons: Mapping[int, str], *, ends_plan: bool = True) -> None:
        """Set all rows of a batch aside, and acknowledge."""
        self._rejects.set_aside(batch, reasons, alone=True)
        told = Delivered(frames=batch.frames, superseded=batch.superseded.rows)
        self._pass(batch.end, told, ends_plan=ends_plan)

    def _load(self, load: _Load) -> Batch:
        """Load a batch or its first rows; return these."""
        while load.kept:
            try:
                return self._try(load)
            except BatchRefusedError as error:
                load = load.without(self._refused(error, load.kept))
        self._set_aside(load.batch, load.reasons)
        return load.batch

    def _try(self, load: _Load) -> Batch:
        """Send one plan. If rows are set aside, it has only one step, which is committed as a whole or not at all."""
        plan = self._target.plan(load.sent, load.columns)
        if load.reasons and len(plan.ends) > 1:
            return self._load(load.head(load.kept[plan.ends[0]]))
        return self._carry_out(load, plan)

    def _carry_out(self, load: _Load, plan: LoadPlan) -> Batch:
        if load.reasons:
            self._rejects.set_aside(load.batch, load.reasons)
        checkpoint = load.checkpoint(plan)
        self._reader.save("plan", checkpoint.as_json())
        try:
            self._target.append(plan, load.sent, load.columns)
        except (BatchRefusedError, TableChangedError):
            rows_in = self._close(checkpoint)
            if not rows_in and self._reader.position == load.batch.start:
                raise
            return load.batch.head(rows_in) if rows_in else load.batch
        self._pass_step(checkpoint, checkpoint.steps[-1])
        return load.batch

    def _refused(self, error: BatchRefusedError, kept: Sequence[int]) -> dict[int, str]:
        if isinstance(error, RowsRefusedError) and error.reasons:
            return {kept[row]: reason for row, reason in error.reasons.items()}
        if len(kept) == 1 or self._target.replaces_table:
            return dict.fromkeys(kept, str(error))
        raise TooManyRefusalsError

    def _close(self, checkpoint: _Checkpoint) -> int:
        """Acknowledge the committed rows of a plan; set the rest aside if the target can't tell which are committed.

        If a user's own method made the rows, the frame is set aside as it was put; an empty frame comes again.

        Returns:
            How many rows of the batch are committed, including those that were left out.
        """
        rows_committed = self._target.rows_committed(checkpoint.plan)
        steps, source = checkpoint.steps, checkpoint.source
        done = [step for step in steps if step.sent <= (rows_committed or 0)]
        rows_in = done[-1].rows if done else 0
        is_known = rows_committed in {0, *(step.sent for step in done)} or (source is not None and not source.rows)
        left = source.rows if source else steps[-1].rows - rows_in
        if not is_known:
            self._keep_unknown(checkpoint, {done[-1].position if done else self._reader.position: left})
        if done:
            self._pass_step(checkpoint, done[-1], ends_plan=is_known)
        elif is_known:
            drop_plan(self._reader)
        if not is_known:
            self._set_aside_unknown(checkpoint, left)
        return rows_in

    def _pass_step(self, checkpoint: _Checkpoint, step: _Step, *, ends_plan: bool = True) -> None:
        left_out = {"superseded": checkpoint.superseded, "duplicates": checkpoint.duplicates}
        told = Delivered(frames=step.frames, rows=step.sent, **left_out)
        self._pass(step.position, told, ends_plan=ends_plan)

    def _keep_unknown(self, checkpoint: _Checkpoint, left: Mapping[Position, int]) -> None:
        """Save this before any of these rows is set aside; otherwise a restart would send the rest again."""
        self._reader.save("plan", replace(checkpoint, unknown=left).as_json())

    def _set_aside_unknown(self, checkpoint: _Checkpoint, left: int) -> None:
        """Set aside rows that may be committed or not; they are neither sent again nor lost.

        Rows that had been left out keep their own reasons.
        """
        end = checkpoint.end
        reason = (
            "whether this row is in the table is not known: the answer to the load was lost, and the target can't tell "
            "any more; check the table, then put the row again or drop it: api2db rejected --help"
        )
        passed = checkpoint.steps[-1].rows - left
        left_out = [] if checkpoint.source else checkpoint.refused
        refused = {row - passed: why for why, rows in left_out for row in rows if row >= passed}
        said = (
            f"{left - len(refused)} rows, from {tuple(self._reader.position)} to {tuple(end)} in the journal,"
            f" are set aside: {reason}"
        )
        logger.error("%s", said)
        self._reader.add_warning(said)
        while entries := self._up_to(end, left):
            batch = batch_of(entries, self._reader.position)
            after = max(0, left - batch.num_rows)
            self._keep_unknown(checkpoint, {batch.start: left, batch.end: after})
            is_last = batch.end >= end
            if batch.num_rows:
                reasons = {row: refused.get(row, reason) for row in range(batch.num_rows)}
                self._set_aside(batch, reasons, ends_plan=is_last)
            else:
                self._pass(batch.end, Delivered(frames=batch.frames), ends_plan=is_last)
            refused = {row - batch.num_rows: why for row, why in refused.items()}
            left = after
        if self._reader.position < end and self._reader.waiting_bytes:
            raise TargetUnavailableError("rows that must be set aside can't be read from the journal now")
        self._pass(max(end, self._reader.position), Delivered())

    def _up_to(self, end: Position, rows: int) -> list[Entry]:
        """Read the entries that begin before a position.

        After damage the journal may have fewer rows there than were sent. So the position decides: no row that was
        sent may be sent again, and no other row may be skipped.
        """
        entries: list[Entry] = []
        reached = self._reader.position
        if reached < end:
            for entry in split(self._reader.read(ReadLimit(max(1, rows), sys.maxsize), 0)):
                if reached >= end:
                    break
                entries.append(entry)
                reached = entry.position
        return entries

    def _pass(self, reached: Position, delivered: Delivered, *, ends_plan: bool = True) -> None:
        clear: list[CheckpointKind] = ["plan"] if ends_plan else []
        acknowledge(self._reader, self._rejects, self._parking, reached, delivered, clear=clear)
