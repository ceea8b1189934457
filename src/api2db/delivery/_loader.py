"""What a loader is, and what all loaders share: moving the stream on, and plans that are dropped."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from api2db.delivery._casting import Casting, prepare_empty
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch
from api2db.errors import BatchRefusedError, TableChangedError
from api2db.journal import CheckpointKind, Delivered, Position, StreamReader
from api2db.targets.port import Column, TableTarget


class Loader(Protocol):
    """Gets batches into a target exactly once."""

    @property
    def columns(self) -> Sequence[Column] | None:
        """The table's columns as the last batch left them; None for a target that has none of its own."""

    def recover(self) -> int:
        """Reach the target, finish what was begun, and take over how far it is.

        A warning is added before anything is acknowledged, so that whoever flushes finds it.

        Returns:
            How many rows of the batch that failed last are in the target though the position does not tell: always 0
            for rows of the journal.

        Raises:
            TargetUnavailableError: It may be reached later.
            ForeignLedgerError: A person must decide first.
        """

    def deliver(self, batch: Batch) -> Batch:
        """Load a batch or its first rows, set aside what is refused, and acknowledge.

        Returns:
            What was loaded or set aside: the batch, or its first rows.
        """

    def reject(self, batch: Batch, reason: str) -> None:
        """Set all rows of a batch aside, and acknowledge."""


class TableLoader(ABC):
    """What the loaders of tables share: a batch without rows, a table that follows the data, and one retry.

    Args:
        target: The table.
    """

    def __init__(self, target: TableTarget) -> None:
        self._table = target
        self._casting = Casting(target)

    @property
    def columns(self) -> Sequence[Column] | None:
        """See ``Loader``."""
        return self._casting.columns

    def deliver(self, batch: Batch) -> Batch:
        """See ``Loader``. If somebody else has changed the table meanwhile, the batch is cast again, once."""
        try:
            return self._deliver(batch)
        except TableChangedError:
            return self._deliver(batch)

    def _deliver(self, batch: Batch) -> Batch:
        if not batch.num_rows:
            prepare_empty(self._table, batch)
            self._pass(batch.end, Delivered(frames=batch.frames, superseded=batch.superseded.rows))
            return batch
        try:
            batch, columns = self._casting.prepare(batch)
        except BatchRefusedError as error:
            self.reject(batch, str(error))
            return batch
        return self._deliver(batch) if columns is None else self._load_prepared(batch, columns)

    @abstractmethod
    def reject(self, batch: Batch, reason: str) -> None:
        """See ``Loader``."""

    @abstractmethod
    def _load_prepared(self, batch: Batch, columns: Sequence[Column]) -> Batch:
        """Cast a batch with rows to the table's columns, load it or its first rows, and acknowledge; return these."""

    @abstractmethod
    def _pass(self, reached: Position, delivered: Delivered) -> None:
        """Acknowledge what needs no load."""


def acknowledge(
    reader: StreamReader,
    rejects: Rejects,
    parking: ParkedBatches,
    reached: Position,
    delivered: Delivered,
    *,
    clear: Iterable[CheckpointKind] = (),
) -> None:
    """Acknowledge, and in the same transaction settle the rows that were set aside and the batch that was parked.

    Args:
        reader: The stream's.
        rejects: Counts what was set aside before ``reached``.
        parking: Lets go what was parked before ``reached``.
        reached: Everything before it is in the target or set aside.
        delivered: What became of it, without what is set aside.
        clear: Other checkpoints that this settles.
    """
    cleared = list(clear)
    if pending := rejects.resolve(reached):
        cleared.append("pending")
        delivered = replace(delivered, rejected=pending["rows"], rejected_bytes=pending["size_bytes"])
    if parking.leave(reached):
        cleared.append("parked")
    if cleared or reached != reader.position or delivered != Delivered():
        reader.acknowledge(reached, delivered, clear=cleared)


def drop_plan(reader: StreamReader) -> None:
    """Clear a plan that was not carried out, and what a failed ``save`` may have left on disk.

    An empty plan is saved first: the journal writes nothing when it clears a checkpoint that it does not have.
    """
    reader.save("plan", {})
    reader.acknowledge(reader.position, Delivered(), clear=["plan"])
