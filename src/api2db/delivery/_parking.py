"""The head batch whose tries ran out, as a Parquet file that a person can look at.

The rows stay in the journal and are delivered from there, first, when the target is back; the file then goes. It says
which journal, stream and range it is of, so nothing ever loads it twice.
"""

import json
import logging
from pathlib import Path
from typing import Protocol

from api2db.delivery._rejected import METADATA_KEY, origin, sweep
from api2db.delivery.batch import Batch
from api2db.disk.atomic import make_folders, publish, sync_folder, write_temporary
from api2db.errors import JournalError
from api2db.formats import write
from api2db.journal import Position, StreamReader

logger = logging.getLogger(__name__)


class ParkedBatches(Protocol):
    """What becomes of a head batch whose tries ran out."""

    @property
    def occupied(self) -> bool:
        """Whether a batch is parked."""

    def park(self, batch: Batch) -> None:
        """Take a batch that is tried on all the same."""

    def leave(self, reached: Position) -> bool:
        """What was parked is in the target up to here; true where a checkpoint is to be cleared."""


class Parking:
    """The parked batch of one stream: at most one.

    Streams to two targets of one kind share the folder. So a file gets its name only once a durable checkpoint has it,
    and never in place of another: while the temporary file is there, the named one is not ours.
    """

    def __init__(self, reader: StreamReader, folder: Path) -> None:
        self._reader = reader
        self._folder = folder

    @property
    def occupied(self) -> bool:
        """Whether a batch is parked."""
        checkpoint = self._reader.checkpoint("parked")
        return checkpoint is not None and not (self._folder / checkpoint["temporary"]).exists()

    def park(self, batch: Batch) -> None:
        """Write a batch down; where the disk refuses that too, it waits in the journal alone."""
        try:
            path = self._park(batch)
        except (OSError, JournalError) as error:
            logger.warning("the batch waits in the journal only, %s can't be written to: %s", self._folder, error)
            return
        logger.error("%d rows are parked in %s; they go first when the target is back", batch.num_rows, path)

    def leave(self, reached: Position) -> bool:
        """Drop the file once its rows are in the target; true where a checkpoint is to be cleared."""
        checkpoint = self._reader.checkpoint("parked")
        if checkpoint is None or Position(*checkpoint["end"]) > reached:
            return False
        temporary = self._folder / checkpoint["temporary"]
        ours = temporary if temporary.exists() else self._folder / checkpoint["file"]
        ours.unlink(missing_ok=True)
        return True

    def _park(self, batch: Batch) -> Path:
        make_folders(self._folder)
        sweep(self._folder, self._reader.key)
        metadata = {
            **(batch.put_rows.schema.metadata or {}),
            METADATA_KEY: json.dumps(origin(self._reader, batch.start, batch.end)).encode(),
        }
        with write_temporary(self._folder / self._reader.key) as temporary:
            write(batch.put_rows.replace_schema_metadata(metadata), temporary.file, "parquet")
        path = self._folder / f"{batch.entries[0].timestamp_ns}.parquet"
        self._keep(batch, temporary.path, path)
        while temporary.path.exists():
            try:
                publish(temporary.path, path)
            except FileExistsError:
                path = path.with_name(f"{int(path.stem) + 1}.parquet")
                self._keep(batch, temporary.path, path)
        sync_folder(self._folder)
        return path

    def _keep(self, batch: Batch, temporary: Path, path: Path) -> None:
        checkpoint = {
            "temporary": temporary.name,
            "file": path.name,
            "end": list(batch.end),
            "rows": batch.num_rows,
            "size_bytes": temporary.stat().st_size,
        }
        self._reader.save("parked", checkpoint)
