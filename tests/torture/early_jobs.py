"""A torture's jobs with a planted bug: a batch is acknowledged in the journal before the target has it.

A child that puts without end never loads, so that its kill is certain to fall between the two.
"""

import json
import threading
from typing import Any

from api2db.delivery._transactional_loader import TransactionalLoader
from api2db.journal import Delivered
from api2db.stream._queue import JournalQueue
from api2db.targets.sql import SqlTarget
from api2db.torture import jobs
from tests.kills.planted import replace

_acknowledged = threading.Event()
_deliver = TransactionalLoader.deliver
_put = JournalQueue.put


def _deliver_early(loader: TransactionalLoader, batch: Any) -> Any:
    loader._reader.acknowledge(batch.end, Delivered(frames=batch.frames, rows=batch.num_rows))
    _acknowledged.set()
    return _deliver(loader, batch)


def _put_then_wait(queue: JournalQueue, *arguments: Any) -> None:
    """The torture only kills a child that has put something, and by then a batch shall be acknowledged early."""
    _put(queue, *arguments)
    _acknowledged.wait()


def _never_load(_target: SqlTarget, *_arguments: Any) -> None:
    threading.Event().wait()


def run(line: str) -> None:
    """Do a job as the fork server was asked to."""
    if not json.loads(line)["frames"]:
        replace(JournalQueue, "put", _put_then_wait)
        replace(SqlTarget, "load", _never_load)
    jobs.run(line)


replace(TransactionalLoader, "deliver", _deliver_early)
