"""The courier for targets without transactions: a plan is on disk before anything is seen, and is finished exactly."""

from collections.abc import Sequence

from api2db.delivery.batch import Batch
from api2db.delivery.parking import ParkingPlace
from api2db.delivery.plan_notes import acknowledge_plan, drop, note_of
from api2db.delivery.rejected import Rejects
from api2db.errors import BatchRefusedError
from api2db.journal import StreamLog
from api2db.targets.port import Piece, Plan, PlannedTarget

__all__ = ["PlanCourier"]


class PlanCourier:
    """Delivers batches into one target; see ``Courier``."""

    def __init__(self, log: StreamLog, target: PlannedTarget, rejects: Rejects, parking: ParkingPlace) -> None:
        self._log = log
        self._target = target
        self._rejects = rejects
        self._parking = parking

    def settle(self) -> None:
        self._target.connect()
        note = self._log.note("plan")
        if note:
            self._finish(note)
        else:
            # Before ``claim`` clears away what it may name: a plan whose files are gone counts as carried out.
            drop(self._log)
        self._rejects.settle(self._log.position)
        self._target.claim(self._log.key)

    def deliver(self, batch: Batch) -> None:
        pieces = [piece for piece in batch.pieces() if piece.rows.num_rows]
        reasons: dict[int, str] = {}
        try:
            plan = self._stage(pieces)
        except BatchRefusedError:
            pieces, reasons = self._sort(pieces)
            plan = self._stage(pieces)
        self._carry_out(batch, plan, sum(piece.rows.num_rows for piece in pieces), reasons)

    def reject(self, batch: Batch, reason: str) -> None:
        self._carry_out(batch, self._stage([]), 0, dict.fromkeys(range(batch.num_rows), reason))

    def _carry_out(self, batch: Batch, plan: Plan, rows: int, reasons: dict[int, str]) -> None:
        note = note_of(batch, plan, rows - plan["duplicates"], plan["duplicates"])
        if reasons:
            self._rejects.set_aside(batch, reasons)
        self._log.keep("plan", note)
        self._finish(note)

    def _finish(self, note: Plan) -> None:
        self._target.finish(note["plan"], lambda plan: self._log.keep("plan", {**note, "plan": plan}))
        acknowledge_plan(self._log, note, self._rejects, self._parking)

    def _stage(self, pieces: Sequence[Piece]) -> Plan:
        return self._target.stage(pieces, lambda: self._log.note("rebuilt") is not None)

    def _sort(self, pieces: Sequence[Piece]) -> tuple[list[Piece], dict[int, str]]:
        """Which pieces are refused for themselves; with the reason for each of their rows."""
        good: list[Piece] = []
        reasons: dict[int, str] = {}
        row = 0
        for piece in pieces:
            try:
                self._target.discard(self._stage([piece]))
                good.append(piece)
            except BatchRefusedError as error:
                reasons.update(dict.fromkeys(range(row, row + piece.rows.num_rows), str(error)))
            row += piece.rows.num_rows
        return good, reasons
