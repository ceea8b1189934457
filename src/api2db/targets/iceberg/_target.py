"""A table of Iceberg as a target."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress

from api2db.targets.iceberg._catalog import GuardedCatalog
from api2db.targets.iceberg._maintenance import expire, gather
from api2db.targets.iceberg._place import CatalogPlace, sorted_errors
from api2db.targets.iceberg._table import Table, create, opened
from api2db.targets.lake import LakeTarget
from api2db.targets.port import IfExists, OnConflict, SchemaRule
from api2db.targets.types import ICEBERG


class IcebergTarget(LakeTarget):
    """A table of Iceberg.

    Args:
        place: Where it is.

    The other arguments are those of ``LakeTarget``.
    """

    types = ICEBERG

    def __init__(
        self,
        place: CatalogPlace,
        if_exists: IfExists,
        schema: SchemaRule,
        keys: Sequence[str] = (),
        partition_by: Sequence[str] = (),
        on_conflict: OnConflict = "reject",
    ) -> None:
        super().__init__(place.name, if_exists, schema, keys, partition_by, on_conflict)
        self._place = place
        self._catalog: GuardedCatalog | None = None

    def close(self) -> None:
        super().close()
        catalog, self._catalog = self._catalog, None
        if catalog is not None:
            with suppress(Exception):
                catalog.close()

    def optimize(self) -> int:
        """Gather small files; return how many were replaced."""
        try:
            table = self._opened()
            with self._sorted_errors():
                return 0 if table is None else gather(table)
        finally:
            self.close()

    def expire(self, hours: int, *, dry_run: bool) -> list[str]:
        """Forget snapshots that are older than so many hours, and delete files that only they need; return these."""
        try:
            table = self._opened()
            with self._sorted_errors():
                return [] if table is None else expire(table, hours, dry_run=dry_run)
        finally:
            self.close()

    def _opened(self) -> Table | None:
        if self._place.file is not None and not self._place.file.exists():
            return None  # our own catalogue begins with the first table; whoever only reads makes none
        with self._sorted_errors():
            return opened(self._place, self._connected())

    def _created(self, columns: Sequence[tuple[str, str]]) -> Table:
        return create(self._place, self._connected(), columns, self._partition_by, self._stream)

    def _connected(self) -> GuardedCatalog:
        if self._catalog is None:
            self._catalog = GuardedCatalog(self._place)
        return self._catalog

    def _sorted_errors(self) -> AbstractContextManager[None]:
        return sorted_errors(self._place)
