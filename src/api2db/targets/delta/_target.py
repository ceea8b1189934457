"""A table of Delta Lake as a target."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from api2db.errors import TargetUnavailableError
from api2db.targets.delta import _ledger
from api2db.targets.delta._location import TableLocation, sorted_errors
from api2db.targets.delta._table import EXPIRY, Table, create, opened
from api2db.targets.lake import LakeTable, LakeTarget
from api2db.targets.port import IfExists, OnConflict, SchemaRule
from api2db.targets.types import DELTA


class DeltaTarget(LakeTarget):
    """A table of Delta Lake.

    Args:
        place: Where it is.

    The other arguments are those of ``LakeTarget``.
    """

    types = DELTA

    def __init__(
        self,
        place: TableLocation,
        if_exists: IfExists,
        schema: SchemaRule,
        keys: Sequence[str] = (),
        partition_by: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
    ) -> None:
        super().__init__(place.name, if_exists, schema, keys, partition_by, on_conflict)
        self._place = place

    def optimize(self) -> int:
        """Gather small files; return how many were replaced."""
        table = opened(self._place)
        with self._sorted_errors():
            return 0 if table is None else table.optimize()

    def vacuum(self, hours: int | None, *, dry_run: bool) -> list[str]:
        """Delete files that no version has needed for so many hours; return them."""
        table = opened(self._place)
        with self._sorted_errors():
            return [] if table is None else table.vacuum(hours, dry_run=dry_run)

    def _opened(self) -> Table | None:
        table = opened(self._place)
        if table is not None and table.forgets_ledgers:
            raise TargetUnavailableError(
                f"{self._place.name} has the property {EXPIRY}, by which Delta Lake drops the position of this stream, "
                "so that rows could be loaded twice; remove the property"
            )
        return table

    def _created(self, columns: Sequence[tuple[str, str]]) -> LakeTable:
        signed = {_ledger.maker(self._stream): 1} if self._stream else {}
        return create(self._place, columns, self._partition_by, signed)

    def _sorted_errors(self) -> AbstractContextManager[None]:
        return sorted_errors(self._place)
