"""The checkpoint of a plan: durable before a load without a transaction, cleared once the load's outcome is known."""

from collections.abc import Mapping
from typing import Any

from api2db.delivery._acknowledge import acknowledge
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch
from api2db.journal import Delivered, Position, StreamReader
from api2db.targets.port import Plan


def plan_checkpoint(batch: Batch, plan: Plan, rows: int, duplicates: int = 0) -> dict[str, Any]:
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


def acknowledge_plan(
    reader: StreamReader, checkpoint: Mapping[str, Any], rejects: Rejects, parking: ParkedBatches
) -> None:
    """Move on behind a plan that has been carried out, with all that was pending on it."""
    counted = {key: checkpoint[key] for key in ("frames", "rows", "superseded", "duplicates")}
    acknowledge(reader, rejects, parking, Position(*checkpoint["end"]), Delivered(**counted), clear=("plan", "rebuilt"))


def drop(reader: StreamReader) -> None:
    """Overwrite what a failed ``keep`` may have left on disk, and a plan that was not carried out.

    An empty one is kept first, since SQLite writes nothing for a note that it takes for gone already.
    """
    reader.save("plan", {})
    reader.acknowledge(reader.position, Delivered(), clear=["plan"])
