"""Rejected rows: rows that a target refused for themselves, in a Parquet file with the reason for each row.

The file is written under a temporary name, and its checkpoint is durable, before the other rows are committed. If the
ledger says that they were committed, the file gets its final name; otherwise the file is removed.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa

from api2db.delivery.batch import Batch
from api2db.errors import FormatError
from api2db.formats import write
from api2db.journal import METADATA_KEY, Delivered, Position, StreamReader

REASON, FRAME_TIME = ADDED_COLUMNS = ("_api2db_reason", "_api2db_frame_ns")
_OWN = "own"
logger = logging.getLogger(__name__)


def origin(reader: StreamReader, first: Position, last: Position) -> dict[str, Any]:
    """The journal, stream and range of a file's rows, so that no other stream loads them."""
    return {
        "journal": reader.journal_id,
        "stream": reader.key,
        "epoch": reader.epoch,
        "first": list(first),
        "last": list(last),
    }


def without_added(rows: pa.Table) -> pa.Table:
    """Rows as they were put, without the added columns."""
    own = json.loads((rows.schema.metadata or {}).get(METADATA_KEY, b"{}")).get(_OWN, {})
    rows = rows.drop_columns([name for name in ADDED_COLUMNS if name in rows.column_names])
    return rows.rename_columns([own.get(name, name) for name in rows.column_names])


def _own_names(names: Sequence[str]) -> dict[str, str]:
    """New names for the rows' own columns that have the name of an added column: new name to own name."""
    other: dict[str, str] = {}
    for name in ADDED_COLUMNS:
        if name in names:
            free = f"own{name}"
            while free in names:
                free = f"own_{free}"
            other[free] = name
    return other


def _writable(table: pa.Table) -> pa.Table:
    """Cast columns that Parquet can't hold to text, for instance seconds beyond the range of its milliseconds."""
    if _is_writable(table):
        return table
    for place, field in enumerate(table.schema):
        if not _is_writable(table.select([place])):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    return table


def _is_writable(table: pa.Table) -> bool:
    try:
        write(table, BytesIO(), "parquet")
    except FormatError:
        return False
    return True


class Rejects:
    """The rejected rows of one stream."""

    def __init__(self, reader: StreamReader, folder: Path) -> None:
        self._reader = reader
        self._files = reader.files(folder)

    def set_aside(self, batch: Batch, reasons: Mapping[int, str], *, alone: bool = False) -> None:
        """Write refused rows as pending; rows that were pending before were rolled back, and are removed.

        Args:
            batch: The batch of the rows.
            reasons: Why each row is refused, by its number in the batch.
            alone: Whether no other row of the batch is loaded, so that no target knows the outcome.
        """
        self._files.sweep()
        chosen = sorted(reasons)
        times = [time for time, rows in batch.frame_times() for _ in range(rows)]
        table = batch.put_rows.take(chosen)
        own = _own_names(table.column_names)
        by_name = {name: free for free, name in own.items()}
        table = table.rename_columns([by_name.get(name, name) for name in table.column_names])
        table = table.append_column(REASON, pa.array([reasons[row] for row in chosen], pa.string()))
        table = table.append_column(FRAME_TIME, pa.array([times[row] for row in chosen], pa.int64()))
        said = {**self._origin(batch), **({_OWN: own} if own else {})}
        metadata = {**(batch.put_rows.schema.metadata or {}), METADATA_KEY: json.dumps(said).encode()}
        rows = _writable(table).replace_schema_metadata(metadata)
        temporary = self._files.write(lambda file: write(rows, file, "parquet"))
        [(reason, _)] = Counter(reasons.values()).most_common(1)
        checkpoint = {
            "temporary": temporary.name,
            "final": f"{times[chosen[0]]}.parquet",
            "end": list(batch.end),
            "rows": len(chosen),
            "size_bytes": temporary.size_bytes,
            "reason": reason,
            "reasons": len(set(reasons.values())),
            "alone": {"frames": batch.frames, "superseded": batch.superseded.rows} if alone else None,
        }
        self._reader.save("pending", checkpoint)

    def resolve(self, reached: Position) -> Mapping[str, Any]:
        """Make pending rows final if their batch was committed; otherwise remove them.

        Returns:
            The checkpoint of the rows that became final, for the caller to clear; empty if there are none.
        """
        checkpoint = self._reader.checkpoint("pending")
        if checkpoint is None:
            return {}
        if Position(*checkpoint["end"]) > reached:
            self._reader.acknowledge(self._reader.position, Delivered(), clear=["pending"])
            self._files.remove(checkpoint["temporary"])
            return {}
        self._publish(checkpoint)
        return checkpoint

    def settle(self) -> None:
        """Make pending rows final if they are alone, or if the position is past them."""
        checkpoint = self._reader.checkpoint("pending")
        if checkpoint is None:
            return
        position, end = self._reader.position, Position(*checkpoint["end"])
        if checkpoint.get("alone") is None and end > position:
            return
        self._publish(checkpoint)
        counted = checkpoint["alone"] if checkpoint.get("alone") and end > position else {}
        rejected = {"rejected": checkpoint["rows"], "rejected_bytes": checkpoint["size_bytes"]}
        self._reader.acknowledge(max(position, end), Delivered(**rejected, **counted), clear=["pending"])

    def _origin(self, batch: Batch) -> dict[str, Any]:
        return origin(self._reader, batch.start, batch.end)

    def _publish(self, checkpoint: Mapping[str, Any]) -> None:
        said = {name: checkpoint.get(name) for name in ("rows", "size_bytes", "reason", "reasons")}
        self._files.publish(checkpoint["temporary"], checkpoint["final"], said)
        refused = (
            "1 row was refused; it is"
            if checkpoint["rows"] == 1
            else f"{checkpoint['rows']} rows were refused; they are"
        )
        logger.warning("%s in %s with the reason for each", refused, self._files)
