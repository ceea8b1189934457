"""What all SQL databases share: a table that follows the data, loaded in one transaction with the ledger.

``_target`` is what delivery sees; a database's own package implements ``port``. ``_table`` creates the table and makes
it follow the data, ``_ledger`` stores the position of each stream, and ``_merge`` replaces rows by key. Databases on a
server take their connections from ``pool``.
"""

from api2db.targets.sql._ledger import CHANGES_TABLE, LEDGER_TABLE, NOTES_TABLE
from api2db.targets.sql._merge import key_is_there
from api2db.targets.sql._target import OVERFLOW_COLUMN, SqlTarget
from api2db.targets.sql.pool import MAX_CONNECTIONS
from api2db.targets.sql.port import Database, Session

__all__ = [
    "CHANGES_TABLE",
    "LEDGER_TABLE",
    "MAX_CONNECTIONS",
    "NOTES_TABLE",
    "OVERFLOW_COLUMN",
    "Database",
    "Session",
    "SqlTarget",
    "key_is_there",
]
