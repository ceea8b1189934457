"""The library's transaction, without copies of the table's metadata at each look at it."""

from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate, update_table_metadata


class FrugalTransaction(Transaction):
    """A transaction of the library.

    Its metadata names all snapshots that there are, and the library copies them a dozen times for each commit.
    """

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self._seen: tuple[tuple[TableUpdate, ...], TableMetadata] = (), table.metadata

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with the updates so far; nobody changes it."""
        if self._seen[0] is not self._updates:
            self._seen = self._updates, update_table_metadata(self._table.metadata, self._updates)
        return self._seen[1]
