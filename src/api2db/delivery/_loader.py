"""The protocol of loaders, the base of the loaders of tables, and functions that loaders share."""

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
from api2db.targets.port import BegunLoad, Column, TableTarget


class Loader(Protocol):
    """Gets batches into a target exactly once."""

    @property
    def columns(self) -> Sequence[Column] | None:
        """The table's columns after the last batch; None if the target has no columns of its own."""

    def recover(self) -> int:
        """Connect to the target, settle an interrupted load, and adopt the committed position.

        A warning is added before anything is acknowledged, so that it is there when ``flush`` returns.

        Returns:
            How many rows of the batch that failed last are committed beyond the position. Always 0 for the journal's
            own rows: there the position covers them.

        Raises:
            TargetUnavailableError: It can't be reached now.
            ForeignLedgerError: Another project wrote the ledger; a person must decide.
        """

    def deliver(self, batch: Batch) -> Batch:
        """Load a batch or its first rows, set aside what is refused, and acknowledge.

        Returns:
            What was loaded or set aside: the batch, its first rows, or the batch and entries of its ``rest``.
        """

    def reject(self, batch: Batch, reason: str) -> None:
        """Set all rows of a batch aside, and acknowledge."""

    @property
    def can_begin(self) -> bool:
        """Whether ``begin`` may ever return a load."""
        return False

    def begin(self, _batch: Batch) -> BegunLoad | None:
        """Begin to load a batch while ``deliver`` is under way with the one before it; called by another thread.

        Returns:
            What to deliver the batch with, as its ``begun``; None if it can't be begun now.
        """
        return None


class TableLoader(Loader, ABC):
    """Base of the loaders of tables: handles batches without rows, makes the table follow the data, retries once.

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
        """See ``Loader``. If another program has changed the table meanwhile, the batch is cast again, once."""
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
    """Acknowledge, and settle rejected rows and the parked batch in the same transaction.

    Args:
        reader: The stream's reader.
        rejects: Counts what was set aside before ``reached``.
        parking: Releases what was parked before ``reached``.
        reached: Everything before it is in the target or set aside.
        delivered: The outcome, without rejected rows.
        clear: Other checkpoints to clear.
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
    """Clear a plan that was not carried out, and anything that a failed ``save`` left on disk.

    An empty plan is saved first, because clearing a checkpoint that the journal does not have writes nothing.
    """
    reader.save("plan", {})
    reader.acknowledge(reader.position, Delivered(), clear=["plan"])
