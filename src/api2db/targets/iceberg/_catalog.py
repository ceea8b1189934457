"""A catalogue whose commits fail at any conflict, so that only api2db decides what follows."""

from typing import Any

from api2db.disk.atomic import FILE_MODE, make_folders, sync_folder
from api2db.targets.iceberg._executor import make_executor_last
from api2db.targets.iceberg._place import CatalogPlace, library


class CommitConflictError(Exception):
    """Something else was committed to the table meanwhile; nothing of ours was, unless the table says otherwise."""


class GuardedCatalog:
    """A catalogue of the library, for its tables.

    The library repeats a commit that has met a conflict, against the newest snapshot, without a look at the ledger
    there. Here a conflict is raised as an error that it does not know.

    Args:
        place: Where the catalogue is.
    """

    def __init__(self, place: CatalogPlace) -> None:
        self._place = place
        if place.file is not None:
            make_folders(place.file.parent)
            place.file.touch(FILE_MODE)
        make_executor_last()
        options = dict(place.options)
        self._catalog = library("catalog").load_catalog(options.pop("name", "default"), **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def load_table(self, identifier: Any) -> Any:
        """Load the newest version of a table, whose commits go through this catalogue."""
        table = self._catalog.load_table(identifier)
        table.catalog = self
        return table

    def create_table(self, identifier: Any, *arguments: Any, **options: Any) -> Any:
        """Create a table, whose commits go through this catalogue; it fails if there is one."""
        table = self._catalog.create_table(identifier, *arguments, **options)
        self.flush()
        table.catalog = self
        return table

    def commit_table(self, table: Any, requirements: Any, updates: Any) -> Any:
        """Commit.

        Raises:
            CommitConflictError: A requirement is not met.
            RuntimeError: A new snapshot would not require the one before it.
        """
        update = library("table.update")
        if any(isinstance(each, update.AddSnapshotUpdate) for each in updates):
            if not any(isinstance(each, update.AssertRefSnapshotId) for each in requirements):
                raise RuntimeError("a commit of rows must require the snapshot that it follows")
            alike = [
                update.AssertCurrentSchemaId(current_schema_id=table.metadata.current_schema_id),
                update.AssertDefaultSpecId(default_spec_id=table.metadata.default_spec_id),
            ]
            known = {type(each) for each in requirements}
            requirements = (*requirements, *(each for each in alike if type(each) not in known))
        # A column is removed because it had no values, which a commit that came first may have changed.
        if any(isinstance(each, (update.RemoveSnapshotsUpdate, update.AddSchemaUpdate)) for each in updates):
            newest = update.AssertRefSnapshotId(ref="main", snapshot_id=table.metadata.current_snapshot_id)
            requirements = (*requirements, newest)
        try:
            answer = self._catalog.commit_table(table, requirements, updates)
        except library("exceptions").CommitFailedException as error:
            raise CommitConflictError(str(error)) from None
        self.flush()
        return answer

    def flush(self) -> None:
        """Flush the folder of our own catalogue: SQLite leaves the removal of its journal, so the commit, unflushed."""
        if self._place.file is not None:
            sync_folder(self._place.file.parent)

    def close(self) -> None:
        """Release its connections."""
        self._catalog.close()
