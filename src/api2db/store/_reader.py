"""The shards of one round as a stream's reader: one record for each shard."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from api2db.journal import (
    Backlog,
    Checkpoint,
    CheckpointKind,
    Delivered,
    DiskFolder,
    Entry,
    Position,
    ReadLimit,
    Superseded,
    Tell,
)
from api2db.progress import tell
from api2db.shards.shards import under_one_schema
from api2db.store._round import Round, saved
from api2db.store.rejected import origin_of


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of one shard that are loaded.

    Attributes:
        timestamp_ns: When its frame was put, from the shard's name.
        batch: Its rows in its own columns.
        retried: Whether its rows were rejected before.
    """

    timestamp_ns: int
    batch: pa.RecordBatch
    retried: bool = False


class ManifestReader:
    """See ``StreamReader``. Positions count the round's shards; checkpoints are kept in the manifest.

    After a crash, the ledger of a target says how much is committed. For targets without a ledger only the manifest
    does: one write of it clears a checkpoint and moves the position, and the next round starts there.

    Args:
        folder: The folder of the shards and the manifest.
        begun: The round whose rows are to be loaded.
        shards: The rows of the shards. They need no common schema: delivery starts a new batch when the schema changes.
        schema: The schema of all rows as one frame.

    Attributes:
        round: The round as it is in its manifest.
        position: The position up to which rows are loaded or set aside.
        delivered: The outcome of those rows.
        said: Why nothing is loaded now; None if nothing is wrong.
        on_end: Called when nothing is left to read.
    """

    def __init__(self, folder: Path, begun: Round, shards: Sequence[ShardRows], schema: pa.Schema) -> None:
        self.round = begun
        self.position = begun.position
        self.delivered = begun.delivered
        self.said: str | None = None
        self._warning: str | None = None
        self.on_end: Callable[[], None] = lambda: None
        self._folder = folder
        self._shards = shards
        self._schema = schema
        self._rows = sum(shard.batch.num_rows for shard in shards)

    @property
    def key(self) -> str:
        return self.round.id

    @property
    def epoch(self) -> str:
        return self.round.id

    @property
    def journal_id(self) -> str:
        return origin_of(self._folder, self.round.fmt)

    @property
    def finished(self) -> bool:
        """Whether all rows are loaded or rejected."""
        return self.position.sequence == len(self._shards)

    def knows_epoch(self, epoch: str) -> bool:
        return epoch == self.round.id

    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        if self.finished and timeout_s is None:
            self.on_end()
        return self._entries(limit)

    @property
    def waiting_bytes(self) -> int:
        return 0  # All shards are in memory.

    @property
    def waiting_rows(self) -> int:
        return 0

    def newest(self) -> tuple[list[Entry], Superseded]:
        """Return all shards together: a table that is replaced takes a round as one frame."""
        rows = sum(shard.batch.num_rows for shard in self._shards)
        entries = self._entries(ReadLimit(rows + 1, 1 << 62))
        return [replace(entry, batch=under_one_schema(entry.batch, self._schema)) for entry in entries], Superseded()

    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        total = Delivered(*(a + b for a, b in zip(_values(self.delivered), _values(delivered), strict=True)))
        if clear:
            kept = {kind: checkpoint for kind, checkpoint in self.round.checkpoints.items() if kind not in clear}
            self._save(replace(self.round, checkpoints=kept, position=position, delivered=total))
        self.position, self.delivered = position, total
        tell("loading rows", self._rows_before(position), self._rows)

    def seek(self, position: Position) -> Backlog:
        rows = self._rows_before(position) - self._rows_before(self.position)
        frames = position.sequence - self.position.sequence
        self.position = position
        return Backlog(frames, rows, 0, None)

    def files(self, folder: Path) -> DiskFolder:
        return DiskFolder(folder, self.key)

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        return self.round.checkpoints.get(kind)

    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        self._save(replace(self.round, checkpoints={**self.round.checkpoints, kind: checkpoint}))

    def set_error(self, trouble: str | None) -> None:
        self.said = trouble or self._warning

    def add_warning(self, warning: str) -> None:
        self.said = self._warning = warning

    def wake(self) -> None:
        return

    def on_news(self, tell: Tell) -> None:
        return  # Nothing more will come.

    def on_details(self, details: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        return {}  # Nobody watches a round of a store.

    def _save(self, changed: Round) -> None:
        self.round = saved(self._folder, changed)

    def _entries(self, limit: ReadLimit) -> list[Entry]:
        entries: list[Entry] = []
        rows = size_bytes = 0
        for number in range(self.position.sequence, len(self._shards)):
            if rows >= limit.rows or size_bytes >= limit.size_bytes:
                break
            skip = self.position.skip if number == self.position.sequence else 0
            entries.append(self._entry(number, skip, None if limit.whole_frames else limit.rows - rows))
            rows += entries[-1].batch.num_rows
            size_bytes += entries[-1].batch.nbytes
        return entries

    def _entry(self, number: int, skip: int, most_rows: int | None) -> Entry:
        shard = self._shards[number]
        taken = shard.batch.slice(skip, most_rows)
        reached = skip + taken.num_rows
        whole = reached >= shard.batch.num_rows
        position = Position(number + 1) if whole else Position(number, reached)
        return Entry(position, shard.timestamp_ns, taken, whole, shard.retried)

    def _rows_before(self, position: Position) -> int:
        rows = [int(shard.batch.num_rows) for shard in self._shards[: position.sequence]]
        return sum(rows) + position.skip


def _values(delivered: Delivered) -> tuple[int, ...]:
    return (
        delivered.frames,
        delivered.rows,
        delivered.rejected,
        delivered.rejected_bytes,
        delivered.superseded,
        delivered.duplicates,
    )
