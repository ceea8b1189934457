"""MySQL and MariaDB: rows as CSV from memory into LOAD DATA LOCAL, or by INSERT where the server forbids LOCAL.

``database`` is what ``SqlTarget`` asks of a database, ``session`` one transaction: rows get in, or are staged for a
merge. ``connection`` is PyMySQL's, made safe against its server. ``catalogue`` reads what there is of a table,
``names`` quotes, ``values`` writes CSV, and ``errors`` says what the server's codes mean. PyMySQL, an extra, is
imported when a server is first reached.
"""

from api2db.targets.mysql._connection import mysql_arguments
from api2db.targets.mysql._database import MysqlDatabase

__all__ = ["MysqlDatabase", "mysql_arguments"]
