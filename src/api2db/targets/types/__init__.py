"""The one table of types: what each target makes of what stands in a frame, and how its own client gives it back.

``kinds`` lists what stands in frames; a module for each target has its rules, which end in one ``Types``. The targets
themselves, the page docs/types.md and the conformance suite all take what they need from there. Nothing here does I/O.
"""

from api2db.targets.types._bigquery import BIGQUERY, BIGQUERY_DURATION, from_bigquery
from api2db.targets.types._duckdb import DUCKDB, from_duckdb
from api2db.targets.types._files import CSV, JSON_FILE, PARQUET, PICKLE
from api2db.targets.types._heavydb import HEAVYDB, from_heavydb
from api2db.targets.types._kinds import KINDS, ValueKind
from api2db.targets.types._mysql import MARIADB, MYSQL, from_mysql, mysql_name
from api2db.targets.types._postgresql import POSTGRESQL, from_postgresql
from api2db.targets.types._rules import Types, ValueLimit, in_words, plain
from api2db.targets.types._sqlite import SQLITE, from_sqlite

__all__ = [
    "BIGQUERY",
    "BIGQUERY_DURATION",
    "CSV",
    "DUCKDB",
    "HEAVYDB",
    "JSON_FILE",
    "KINDS",
    "MARIADB",
    "MYSQL",
    "PARQUET",
    "PICKLE",
    "POSTGRESQL",
    "SQLITE",
    "TARGETS",
    "Types",
    "ValueKind",
    "ValueLimit",
    "bigquery_type",
    "duckdb_type",
    "from_bigquery",
    "from_duckdb",
    "from_heavydb",
    "from_mysql",
    "from_postgresql",
    "from_sqlite",
    "heavydb_type",
    "in_words",
    "mysql_name",
    "mysql_type",
    "plain",
    "postgresql_type",
    "sqlite_type",
]

TARGETS = (DUCKDB, SQLITE, POSTGRESQL, MYSQL, MARIADB, BIGQUERY, HEAVYDB, PARQUET, JSON_FILE, CSV, PICKLE)

bigquery_type = BIGQUERY.column
duckdb_type = DUCKDB.column
heavydb_type = HEAVYDB.column
mysql_type = MYSQL.column
postgresql_type = POSTGRESQL.column
sqlite_type = SQLITE.column
