"""What the worker asks of whoever carries its batches, and what those who fill tables do alike."""

from typing import Protocol

from api2db.delivery.batch import Batch


class Loader(Protocol):
    """How batches get into a target exactly once."""

    def recover(self) -> None:
        """Reach the target, finish what was begun, and take over how far it is.

        What a person should know, though delivery goes on, is said before anything is acknowledged: whoever flushes
        finds it.

        Raises:
            TargetUnavailableError: Later, perhaps.
            ForeignLedgerError: Never, until a person decides.
        """

    def deliver(self, batch: Batch) -> None:
        """Load a batch, set aside what is refused, and acknowledge."""

    def reject(self, batch: Batch, reason: str) -> None:
        """Set all rows of a batch aside, and acknowledge."""


def reject_columns(loader: Loader, batch: Batch, reason: str) -> None:
    """Columns that one table can't have together: those of one frame, or only those of several."""
    alike = batch.leading_alike()
    if len(alike.entries) == len(batch.entries):
        loader.reject(batch, reason)
    else:
        loader.deliver(alike)
