"""Journal to target: one worker a stream, in batches that follow the load, exactly once.

``worker`` is the loop: read a batch, have a loader deliver it, back off while the target is unavailable. ``scheduler``
has a few threads take the steps of all workers. ``ledger``
is the loader for targets with transactions, ``plan`` the one for files, ``counted`` the one for tables without
transactions whose loads are all or nothing, ``stepped`` the one for those that tell how much of a plan is in,
``override`` the one for a user's own method. ``dtypes`` gives rows the types that the
stream was asked for, ``casting`` has a table follow the data, ``fitting`` finds the rows that it can't hold,
``rejected`` sets them aside, ``parking`` keeps a copy of the batch whose tries ran out.
"""

from api2db.delivery._counted_loader import CountedLoader
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
    "CountedLoader",
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
