"""Tables of Iceberg, on a disk or an object store, in any catalogue.

Each batch is one commit: new files, and a new version of the table's metadata, to which the catalogue moves its pointer
by compare-and-set. The ledger of a stream is in the same commit: in the summary of its snapshot, and as a property of
the table, which remains when the snapshot expires. A commit requires that the table's newest snapshot is the one on
which it was prepared, so it fails if any other has been committed meanwhile; then the ledger is read again before the
commit is prepared again. The library would repeat an append by itself, whoever else has written, so ``_catalog`` takes
that from it. ``_table`` is the table with its schema, ``_merge`` finds the files that a load by key replaces,
``_files`` flushes files to the disk, ``_executor`` lets the library work until a process has ended, ``_maintenance``
gathers small files and forgets old snapshots, ``_place`` says where the table is, and ``_target`` is what delivery
sees.
"""

from api2db.targets.iceberg._place import CatalogPlace
from api2db.targets.iceberg._target import IcebergTarget

__all__ = ["CatalogPlace", "IcebergTarget"]
