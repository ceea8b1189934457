"""The courier for targets without transactions: a plan is on disk before anything is seen, and is finished exactly."""

from collections.abc import Sequence

from api2db.delivery.batch import Batch
from api2db.delivery.parking import ParkingPlace
from api2db.delivery.rejected import Rejects
from api2db.errors import BatchRefusedError
from api2db.journal import Delivered, NoteKind, Position, StreamLog
from api2db.targets.port import Piece, Plan, PlannedTarget

__all__ = ["PlanCourier"]


class PlanCourier:
    """Delivers batches into one target; see ``Courier``."""

    def __init__(self, log: StreamLog, target: PlannedTarget, rejects: Rejects, parking: ParkingPlace) -> None:
        self._log = log
        self._target = target
        self._rejects = rejects
        self._parking = parking

    def settle(self) -> str | None:
        self._target.connect()
        note = self._log.note("plan")
        if note:
            self._finish(note)
        else:
            self._drop_plan()
        self._rejects.settle(self._log.position)
        self._target.claim(self._log.key)
        return None

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
        note = {
            "plan": plan,
            "end": list(batch.end),
            "frames": batch.frames,
            "rows": rows - plan["duplicates"],
            "duplicates": plan["duplicates"],
            "superseded": batch.superseded.rows,
        }
        if reasons:
            self._rejects.set_aside(batch, reasons)
        self._log.keep("plan", note)
        self._finish(note)

    def _drop_plan(self) -> None:
        """Overwrite what a failed ``keep`` may have left on disk, before ``claim`` clears away what that would name.

        A plan whose files are gone counts as carried out: its rows would be lost. An empty one is kept first, since
        SQLite writes nothing for a note that it takes for gone already.
        """
        self._log.keep("plan", {})
        self._log.acknowledge(self._log.position, Delivered(), clear=["plan"])

    def _finish(self, note: Plan) -> None:
        self._target.finish(note["plan"], lambda plan: self._log.keep("plan", {**note, "plan": plan}))
        reached = Position(*note["end"])
        clear: list[NoteKind] = ["plan", "rebuilt"]
        pending = self._rejects.settle(reached)
        clear += ["pending"] if pending else []
        clear += ["parked"] if self._parking.leave(reached) else []
        delivered = Delivered(
            frames=note["frames"],
            rows=note["rows"],
            rejected=pending.get("rows", 0),
            rejected_bytes=pending.get("size_bytes", 0),
            superseded=note["superseded"],
            duplicates=note["duplicates"],
        )
        self._log.acknowledge(reached, delivered, clear=clear)

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
