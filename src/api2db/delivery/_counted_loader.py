"""The loader for tables without transactions: a plan is on disk before each load, and the table tells if it was done.

A load is all or nothing, so a plan that was not carried out is dropped, and its rows are taken from the journal again.
"""

import logging
import sys
from collections.abc import Sequence

import pyarrow as pa

from api2db.delivery._casting import Casting, prepare_empty, without
from api2db.delivery._loader import reject_columns
from api2db.delivery._origins import origins_of
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._plan_checkpoint import acknowledge_plan, drop, plan_checkpoint
from api2db.delivery._refusals import TooLargeError, TooManyRefusalsError
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch, batch_of
from api2db.errors import BatchRefusedError, TableChangedError
from api2db.journal import Entry, Position, ReadLimit, StreamReader
from api2db.targets.port import Column, CountedTarget, Plan

logger = logging.getLogger(__name__)


class CountedLoader:
    """Delivers batches into one table; see ``Loader``."""

    def __init__(self, reader: StreamReader, target: CountedTarget, rejects: Rejects, parking: ParkedBatches) -> None:
        self._reader = reader
        self._target = target
        self._rejects = rejects
        self._parking = parking
        self._casting = Casting(target)

    def recover(self) -> None:
        self._target.connect()
        checkpoint = self._reader.checkpoint("plan")
        if checkpoint:
            self._close(checkpoint)
        else:
            drop(self._reader)
        self._rejects.resolve(self._reader.position)

    def deliver(self, batch: Batch) -> None:
        try:
            self._deliver(batch)
        except TableChangedError:
            self._deliver(batch)

    def reject(self, batch: Batch, reason: str) -> None:
        self._load(batch, batch.rows, (), dict.fromkeys(range(batch.num_rows), reason))

    def _close(self, checkpoint: Plan) -> None:
        rows_committed = not checkpoint["rows"] or self._target.rows_committed(checkpoint["plan"])
        if rows_committed is None:
            self._set_aside(checkpoint)
        elif rows_committed:
            acknowledge_plan(self._reader, checkpoint, self._rejects, self._parking)
        else:
            drop(self._reader)

    def _set_aside(self, checkpoint: Plan) -> None:
        """Rows of which nobody can tell whether they are in are neither loaded again nor forgotten."""
        entries = self._taken(checkpoint)
        if not entries:  # a user's own method made other rows of these, and is called again
            drop(self._reader)
            return
        batch = batch_of(entries, self._reader.position)
        said = (
            f"it is not known whether {checkpoint['rows']} rows of the last load are in the table: its answer "
            "was lost, and somebody else has changed the table meanwhile. They are set aside; look in the table, then "
            "put them again with api2db rejected retry, or drop them"
        )
        refused = {int(row): reason for row, reason in checkpoint.get("refused", {}).items()}
        logger.error("%s", said)
        self._reader.add_warning(said)
        self._load(batch, batch.rows, (), dict.fromkeys(range(batch.num_rows), said) | refused)

    def _taken(self, checkpoint: Plan) -> Sequence[Entry]:
        """What a load had; frames of no rows may end it, which a read of just its rows stops before."""
        end = Position(*checkpoint["end"])
        for more_rows in (0, 1):
            read = self._reader.read(ReadLimit(checkpoint["taken"] + more_rows, sys.maxsize), 0)
            entries = [entry for entry in read if entry.position <= end]
            rows = sum(entry.batch.num_rows for entry in entries)
            if entries and entries[-1].position == end and rows == checkpoint["taken"]:
                return entries
        return []

    def _deliver(self, batch: Batch) -> None:
        if not batch.num_rows:
            prepare_empty(self._target, batch)
            self._load(batch, batch.rows, (), {})
            return
        try:
            columns = self._target.prepare(batch.schema, origins_of(batch))
        except BatchRefusedError as error:
            reject_columns(self, batch, str(error))
            return
        if self._target.unplaced and (alike := batch.leading_alike()) is not batch:
            self._deliver(alike)
            return
        shaped = self._target.shape(batch.rows, columns)
        rows, columns, reasons = self._casting.cast(batch, shaped, columns)
        if rows.nbytes > self._target.largest_bytes and batch.num_rows > 1:
            raise TooLargeError(max(1, batch.num_rows * self._target.largest_bytes // rows.nbytes * 2 // 3))
        for row, reason in self._target.unsupported_rows(rows, columns).items():
            reasons.setdefault(row, reason)
        try:
            self._load(batch, rows, columns, reasons)
        except BatchRefusedError as error:
            self._refused(batch, error)

    def _refused(self, batch: Batch, error: BatchRefusedError) -> None:
        """No trial can be taken back here, so a smaller batch is taken, down to the row at fault."""
        if batch.num_rows > 1:
            raise TooManyRefusalsError from error
        self.reject(batch, str(error))

    def _load(self, batch: Batch, rows: pa.Table, columns: Sequence[Column], reasons: dict[int, str]) -> None:
        if reasons:
            self._rejects.set_aside(batch, reasons)
            rows = without(rows, reasons)
        plan = self._target.plan(rows.num_rows) if rows.num_rows else {}
        checkpoint = {**plan_checkpoint(batch, plan, rows.num_rows), "refused": reasons if rows.num_rows else {}}
        self._reader.save("plan", checkpoint)
        if rows.num_rows:
            self._target.load(rows, columns)
        acknowledge_plan(self._reader, checkpoint, self._rejects, self._parking)
