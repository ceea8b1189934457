"""The table of types: the column type of each value in each target, and how the target's own client reads it back.

``_kinds`` lists what frames may hold. A module for each target has its rules, collected in one ``Types``. The targets,
the page docs/types.md and the conformance suite all use this table. Nothing here does I/O.
"""

from api2db.targets.types._bigquery import BIGQUERY, BIGQUERY_DURATION, from_bigquery
from api2db.targets.types._delta import DELTA, from_delta
from api2db.targets.types._duckdb import DUCKDB, from_duckdb
from api2db.targets.types._files import CSV, JSON_FILE, PARQUET, PICKLE
from api2db.targets.types._heavydb import HEAVYDB, from_heavydb
from api2db.targets.types._iceberg import ICEBERG, from_iceberg
from api2db.targets.types._kinds import KINDS, ValueKind
from api2db.targets.types._microsoft_sql import MICROSOFT_SQL, from_microsoft_sql
from api2db.targets.types._mysql import MARIADB, MYSQL, from_mysql, mysql_name
from api2db.targets.types._oracle import ORACLE, from_oracle
from api2db.targets.types._postgresql import POSTGRESQL, from_postgresql
from api2db.targets.types._rules import Types, ValueLimit, in_words
from api2db.targets.types._sqlalchemy import (
    SQLALCHEMY,
    YEARS,
    arrow_type,
    noted_type,
    split_note,
    sqlalchemy_types,
    with_note,
)
from api2db.targets.types._sqlite import SQLITE, from_sqlite

__all__ = [
    "BIGQUERY",
    "BIGQUERY_DURATION",
    "CSV",
    "DELTA",
    "DUCKDB",
    "HEAVYDB",
    "ICEBERG",
    "JSON_FILE",
    "KINDS",
    "MARIADB",
    "MICROSOFT_SQL",
    "MYSQL",
    "ORACLE",
    "PARQUET",
    "PICKLE",
    "POSTGRESQL",
    "SQLALCHEMY",
    "SQLITE",
    "TARGETS",
    "YEARS",
    "Types",
    "ValueKind",
    "ValueLimit",
    "arrow_type",
    "from_bigquery",
    "from_delta",
    "from_duckdb",
    "from_heavydb",
    "from_iceberg",
    "from_microsoft_sql",
    "from_mysql",
    "from_oracle",
    "from_postgresql",
    "from_sqlite",
    "in_words",
    "mysql_name",
    "noted_type",
    "split_note",
    "sqlalchemy_types",
    "with_note",
]

TARGETS = (
    DUCKDB,
    SQLITE,
    POSTGRESQL,
    MYSQL,
    MARIADB,
    BIGQUERY,
    DELTA,
    ICEBERG,
    HEAVYDB,
    SQLALCHEMY,
    MICROSOFT_SQL,
    ORACLE,
    PARQUET,
    JSON_FILE,
    CSV,
    PICKLE,
)
