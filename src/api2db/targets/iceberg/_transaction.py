"""The library's transaction, without copies of the table's metadata at each look at it."""

from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSnapshotUpdate, TableUpdate, _apply_table_update, _TableMetadataUpdateContext


class FrugalTransaction(Transaction):
    """A transaction of the library.

    Its metadata names all snapshots that there are, and the library copies each of them a dozen times for each commit.
    """

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._seen: tuple[tuple[TableUpdate, ...], TableMetadata] = (), table.metadata

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with the updates so far; nobody changes it."""
        if self._seen[0] is not self._updates:
            self._seen = self._updates, _updated(self._table.metadata, self._updates)
        return self._seen[1]

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots that it adds."""
        return [update.snapshot for update in self._updates if isinstance(update, AddSnapshotUpdate)]


def _updated(metadata: TableMetadata, updates: tuple[TableUpdate, ...]) -> TableMetadata:
    """What the library's ``update_table_metadata`` returns, before it copies that."""
    context = _TableMetadataUpdateContext()
    for update in updates:
        metadata = _apply_table_update(update, metadata, context)
    metadata.spec().check_compatible(metadata.schema())
    metadata.sort_order().check_compatible(metadata.schema())
    return metadata
