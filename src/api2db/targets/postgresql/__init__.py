"""PostgreSQL: Arrow rows are encoded for binary COPY and sent on a kept connection, in one transaction with the ledger.

``database`` is what ``SqlTarget`` asks of a database, ``session`` one transaction: rows get in, or are staged for a
merge. ``connection`` is psycopg's. ``catalogue`` reads what there is of a table, ``names`` quotes, ``values`` encodes
with pgpq, ``casts`` has the types that COPY takes only by a cast, and ``errors`` says what the server's codes mean.
psycopg and pgpq, an extra, are imported when a server is first reached.
"""

from api2db.targets.postgresql._connection import postgresql_arguments
from api2db.targets.postgresql._database import PostgresqlDatabase

__all__ = ["PostgresqlDatabase", "postgresql_arguments"]
