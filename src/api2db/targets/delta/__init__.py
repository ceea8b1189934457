"""Tables of Delta Lake, on a disk or an object store.

Each batch is one commit of the table's log, which takes place as a whole or not at all. The ledger of a stream is in
the same commit: ``_ledger`` writes it as transaction identifiers, which Delta Lake has for this purpose. Compare and
set: of two commits that carry the same identifier, and were prepared on the same version of the table, the second one
fails. ``_table`` is the table with its schema, ``_values`` puts rows into the types that Delta Lake has, ``_location``
says where the table is, and ``_target`` is what delivery sees.
"""

from api2db.targets.delta._location import TableLocation
from api2db.targets.delta._target import DeltaTarget

__all__ = ["DeltaTarget", "TableLocation"]
