"""The head batch whose tries ran out, as a Parquet file that a person can look at.

The rows stay in the journal and are delivered from there, first, when the target is back; the file then goes. It says
which journal, stream and range it is of, so nothing ever loads it twice.
"""

import json
import logging
from pathlib import Path

from api2db.delivery.batch import Batch
from api2db.delivery.rejected import METADATA_KEY, origin
from api2db.errors import JournalError
from api2db.formats import write
from api2db.formats.atomic import make_folders, replacing
from api2db.journal import Position, StreamLog

__all__ = ["Parking"]

_log = logging.getLogger(__name__)


class Parking:
    """The parked batch of one stream: at most one."""

    def __init__(self, log: StreamLog, folder: Path) -> None:
        self._log = log
        self._folder = folder

    @property
    def occupied(self) -> bool:
        """Whether a batch is parked."""
        return self._log.note("parked") is not None

    def park(self, batch: Batch) -> None:
        """Write a batch down; where the disk refuses that too, it waits in the journal alone."""
        path = self._folder / f"{batch.entries[0].timestamp_ns}.parquet"
        metadata = {
            **(batch.rows.schema.metadata or {}),
            METADATA_KEY: json.dumps(origin(self._log, batch.start, batch.end)).encode(),
        }
        try:
            make_folders(self._folder)
            with replacing(path) as file:
                write(batch.rows.replace_schema_metadata(metadata), file, "parquet")
            note = {
                "file": path.name,
                "end": list(batch.end),
                "rows": batch.rows.num_rows,
                "size_bytes": path.stat().st_size,
            }
            self._log.keep("parked", note)
        except (OSError, JournalError) as error:
            _log.warning("the batch waits in the journal only, %s can't be written: %s", path, error)
            return
        _log.error("%d rows are parked in %s; they go first when the target is back", batch.rows.num_rows, path)

    def leave(self, reached: Position) -> bool:
        """Drop the file once its rows are in the target; true where a note is to be cleared."""
        note = self._log.note("parked")
        if note is None or Position(*note["end"]) > reached:
            return False
        (self._folder / note["file"]).unlink(missing_ok=True)
        return True
