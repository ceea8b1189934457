"""The note of a plan: durable before a load that no transaction holds, and gone once it is known what became of it."""

from collections.abc import Mapping
from typing import Any

from api2db.delivery.acknowledging import acknowledge
from api2db.delivery.batch import Batch
from api2db.delivery.parking import ParkingPlace
from api2db.delivery.rejected import Rejects
from api2db.journal import Delivered, Position, StreamLog
from api2db.targets.port import Plan

__all__ = ["acknowledge_plan", "drop", "note_of"]


def note_of(batch: Batch, plan: Plan, rows: int, duplicates: int = 0) -> dict[str, Any]:
    """What a restart needs: the plan, how far the stream is once it is carried out, and what to count then."""
    return {
        "plan": plan,
        "end": list(batch.end),
        "frames": batch.frames,
        "rows": rows,
        "taken": batch.num_rows,
        "duplicates": duplicates,
        "superseded": batch.superseded.rows,
    }


def acknowledge_plan(log: StreamLog, note: Mapping[str, Any], rejects: Rejects, parking: ParkingPlace) -> None:
    """Move on behind a plan that has been carried out, with all that was pending on it."""
    counted = {key: note[key] for key in ("frames", "rows", "superseded", "duplicates")}
    acknowledge(log, rejects, parking, Position(*note["end"]), Delivered(**counted), clear=("plan", "rebuilt"))


def drop(log: StreamLog) -> None:
    """Overwrite what a failed ``keep`` may have left on disk, and a plan that was not carried out.

    An empty one is kept first, since SQLite writes nothing for a note that it takes for gone already.
    """
    log.keep("plan", {})
    log.acknowledge(log.position, Delivered(), clear=["plan"])
