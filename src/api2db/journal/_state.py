"""Positions, checkpoints and counters of a journal, in one small SQLite file."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from api2db.journal._state_connection import StateConnection
from api2db.journal._state_file import (
    Removal,
    StreamRow,
    identity_checksum,
    position_checksum,
    read_checkpoint,
    read_segments,
    read_streams,
    seal,
    unseal,
)
from api2db.journal.port import Checkpoint, CheckpointKind, Delivered, Position

_REMOVALS = "removals"


class State:
    """The state file, opened by the journal's owner.

    Args:
        folder: The journal's folder.

    Raises:
        DamagedStateError, JournalError: As ``StateConnection``.
    """

    def __init__(self, folder: Path) -> None:
        self._connection = StateConnection(folder)
        self._identities = self._connection.identities

    def meta(self, key: str) -> Any:
        """Return the value saved under a key, or None."""
        with self._connection.opened() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return unseal(row[0]) if row else None

    def keep_meta(self, values: Mapping[str, Any], *, durable: bool = True) -> None:
        """Save values under their keys."""
        with self._connection.transaction(durable=durable) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, seal(value)) for key, value in values.items()]
            )

    def add_epochs(self, epochs: Mapping[str, int]) -> None:
        """Record opens of the journal; durable."""
        with self._connection.transaction(durable=True) as connection:
            connection.executemany("INSERT OR IGNORE INTO epochs VALUES (?, ?)", epochs.items())

    def epochs(self) -> dict[str, int]:
        """Return all opens: epoch and counter."""
        with self._connection.opened() as connection:
            return dict(connection.execute("SELECT epoch, counter FROM epochs"))

    def streams(self) -> list[StreamRow]:
        """Return all registered streams."""
        with self._connection.opened() as connection:
            return read_streams(connection)

    def add_stream(self, row: StreamRow) -> None:
        """Register a stream; durable."""
        self._identities[row.stream_no] = identity_checksum(row)
        values = (row.stream_no, row.key, row.identity, row.stream_type, row.quota_bytes, *row.position)
        with self._connection.transaction(durable=True) as connection:
            connection.execute(
                "INSERT INTO streams (stream_no, key, identity, stream_type, quota_bytes, sequence, skip, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, self._checksum(row.stream_no, row.position)),
            )

    def set_quota(self, stream_no: int, quota_bytes: int | None) -> None:
        """Set the quota that a stream was started with."""
        with self._connection.transaction(durable=True) as connection:
            connection.execute("UPDATE streams SET quota_bytes = ? WHERE stream_no = ?", (quota_bytes, stream_no))

    def drop_stream(self, stream_no: int) -> None:
        """Delete a stream and its checkpoints; durable."""
        with self._connection.transaction(durable=True) as connection:
            connection.execute("DELETE FROM streams WHERE stream_no = ?", (stream_no,))
            connection.execute("DELETE FROM checkpoints WHERE stream_no = ?", (stream_no,))

    def move(
        self,
        stream_no: int,
        position: Position,
        delivered: Delivered,
        clear: Collection[CheckpointKind],
        *,
        durable: bool,
    ) -> None:
        """Move a stream's position, add what was delivered, and clear checkpoints, in one transaction."""
        with self._connection.transaction(durable=durable) as connection:
            connection.execute(
                "UPDATE streams SET sequence = ?, skip = ?, frames = frames + ?, rows = rows + ?,"
                " rejected = rejected + ?, rejected_bytes = rejected_bytes + ?, superseded = superseded + ?,"
                " duplicates = duplicates + ?, checksum = ? WHERE stream_no = ?",
                (
                    *position,
                    delivered.frames,
                    delivered.rows,
                    delivered.rejected,
                    delivered.rejected_bytes,
                    delivered.superseded,
                    delivered.duplicates,
                    self._checksum(stream_no, position),
                    stream_no,
                ),
            )
            connection.executemany(
                "DELETE FROM checkpoints WHERE stream_no = ? AND kind = ?", [(stream_no, kind) for kind in clear]
            )

    def _checksum(self, stream_no: int, position: Position) -> int:
        return position_checksum(self._identities[stream_no], position)

    def checkpoint(self, stream_no: int, kind: CheckpointKind) -> Checkpoint | None:
        """Return a stream's checkpoint, or None."""
        with self._connection.opened() as connection:
            return read_checkpoint(connection, stream_no, kind)

    def save_checkpoint(self, stream_no: int, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        """Save a checkpoint; durable."""
        with self._connection.transaction(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (stream_no, kind, seal(checkpoint))
            )

    def set_error(self, stream_no: int, error: str | None) -> None:
        """Set or clear a stream's last error, with its time."""
        with self._connection.transaction(durable=False) as connection:
            connection.execute(
                "UPDATE streams SET error = ?, error_at = ? WHERE stream_no = ?",
                (error, error and time.time(), stream_no),
            )

    def removals(self) -> list[Removal]:
        """Return the removals that are not finished."""
        return [Removal(*values) for values in self.meta(_REMOVALS) or ()]

    def keep_removals(self, removals: Sequence[Removal]) -> None:
        """Save the removals that are not finished."""
        self.keep_meta({_REMOVALS: [astuple(removal) for removal in removals]}, durable=False)

    def finish_removal(self, removal: Removal, left: Sequence[Removal]) -> tuple[int, int]:
        """Save the removals that are left, and no longer count the rows of one as rejected, in one transaction.

        Pending rows are published before they are counted. Otherwise no count falls below 0, as it could after the
        file was rebuilt.

        Returns:
            How many rows, and bytes, are no longer counted.
        """
        with self._connection.transaction(durable=False) as connection:
            found = connection.execute(
                "SELECT max(0, rejected), max(0, rejected_bytes), EXISTS (SELECT 1 FROM checkpoints"
                " WHERE checkpoints.stream_no = streams.stream_no AND kind = 'pending')"
                " FROM streams WHERE stream_no = ?",
                (removal.stream_no,),
            ).fetchone()
            rows, size_bytes, has_pending = found or (0, 0, False)
            if has_pending:
                rows, size_bytes = removal.rows, removal.size_bytes
            rows, size_bytes = min(rows, removal.rows), min(size_bytes, removal.size_bytes)
            connection.execute(
                "UPDATE streams SET rejected = rejected - ?, rejected_bytes = rejected_bytes - ? WHERE stream_no = ?",
                (rows, size_bytes, removal.stream_no),
            )
            connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_REMOVALS, seal([astuple(other) for other in left]))
            )
        return rows, size_bytes

    def keep_segment(self, number: int, summary: Mapping[str, Any]) -> None:
        """Save the summary of a finished segment, so that it need not be scanned again."""
        with self._connection.transaction(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (number, seal(summary)))

    def drop_segments(self, numbers: Collection[int]) -> None:
        """Delete segment summaries; durable, so that a segment unlinked afterwards is not reported missing."""
        with self._connection.transaction(durable=True) as connection:
            connection.executemany("DELETE FROM segments WHERE number = ?", [(number,) for number in numbers])

    def drop_segments_until(self, number: int) -> None:
        """Delete all segment summaries up to a number; durable. A full disk may have kept earlier ones."""
        with self._connection.transaction(durable=True) as connection:
            connection.execute("DELETE FROM segments WHERE number <= ?", (number,))

    def segments(self) -> dict[int, dict[str, Any]]:
        """Return the summaries of finished segments."""
        with self._connection.opened() as connection:
            return read_segments(connection)

    def shrink(self) -> bool:
        """Shrink the file's write-ahead log; return whether that freed anything."""
        return self._connection.shrink()

    def close(self) -> None:
        """Close the file; whoever still uses it gets a JournalError."""
        self._connection.close()
