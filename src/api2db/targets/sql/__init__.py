"""What all SQL databases share: a table that follows the data, loaded in one transaction with the ledger.

``target`` is what delivery sees; a database's own package has what ``port`` asks for. ``table`` makes a table and has
it follow the data, ``changes`` keeps word of that, ``ledger`` says how far each stream has come, and ``merge`` replaces
rows by key. The databases take their common SQL from ``standard``; by ``encoding`` a value that has no form in a driver
is the data's fault. Those on a server take their connections from ``pool``.
"""

from api2db.targets.sql._ledger import CHANGES_TABLE, LEDGER_TABLE
from api2db.targets.sql._merge import key_is_there
from api2db.targets.sql._target import OVERFLOW_COLUMN, SqlTarget
from api2db.targets.sql.pool import MAX_CONNECTIONS
from api2db.targets.sql.port import Database, Session

__all__ = [
    "CHANGES_TABLE",
    "LEDGER_TABLE",
    "MAX_CONNECTIONS",
    "OVERFLOW_COLUMN",
    "Database",
    "Session",
    "SqlTarget",
    "key_is_there",
]
