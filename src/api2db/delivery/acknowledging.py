"""Moving a stream on behind what is in its target, with all that waited for that to be known."""

from collections.abc import Iterable
from dataclasses import replace

from api2db.delivery.parking import ParkingPlace
from api2db.delivery.rejected import Rejects
from api2db.journal import Delivered, NoteKind, Position, StreamLog

__all__ = ["acknowledge"]


def acknowledge(
    log: StreamLog,
    rejects: Rejects,
    parking: ParkingPlace,
    reached: Position,
    delivered: Delivered,
    *,
    clear: Iterable[NoteKind] = (),
) -> None:
    """Acknowledge, and in the same transaction settle what was pending on it.

    Args:
        log: The stream's.
        rejects: What was set aside on the way is counted here.
        parking: What was parked on the way goes.
        reached: Up to where everything is in the target, or set aside.
        delivered: What became of it, but for what is set aside.
        clear: Other notes that it settles.
    """
    cleared = list(clear)
    if pending := rejects.settle(reached):
        cleared.append("pending")
        delivered = replace(delivered, rejected=pending["rows"], rejected_bytes=pending["size_bytes"])
    if parking.leave(reached):
        cleared.append("parked")
    if cleared or reached != log.position:
        log.acknowledge(reached, delivered, clear=cleared)
