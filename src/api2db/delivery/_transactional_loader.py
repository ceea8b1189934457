"""The loader for targets with transactions: only the ledger says which rows are committed.

Batch boundaries change after a restart, so they prove nothing. After each connect and each error the loader reads the
ledger under a lock, and delivery continues after the position there.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import pyarrow as pa

from api2db.delivery._casting import last_of_each_key, without
from api2db.delivery._loader import TableLoader, acknowledge
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._refusals import SMALL_ROWS, TooManyRefusalsError, find_refused
from api2db.delivery._rejected import Rejects
from api2db.delivery.batch import Batch
from api2db.errors import BatchRefusedError, ForeignLedgerError, TableChangedError, TargetUnavailableError
from api2db.journal import CheckpointKind, Delivered, Position, StreamReader
from api2db.targets.port import BegunLoad, Column, LedgerRow, LedgerTarget, LedgerUpdate

logger = logging.getLogger(__name__)
_TRIALS = 200
# How many entries of other schemas are tried with the first batch, and how many times more or fewer with the next one.
_FIRST_MIXED = 64
_STEP_MIXED = 4


class TransactionalLoader(TableLoader):
    """Delivers batches into one target; see ``Loader``."""

    def __init__(self, reader: StreamReader, target: LedgerTarget, rejects: Rejects, parking: ParkedBatches) -> None:
        super().__init__(target)
        self._reader = reader
        self._target = target
        self._rejects = rejects
        self._parking = parking
        self._ledger: LedgerRow | None = None
        self._adopting = False
        self._most_mixed = _FIRST_MIXED
        self._loaded: tuple[pa.Schema, Sequence[Column]] | None = None

    def recover(self) -> int:
        self._target.connect()
        self._ledger = row = self._target.read_position(self._reader.key)
        self._adopting = row is not None and not self._reader.knows_epoch(row.epoch)
        if self._adopting:
            self._check_adopted()
        else:
            self._compare(Position(0) if row is None else Position(row.sequence, row.skip))
        self._pass(self._reader.position, Delivered())
        if row is not None and self._target.columns() is None:
            logger.warning("the table is gone, though rows were delivered into it; it is created again")
        return 0

    @property
    def can_begin(self) -> bool:
        return self._target.can_begin

    def begin(self, batch: Batch) -> BegunLoad | None:
        """See ``Loader``. A batch is begun if it is like the one before it, and needs no change of the table."""
        if self._loaded is None or batch.retried or batch.refused or not batch.num_rows:
            return None
        schema, columns = self._loaded
        if not batch.schema.equals(schema) or any(column.fills for column in columns):
            return None
        rows = self._casting.cast_ahead(batch, columns)
        return None if rows is None else self._target.begin(rows, columns)

    def deliver(self, batch: Batch) -> Batch:
        if batch.begun is None:
            return super().deliver(batch)
        try:
            self._load(batch, batch.begun.rows, batch.begun.columns, {})
        except (BatchRefusedError, TableChangedError):  # nothing was loaded
            return super().deliver(replace(batch, begun=None))
        return batch

    def _load_prepared(self, batch: Batch, columns: Sequence[Column]) -> Batch:
        batch = self._filled_alike(batch, columns)
        rows, columns, reasons = self._casting.cast(batch, batch.rows, columns)
        self._loaded = batch.schema, columns
        if batch.rest and not (reasons or batch.retried) and (mixed := self._load_mixed(batch, columns)):
            return mixed
        try:
            self._load(batch, rows, columns, reasons)
        except BatchRefusedError as error:
            reasons = self._find_refused(batch, rows, columns, reasons, error)
            self._load_rest(batch, rows, columns, reasons)
        return batch

    def reject(self, batch: Batch, reason: str) -> None:
        self._load_rest(batch, batch.rows, (), dict.fromkeys(range(batch.num_rows), reason))

    def _load_mixed(self, batch: Batch, columns: Sequence[Column]) -> Batch | None:
        """Load a batch and entries of its ``rest`` in one transaction; None if one of their rows is at fault.

        Fewer entries are tried after that: what is tried in vain delays each batch before the row.
        """
        rest = list(takewhile(lambda entry: not (entry.retried or entry.refused), batch.rest[: self._most_mixed]))
        if not rest:
            return None
        self._most_mixed = max(1, len(rest) // _STEP_MIXED)
        mixed = replace(batch, entries=[*batch.entries, *rest], rest=())
        rows = self._casting.cast_mixed(mixed, columns)
        if rows is None:
            return None
        try:
            self._load(mixed, rows, columns, {})
        except BatchRefusedError:
            return None
        self._most_mixed = max(_FIRST_MIXED, len(rest) * _STEP_MIXED)
        return mixed

    def _filled_alike(self, batch: Batch, columns: Sequence[Column]) -> Batch:
        """The leading frames that lack the same columns with defaults, which the table fills."""
        filled = {self._target.fold(column.name) for column in columns if column.fills}
        own = {name for name in batch.schema.names if self._target.fold(name) in filled} if filled else set()
        return batch.leading_with_same_of(own) if own else batch

    def _load(self, batch: Batch, rows: pa.Table, columns: Sequence[Column], reasons: dict[int, str]) -> None:
        if reasons:
            self._rejects.set_aside(batch, reasons)
            rows = without(rows, reasons)
        loaded = self._last_of_each_key(rows)
        after = LedgerRow(self._reader.epoch, *batch.end)
        update = LedgerUpdate(self._reader.key, self._ledger, after, loaded.num_rows, only_new=batch.retried)
        if batch.begun is None or not batch.begun.commit(update):
            self._target.load(loaded if loaded.num_rows else loaded.select([]), columns, update)
        self._ledger = after
        delivered = Delivered(
            frames=batch.frames,
            rows=loaded.num_rows,
            superseded=batch.superseded.rows,
            duplicates=rows.num_rows - loaded.num_rows,
        )
        self._pass(batch.end, delivered)

    def _load_rest(self, batch: Batch, rows: pa.Table, columns: Sequence[Column], reasons: dict[int, str]) -> None:
        """Load without the rows at fault; if that is refused too, raise so that smaller batches follow, or a retry."""
        try:
            self._load(batch, rows, columns, reasons)
        except BatchRefusedError as error:
            if len(reasons) == batch.num_rows:
                raise TargetUnavailableError(f"the ledger can't be updated: {error}") from error
            if not self._target.replaces_table:
                raise TooManyRefusalsError from error
            self.reject(batch, str(error))

    def _last_of_each_key(self, rows: pa.Table) -> pa.Table:
        return last_of_each_key(rows, self._target.keys) if self._target.keys and rows.num_rows else rows

    def _find_refused(
        self, batch: Batch, rows: pa.Table, columns: Sequence[Column], reasons: dict[int, str], error: BatchRefusedError
    ) -> dict[int, str]:
        def refusal_of(chosen: list[int]) -> BatchRefusedError | None:
            try:
                self._target.dry_run(self._last_of_each_key(rows.take(chosen)), columns, only_new=batch.retried)
            except BatchRefusedError as refusal:
                return refusal
            return None

        left = [row for row in range(batch.num_rows) if row not in reasons]
        is_small = self._target.replaces_table or batch.num_rows <= SMALL_ROWS
        try:
            return {**reasons, **find_refused(left, refusal_of, error, None if is_small else _TRIALS)}
        except TooManyRefusalsError:
            if not self._target.replaces_table:
                raise
            return {**dict.fromkeys(left, str(error)), **reasons}

    def _check_adopted(self) -> None:
        if self._reader.checkpoint("adopt") is None:
            raise ForeignLedgerError(
                "the target's ledger was last written under an epoch that this journal never had: a copy of this "
                "project delivers there too, or the journal was restored from a backup. Stop the other one, look at "
                "the target, then let this one continue with: api2db adopt"
            )
        logger.warning("this stream adopts the target's ledger, which a copy of this project has written")

    def _compare(self, reached: Position) -> None:
        """Adopt the ledger's position; if it is behind, warn that rows are missing in the target."""
        if reached > self._reader.position:
            self._catch_up(reached)
        elif reached < self._reader.position and (reached.sequence or self._reader.delivered.rows):
            self._report_gap(reached)

    def _catch_up(self, reached: Position) -> None:
        """Acknowledge what was committed before the last stop and not acknowledged then."""
        passed = self._reader.seek(reached)
        self._reader.acknowledge(reached, Delivered(frames=passed.frames, rows=passed.rows))

    def _report_gap(self, reached: Position) -> None:
        message = (
            f"the target's ledger is at {tuple(reached)}, but everything up to {tuple(self._reader.position)} was "
            "delivered: the target was restored to an earlier state or its ledger was dropped, and the rows "
            "between are missing there; delivery continues after them"
        )
        logger.error("%s", message)
        self._reader.add_warning(message)

    def _pass(self, reached: Position, delivered: Delivered) -> None:
        """Acknowledge, and clear the request to adopt a ledger once an epoch of this journal is in it."""
        is_adopted = self._adopting and self._ledger is not None and self._ledger.epoch == self._reader.epoch
        clear: list[CheckpointKind] = ["adopt"] if is_adopted else []
        acknowledge(self._reader, self._rejects, self._parking, reached, delivered, clear=clear)
        self._adopting = self._adopting and not is_adopted
