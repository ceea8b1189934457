"""MySQL and MariaDB: rows as CSV from memory into LOAD DATA LOCAL, or by INSERT if the server forbids LOCAL.

``_database`` opens connections and translates errors, ``_session`` is one transaction: it inserts rows, or stages them
for a merge. ``_connection`` is PyMySQL's, made safe against its server. ``_catalogue`` reads a table's columns, engine
and indexes, ``_dialect`` has the names and the error codes, and ``_values`` writes CSV. PyMySQL is an extra, and is
imported when a server is first reached.
"""

from api2db.targets.mysql._connection import mysql_arguments
from api2db.targets.mysql._database import MysqlDatabase
from api2db.targets.mysql._dialect import check_column_name, fold, is_refused, quote
from api2db.targets.mysql._values import plain_values

__all__ = [
    "MysqlDatabase",
    "check_column_name",
    "fold",
    "is_refused",
    "mysql_arguments",
    "plain_values",
    "quote",
]
