"""Delivery from the journal into a target, exactly once: one worker for each stream.

``_worker`` is the loop: it reads a batch, lets a loader deliver it, and waits while the target is unavailable.
``_batches`` reads the batches, and makes them smaller where the target can't load them at once.
``_scheduler`` runs the steps of all workers on a few threads. There is one loader for each way to load exactly once:
``_transactional_loader`` for targets with transactions, ``_file_loader`` for files, ``_resumable_loader`` for targets
that know how many rows of a plan are committed, and ``_override_loader`` for a user's own method. ``_dtypes`` casts
rows to the stream's dtypes, ``_casting`` makes a table follow the data, ``_fitting`` finds the rows that do not fit,
``_rejected`` sets them aside, and ``_parking`` keeps a copy of the batch whose retries ran out.
"""

from api2db.delivery._batches import LARGE_LIMIT, LIMIT
from api2db.delivery._dtypes import Dtypes
from api2db.delivery._file_loader import FileLoader
from api2db.delivery._loader import Loader
from api2db.delivery._override_loader import OverrideLoader, OverrideTarget
from api2db.delivery._parking import ParkedBatches, Parking
from api2db.delivery._rejected import ADDED_COLUMNS, Rejects, without_added
from api2db.delivery._resumable_loader import ResumableLoader
from api2db.delivery._scheduler import Group, Task, process_scheduler
from api2db.delivery._transactional_loader import TransactionalLoader
from api2db.delivery._worker import RETRIES, Named, Worker
from api2db.journal import METADATA_KEY

__all__ = [
    "ADDED_COLUMNS",
    "LARGE_LIMIT",
    "LIMIT",
    "METADATA_KEY",
    "RETRIES",
    "Dtypes",
    "FileLoader",
    "Group",
    "Loader",
    "Named",
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
