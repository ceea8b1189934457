"""The parked batch: a Parquet copy of the head batch after its retries ran out, for a person to look at.

The rows stay in the journal. They are the first to be delivered from there when the target is back; then the file is
removed. The file names its journal, stream and range, so it is never loaded twice. A journal in a cluster has no such
copies: any machine can deliver the batch.
"""

import json
import logging
from pathlib import Path
from typing import Protocol

from api2db.delivery._rejected import origin
from api2db.delivery.batch import Batch
from api2db.disk.atomic import publish, sync_folder
from api2db.errors import JournalError
from api2db.formats import write
from api2db.journal import METADATA_KEY, Position, StreamReader, Written

logger = logging.getLogger(__name__)


class ParkedBatches(Protocol):
    """What happens to a head batch whose retries ran out."""

    @property
    def occupied(self) -> bool:
        """Whether a batch is parked."""

    def park(self, batch: Batch) -> None:
        """Park a batch; the worker continues to retry it."""

    def leave(self, reached: Position) -> bool:
        """Release what was parked before a position; return whether the caller must clear the checkpoint."""


class Parking:
    """The parked batch of one stream: at most one.

    Streams to two targets of one kind share the folder. So a file gets its name only after a durable checkpoint has
    that name, and never replaces another file: while the temporary file exists, the file of that name is another's.
    """

    def __init__(self, reader: StreamReader, folder: Path) -> None:
        self._reader = reader
        self._folder = folder
        self._files = reader.files(folder)

    @property
    def occupied(self) -> bool:
        """Whether a batch is parked."""
        checkpoint = self._reader.checkpoint("parked")
        if checkpoint is None or not checkpoint["temporary"]:
            return checkpoint is not None
        return not (self._folder / checkpoint["temporary"]).exists()

    def park(self, batch: Batch) -> None:
        """Write a copy of a batch. If the disk refuses that too, the batch waits only in the journal."""
        try:
            path = self._park(batch)
        except (OSError, JournalError) as error:
            logger.warning("the batch waits only in the journal; %s can't be written to: %s", self._folder, error)
            return
        logger.error("%d rows are parked in %s; they are loaded first when the target is back", batch.num_rows, path)

    def leave(self, reached: Position) -> bool:
        """Remove the file if its rows are in the target; return whether the caller must clear the checkpoint."""
        checkpoint = self._reader.checkpoint("parked")
        if checkpoint is None or Position(*checkpoint["end"]) > reached:
            return False
        if checkpoint["temporary"]:
            temporary = self._folder / checkpoint["temporary"]
            ours = temporary if temporary.exists() else self._folder / checkpoint["file"]
            ours.unlink(missing_ok=True)
        return True

    def _park(self, batch: Batch) -> str:
        if not self._files.has_copies:
            self._keep(batch, Written("", 0), "")
            return str(self._files)
        self._files.sweep()
        metadata = {
            **(batch.put_rows.schema.metadata or {}),
            METADATA_KEY: json.dumps(origin(self._reader, batch.start, batch.end)).encode(),
        }
        rows = batch.put_rows.replace_schema_metadata(metadata)
        temporary = self._files.write(lambda file: write(rows, file, "parquet"))
        path = self._folder / f"{batch.first_time_ns}.parquet"
        self._keep(batch, temporary, path.name)
        while (self._folder / temporary.name).exists():
            try:
                publish(self._folder / temporary.name, path)
            except FileExistsError:
                path = path.with_name(f"{int(path.stem) + 1}.parquet")
                self._keep(batch, temporary, path.name)
        sync_folder(self._folder)
        return str(path)

    def _keep(self, batch: Batch, temporary: Written, name: str) -> None:
        checkpoint = {
            "temporary": temporary.name,
            "file": name,
            "end": list(batch.end),
            "rows": batch.num_rows,
            "size_bytes": temporary.size_bytes,
        }
        self._reader.save("parked", checkpoint)
