"""The loader for targets without transactions: a plan is on disk before anything is seen, and is finished exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from api2db.delivery._casting import reasons_of, without
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._plan_checkpoint import acknowledge_plan, drop, plan_checkpoint
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch
from api2db.errors import BatchRefusedError
from api2db.journal import StreamReader
from api2db.targets.port import FrameRows, Plan, PlannedTarget


class FileLoader:
    """Delivers batches into one target; see ``Loader``."""

    def __init__(self, reader: StreamReader, target: PlannedTarget, rejects: Rejects, parking: ParkedBatches) -> None:
        self._reader = reader
        self._target = target
        self._rejects = rejects
        self._parking = parking

    def recover(self) -> None:
        self._target.connect()
        checkpoint = self._reader.checkpoint("plan")
        if checkpoint:
            self._finish(checkpoint)
        else:
            # Before ``update`` clears away what it may name: a plan whose files are gone counts as carried out.
            drop(self._reader)
        self._rejects.resolve(self._reader.position)
        self._target.acquire(self._reader.key)

    def deliver(self, batch: Batch) -> None:
        whole = [piece for piece in batch.pieces() if piece.rows.num_rows]
        pieces, reasons = _applied(batch, whole)
        try:
            plan = self._stage(pieces)
        except BatchRefusedError:
            pieces, refused = self._sort(_numbered(whole, reasons), pieces)
            reasons = {**refused, **reasons}
            plan = self._stage(pieces)
        self._carry_out(batch, plan, sum(piece.rows.num_rows for piece in pieces), reasons)

    def reject(self, batch: Batch, reason: str) -> None:
        self._carry_out(batch, self._stage([]), 0, dict.fromkeys(range(batch.num_rows), reason))

    def _carry_out(self, batch: Batch, plan: Plan, rows: int, reasons: dict[int, str]) -> None:
        checkpoint = plan_checkpoint(batch, plan, rows - plan["duplicates"], plan["duplicates"])
        if reasons:
            self._rejects.set_aside(batch, reasons)
        self._reader.save("plan", checkpoint)
        self._finish(checkpoint)

    def _finish(self, checkpoint: Plan) -> None:
        self._target.finish(checkpoint["plan"], lambda plan: self._reader.save("plan", {**checkpoint, "plan": plan}))
        acknowledge_plan(self._reader, checkpoint, self._rejects, self._parking)

    def _stage(self, pieces: Sequence[FrameRows]) -> Plan:
        return self._target.stage(pieces, lambda: self._reader.checkpoint("rebuilt") is not None)

    def _sort(
        self, numbers: Sequence[Sequence[int]], pieces: Sequence[FrameRows]
    ) -> tuple[list[FrameRows], dict[int, str]]:
        """Which pieces are refused for themselves; with the reason for each of their rows.

        Args:
            numbers: Of the rows of each piece, within the batch.
            pieces: As many.
        """
        good: list[FrameRows] = []
        reasons: dict[int, str] = {}
        for rows, piece in zip(numbers, pieces, strict=True):
            try:
                self._target.discard(self._stage([piece]))
                good.append(piece)
            except BatchRefusedError as error:
                reasons.update(dict.fromkeys(rows, str(error)))
        return good, reasons


def _applied(batch: Batch, pieces: Sequence[FrameRows]) -> tuple[list[FrameRows], dict[int, str]]:
    """Frames as the dtypes have them, without the rows of which a value is none of its dtype; and why these are not."""
    if not batch.dtypes.types:
        return list(pieces), {}
    applied: list[FrameRows] = []
    reasons: dict[int, str] = {}
    start = 0
    for piece in pieces:
        rows, mismatches = batch.dtypes.applied(piece.rows)
        odd = reasons_of(mismatches)
        reasons.update({start + row: reason for row, reason in odd.items()})
        applied.append(replace(piece, rows=without(rows, odd) if odd else rows))
        start += piece.rows.num_rows
    return [piece for piece in applied if piece.rows.num_rows], reasons


def _numbered(pieces: Sequence[FrameRows], left_out: Mapping[int, str]) -> list[list[int]]:
    """The numbers of the rows of each piece that has rows, but for those that are left out."""
    numbers, start = [], 0
    for piece in pieces:
        kept = [row for row in range(start, start + piece.rows.num_rows) if row not in left_out]
        numbers += [kept] if kept else []
        start += piece.rows.num_rows
    return numbers
