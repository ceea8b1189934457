"""Putting a stream's worker together from the parts of delivery."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from api2db.delivery import (
    LIMIT,
    CountedCourier,
    Courier,
    LedgerCourier,
    OverrideCourier,
    OverrideTarget,
    Parking,
    ParkingPlace,
    PlanCourier,
    Rejects,
    SteppedCourier,
    Worker,
)
from api2db.journal import StreamLog
from api2db.targets.port import CountedTarget, LedgerTarget, PlannedTarget, SteppedTarget, Target

__all__ = ["AnyTarget", "Places", "build_worker"]

AnyTarget = CountedTarget | LedgerTarget | PlannedTarget | SteppedTarget


@dataclass(frozen=True, slots=True)
class Places:
    """Where a stream sets things aside, and how much it loads at once.

    Attributes:
        parked: The folder of batches whose tries ran out.
        rejected: The folder of rows that were refused.
        chunk_rows: The most rows of one batch; 0 for no limit of its own.
    """

    parked: Path
    rejected: Path
    chunk_rows: int


def build_worker(
    log: StreamLog,
    target: AnyTarget | None,
    call: Callable[[pd.DataFrame], list[pa.RecordBatch]] | None,
    places: Places,
    learn: Callable[[pa.Schema], None],
    parking: ParkingPlace | None = None,
) -> Worker:
    """A worker for a stream.

    Args:
        log: The stream's view of its journal.
        target: Where rows go; None for a stream without a target of its own.
        call: The user's own ``stream`` method; None where it is not overridden.
        places: Where it sets things aside.
        learn: Told of each batch's schema.
        parking: Takes a batch whose tries ran out, instead of the folder for that.

    Raises:
        AttributeError: There is neither a target nor a method.
    """
    parking, rejects = parking or Parking(log, places.parked), Rejects(log, places.rejected)
    courier = None if target is None else _courier(log, target, rejects, parking)
    reached: Target = OverrideTarget() if target is None else target
    keyed = target is not None and not isinstance(target, PlannedTarget) and bool(target.keys)
    if call is not None:
        courier = OverrideCourier(log, call, parking, rejects, courier, keyed=keyed)
        reached = OverrideTarget(reached)
    if courier is None:
        raise AttributeError("a Stream has no target: inherit from it and override stream")
    limit = LIMIT._replace(rows=places.chunk_rows) if places.chunk_rows else LIMIT
    if isinstance(target, CountedTarget):  # a read ends behind its limit, and what is too large is read in vain
        limit = limit._replace(size_bytes=min(limit.size_bytes, target.largest_bytes * 2 // 3))
    return Worker(log, reached, courier, parking, limit, learn, keyed=keyed and call is None)


def _courier(log: StreamLog, target: AnyTarget, rejects: Rejects, parking: ParkingPlace) -> Courier:
    if isinstance(target, CountedTarget):
        return CountedCourier(log, target, rejects, parking)
    if isinstance(target, PlannedTarget):
        return PlanCourier(log, target, rejects, parking)
    if isinstance(target, SteppedTarget):
        return SteppedCourier(log, target, rejects, parking)
    return LedgerCourier(log, target, rejects, parking)
