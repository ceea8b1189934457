"""A torture's jobs with a planted bug: a batch is acknowledged in the journal before the target has it."""

import time
from typing import Any

from api2db.delivery._transactional_loader import TransactionalLoader
from api2db.journal import Delivered
from api2db.targets.sql import SqlTarget
from api2db.torture.jobs import run
from tests.kills.planted import replace

__all__ = ["run"]

_load = SqlTarget.load
_deliver = TransactionalLoader.deliver


def _deliver_early(loader: TransactionalLoader, batch: Any) -> Any:
    loader._reader.acknowledge(batch.end, Delivered(frames=batch.frames, rows=batch.num_rows))
    return _deliver(loader, batch)


def _load_late(target: SqlTarget, *arguments: Any) -> None:
    time.sleep(0.5)  # the moment between the two, in which a kill shall fall
    _load(target, *arguments)


replace(TransactionalLoader, "deliver", _deliver_early)
replace(SqlTarget, "load", _load_late)
