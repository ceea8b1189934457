"""Any database whose dialect of SQLAlchemy has transactions: rows by ``executemany``, in the ledger's transaction.

``_database`` opens connections, translates errors and alters tables, ``_session`` is one transaction: it reads a
table's columns, inserts rows, or stages them for a merge. ``backend`` describes what differs between databases:
``_known`` has those with types of their own, ``_vendors`` SQL Server and Oracle, and ``_other`` is for all others,
whose promises are tried out first.
"""

from api2db.targets.sqlalchemy._address import Address, parsed_url
from api2db.targets.sqlalchemy._database import EXPERIMENTAL, KNOWN, SqlalchemyDatabase

__all__ = ["EXPERIMENTAL", "KNOWN", "Address", "SqlalchemyDatabase", "parsed_url"]
