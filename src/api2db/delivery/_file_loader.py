"""The loader for files: a plan is on disk before a file becomes visible, and is carried out exactly once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from api2db.delivery._casting import reasons_of, without
from api2db.delivery._loader import Loader, acknowledge, drop_plan
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch
from api2db.errors import BatchRefusedError
from api2db.journal import CheckpointKind, Delivered, Position, StreamReader
from api2db.targets.port import FilePlan, FrameRows, PlannedTarget


class FileLoader(Loader):
    """Delivers batches into one target; see ``Loader``."""

    columns = None

    def __init__(self, reader: StreamReader, target: PlannedTarget, rejects: Rejects, parking: ParkedBatches) -> None:
        self._reader = reader
        self._target = target
        self._rejects = rejects
        self._parking = parking

    def recover(self) -> int:
        self._target.connect()
        checkpoint = self._reader.checkpoint("plan")
        if checkpoint:
            self._finish(_Checkpoint.from_json(checkpoint))
        else:
            # Before ``acquire`` removes files that it may name: a plan whose files are gone counts as carried out.
            drop_plan(self._reader)
        self._rejects.resolve(self._reader.position)
        self._target.acquire(self._reader.key)
        return 0

    def deliver(self, batch: Batch) -> Batch:
        whole = [piece for piece in batch.pieces() if piece.rows.num_rows]
        pieces, reasons = _applied(batch, whole)
        try:
            plan = self._stage(pieces)
        except BatchRefusedError:
            pieces, refused = self._sort(_numbered(whole, reasons), pieces)
            reasons = {**refused, **reasons}
            plan = self._stage(pieces)
        self._carry_out(batch, plan, sum(piece.rows.num_rows for piece in pieces), reasons)
        return batch

    def reject(self, batch: Batch, reason: str) -> None:
        self._carry_out(batch, self._stage([]), 0, dict.fromkeys(range(batch.num_rows), reason))

    def _carry_out(self, batch: Batch, plan: FilePlan, rows: int, reasons: dict[int, str]) -> None:
        loaded = Delivered(
            frames=batch.frames,
            rows=rows - plan.duplicates,
            superseded=batch.superseded.rows,
            duplicates=plan.duplicates,
        )
        if reasons:
            self._rejects.set_aside(batch, reasons)
        checkpoint = _Checkpoint(plan, batch.end, loaded)
        self._reader.save("plan", checkpoint.as_json())
        self._finish(checkpoint)

    def _finish(self, checkpoint: "_Checkpoint") -> None:
        self._target.finish(
            checkpoint.plan, lambda plan: self._reader.save("plan", replace(checkpoint, plan=plan).as_json())
        )
        kinds: list[CheckpointKind] = ["plan", "rebuilt"]
        acknowledge(self._reader, self._rejects, self._parking, checkpoint.end, checkpoint.delivered, clear=kinds)

    def _stage(self, pieces: Sequence[FrameRows]) -> FilePlan:
        return self._target.stage(pieces, lambda: self._reader.checkpoint("rebuilt") is not None)

    def _sort(
        self, numbers: Sequence[Sequence[int]], pieces: Sequence[FrameRows]
    ) -> tuple[list[FrameRows], dict[int, str]]:
        """The pieces that are not refused, and the reason for each row of the others.

        Args:
            numbers: For each piece the numbers of its rows within the batch.
            pieces: As many as ``numbers``.
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


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """What a restart needs to finish a load.

    Attributes:
        end: The stream's position after the plan is carried out.
        delivered: The counts of the load.
    """

    plan: FilePlan
    end: Position
    delivered: Delivered

    def as_json(self) -> dict[str, Any]:
        return {"plan": self.plan.as_json(), "end": list(self.end), "delivered": asdict(self.delivered)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "_Checkpoint":
        plan, end = FilePlan.from_json(content["plan"]), Position(*content["end"])
        return cls(plan, end, Delivered(**content["delivered"]))


def _applied(batch: Batch, pieces: Sequence[FrameRows]) -> tuple[list[FrameRows], dict[int, str]]:
    """Frames cast to the dtypes, without the rows with a value that can't be cast; and the reason for each of these."""
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
    """For each piece the numbers of its rows without those left out; pieces without such rows are skipped."""
    numbers, start = [], 0
    for piece in pieces:
        kept = [row for row in range(start, start + piece.rows.num_rows) if row not in left_out]
        numbers += [kept] if kept else []
        start += piece.rows.num_rows
    return numbers
