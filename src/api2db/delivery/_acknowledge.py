"""Moving a stream on behind what is in its target, with all that waited for that to be known."""

from collections.abc import Iterable
from dataclasses import replace

from api2db.delivery._parking import ParkedBatches
from api2db.delivery._rejected import Rejects
from api2db.journal import CheckpointKind, Delivered, Position, StreamReader


def acknowledge(
    reader: StreamReader,
    rejects: Rejects,
    parking: ParkedBatches,
    reached: Position,
    delivered: Delivered,
    *,
    clear: Iterable[CheckpointKind] = (),
) -> None:
    """Acknowledge, and in the same transaction settle what was pending on it.

    Args:
        reader: The stream's.
        rejects: What was set aside on the way is counted here.
        parking: What was parked on the way goes.
        reached: Up to where everything is in the target, or set aside.
        delivered: What became of it, but for what is set aside.
        clear: Other notes that it settles.
    """
    cleared = list(clear)
    if pending := rejects.resolve(reached):
        cleared.append("pending")
        delivered = replace(delivered, rejected=pending["rows"], rejected_bytes=pending["size_bytes"])
    if parking.leave(reached):
        cleared.append("parked")
    if cleared or reached != reader.position:
        reader.acknowledge(reached, delivered, clear=cleared)
