"""Construction of a stream's worker from the parts of delivery, and the call of a user's own ``stream`` method."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from api2db.delivery import (
    LARGE_LIMIT,
    LIMIT,
    Dtypes,
    FileLoader,
    Loader,
    Named,
    OverrideLoader,
    OverrideTarget,
    ParkedBatches,
    Parking,
    Rejects,
    ResumableLoader,
    TransactionalLoader,
    Worker,
)
from api2db.frames import to_batch
from api2db.journal import StreamReader
from api2db.targets.port import AnyTarget, LoaderName, Target

_LOADERS: Mapping[LoaderName, Callable[..., Loader]] = {
    "transactional": TransactionalLoader,
    "file": FileLoader,
    "resumable": ResumableLoader,
}


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """Who a stream is, where it sets things aside, and how much it loads at once.

    Attributes:
        collector: The collector's name.
        stream: The stream's identity.
        parked: The folder of batches whose retries ran out.
        rejected: The folder of rejected rows.
        chunk_rows: The most rows of one batch; 0 for no limit.
    """

    collector: str
    stream: str
    parked: Path
    rejected: Path
    chunk_rows: int


class Override:
    """A user's own ``stream`` method, called for each frame.

    What it passes on to ``super().stream`` during the call goes into the target of the class that it inherits from.
    """

    def __init__(self, method: Callable[[pd.DataFrame], object]) -> None:
        self._method = method
        self._passed_on: list[pa.RecordBatch] | None = None
        self._thread: threading.Thread | None = None

    def __call__(self, frame: pd.DataFrame) -> list[pa.RecordBatch]:
        """Call the method; return what it passed on."""
        self._passed_on, self._thread = [], threading.current_thread()
        try:
            self._method(frame)
            return self._passed_on
        finally:
            self._passed_on = self._thread = None

    def takes(self, data: Any) -> bool:
        """Take what the method passes on; return False if this is not such a call."""
        if self._passed_on is None or threading.current_thread() is not self._thread:
            return False
        self._passed_on.append(to_batch(data))
        return True


def build_worker(
    log: StreamReader,
    target: AnyTarget | None,
    call: Callable[[pd.DataFrame], list[pa.RecordBatch]] | None,
    options: DeliveryOptions,
    learn: Callable[[pa.Schema], None],
    parking: ParkedBatches | None = None,
    dtypes: Dtypes | None = None,
) -> Worker:
    """Make the worker of a stream.

    Args:
        log: The stream's reader of its journal.
        target: Where rows go; None for a stream without a target of its own.
        call: The user's ``stream`` method; None if it is not overridden.
        options: Where the worker sets things aside, and how much it loads at once.
        learn: Called with each batch's schema.
        parking: Takes a batch whose retries ran out, instead of the folder for that.
        dtypes: The types that columns get on their way into the target; a user's method gets them as they were put.

    Raises:
        AttributeError: There is neither a target nor a method.
    """
    parking, rejects = parking or Parking(log, options.parked), Rejects(log, options.rejected)
    loader = None if target is None else _LOADERS[target.loader](log, target, rejects, parking)
    reached: Target = OverrideTarget() if target is None else target
    keyed = bool(reached.keys)
    if call is not None:
        loader = OverrideLoader(log, call, parking, rejects, loader, keyed=keyed, dtypes=dtypes)
        reached = OverrideTarget(reached)
    if loader is None:
        raise AttributeError("a Stream has no target: inherit from it and override stream")
    limit = LARGE_LIMIT if reached.large_batches else LIMIT
    if options.chunk_rows:
        limit = limit._replace(rows=options.chunk_rows)
    if target is not None and target.largest_bytes:  # a read ends after its limit, and what is too large is read twice
        limit = limit._replace(size_bytes=min(limit.size_bytes, target.largest_bytes * 2 // 3))
    applied = dtypes if call is None else None
    is_keyed, named = keyed and call is None, Named(options.collector, options.stream)
    return Worker(log, reached, loader, parking, limit, learn, keyed=is_keyed, dtypes=applied, named=named)
