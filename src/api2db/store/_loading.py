"""The load of a round's shards: into a target through delivery's worker, or through a user's own method."""

import logging
from collections.abc import Callable

import pandas as pd
import pyarrow as pa

from api2db.delivery import Dtypes, Rejects, Worker
from api2db.delivery.batch import Batch
from api2db.errors import TargetUnavailableError
from api2db.frames import to_pandas
from api2db.journal import Delivered, Position
from api2db.store._reader import ManifestReader
from api2db.stream.workers import DeliveryOptions, build_worker
from api2db.targets.port import AnyTarget

logger = logging.getLogger(__name__)


Load = Callable[[ManifestReader], None]
"""Loads the rows of a round. Raises TargetUnavailableError if not all are loaded; the next call continues."""


class IntoTarget:
    """Loads with a worker of delivery, which ends when all rows are loaded, or when the target stays unavailable.

    Args:
        target: Makes a target for each round.
        options: Where rows are set aside, and how many rows are loaded at once.
        dtypes: The dtypes that columns get on their way into the target.
        describe: The target, for display.
        lend: Called with the worker while it works, so that it can be stopped.
    """

    def __init__(
        self,
        target: Callable[[], AnyTarget],
        options: DeliveryOptions,
        dtypes: Dtypes,
        describe: str,
        lend: Callable[[Worker | None], None],
    ) -> None:
        self._target = target
        self._options = options
        self._dtypes = dtypes
        self._describe = describe
        self._lend = lend

    def __call__(self, log: ManifestReader) -> None:
        ending = _GivesUp()
        worker = build_worker(log, self._target(), None, self._options, lambda _: None, ending, self._dtypes)
        ending.stop = log.on_end = worker.stop
        self._lend(worker)
        try:
            worker.run()
        finally:
            self._lend(None)
        if not log.finished:
            reason = log.said or "it was stopped"
            raise TargetUnavailableError(
                f"not all shards are in {self._describe}: {reason}; they stay, and the next round continues"
            )
        Rejects(log, self._options.rejected).settle()
        if log.said is not None:
            logger.warning("%s: %s", self._describe, log.said)


class ThroughMethod:
    """Passes all rows to a user's own method, at least once: again if it raised or a crash interrupted it."""

    def __init__(self, method: Callable[[pd.DataFrame], object]) -> None:
        self._method = method

    def __call__(self, log: ManifestReader) -> None:
        entries, _ = log.newest()
        rows = pa.Table.from_batches([entry.batch for entry in entries])
        self._method(to_pandas(rows))
        log.acknowledge(entries[-1].position, Delivered(frames=len(entries), rows=rows.num_rows))


class _GivesUp:
    """Parks nothing and stops the worker instead: the shards themselves are kept for the next round."""

    occupied = False

    def __init__(self) -> None:
        self.stop: Callable[[], None] = lambda: None

    def park(self, batch: Batch) -> None:
        self.stop()

    def leave(self, reached: Position) -> bool:
        return False
