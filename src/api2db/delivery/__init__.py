"""Journal to target: one worker a stream, in batches that follow the load, exactly once.

``_worker`` is the loop: read a batch, have a loader deliver it, wait while the target is unavailable. ``_scheduler``
has a few threads take the steps of all workers. There is one loader for each way to be exact:
``_transactional_loader`` for targets with transactions, ``_file_loader`` for files, ``_resumable_loader`` for targets
that tell how much of a plan is in, and ``_override_loader`` for a user's own method. ``_dtypes`` gives rows the types
that the stream was asked for, ``_casting`` makes a table follow the data, ``_fitting`` finds the rows that do not fit,
``_rejected`` sets them aside, ``_parking`` keeps a copy of the batch whose retries ran out.
"""

from api2db.delivery._dtypes import Dtypes
from api2db.delivery._file_loader import FileLoader
from api2db.delivery._loader import Loader
from api2db.delivery._override_loader import OverrideLoader, OverrideTarget
from api2db.delivery._parking import ParkedBatches, Parking
from api2db.delivery._rejected import ADDED_COLUMNS, METADATA_KEY, Rejects, without_added
from api2db.delivery._resumable_loader import ResumableLoader
from api2db.delivery._scheduler import Group, Task, process_scheduler
from api2db.delivery._transactional_loader import TransactionalLoader
from api2db.delivery._worker import LIMIT, RETRIES, Worker

__all__ = [
    "ADDED_COLUMNS",
    "LIMIT",
    "METADATA_KEY",
    "RETRIES",
    "Dtypes",
    "FileLoader",
    "Group",
    "Loader",
    "OverrideLoader",
    "OverrideTarget",
    "ParkedBatches",
    "Parking",
    "Rejects",
    "ResumableLoader",
    "Task",
    "TransactionalLoader",
    "Worker",
    "process_scheduler",
    "without_added",
]
