"""Putting a stream's worker together from the parts of delivery."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from api2db.delivery import (
    LIMIT,
    Courier,
    LedgerCourier,
    OverrideCourier,
    OverrideTarget,
    Parking,
    PlanCourier,
    Rejects,
    Worker,
)
from api2db.formats.folders import rejected_folder, upload_failed_folder
from api2db.journal import StreamLog
from api2db.targets.port import LedgerTarget, PlannedTarget, Target

if TYPE_CHECKING:
    from api2db.stream.stream import Stream

__all__ = ["build_worker"]


def build_worker(
    stream: "Stream",
    log: StreamLog,
    target: LedgerTarget | PlannedTarget | None,
    call: Callable[[pd.DataFrame], list[pa.RecordBatch]] | None,
    learn: Callable[[pa.Schema], None],
) -> Worker:
    """A worker for a stream.

    Args:
        stream: Whose options count.
        log: Its view of the journal.
        target: Where rows go; None for a stream without a target of its own.
        call: The user's own ``stream`` method; None where it is not overridden.
        learn: Told of each batch's schema.
    """
    parking = Parking(log, upload_failed_folder(stream.home, stream.name, stream.stream_type))
    rejects = Rejects(log, rejected_folder(stream.home, stream.name, stream.stream_type))
    courier = None if target is None else _courier(log, target, rejects, parking)
    reached: Target = OverrideTarget() if target is None else target
    if call is not None:
        courier = OverrideCourier(log, call, courier)
        reached = OverrideTarget(reached)
    if courier is None:
        raise AttributeError(f"{stream!r} has no target and does not override stream")
    limit = LIMIT._replace(rows=stream.chunk_size) if stream.chunk_size else LIMIT
    return Worker(log, reached, courier, parking, limit, learn)


def _courier(log: StreamLog, target: LedgerTarget | PlannedTarget, rejects: Rejects, parking: Parking) -> Courier:
    if isinstance(target, PlannedTarget):
        return PlanCourier(log, target, rejects, parking)
    return LedgerCourier(log, target, rejects, parking)
