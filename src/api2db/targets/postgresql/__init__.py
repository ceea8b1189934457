"""PostgreSQL: Arrow rows are encoded for binary COPY and sent on a kept connection, in one transaction with the ledger.

``_database`` opens connections and translates errors, ``_session`` is one transaction: it reads a table's columns,
inserts rows, or stages them for a merge. ``_connection`` adds timeouts to psycopg's connection, ``_replacing`` gives a
table the newest frame's columns, ``_dialect`` has the SQL and the error codes, and ``_values`` encodes with pgpq.
psycopg and pgpq are an extra, and are imported when a server is first reached.
"""

from api2db.targets.postgresql._connection import postgresql_arguments
from api2db.targets.postgresql._database import PostgresqlDatabase
from api2db.targets.postgresql._dialect import check_column_name, is_refused, quote

__all__ = ["PostgresqlDatabase", "check_column_name", "is_refused", "postgresql_arguments", "quote"]
