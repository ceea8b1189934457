"""DuckDB: Arrow tables are scanned directly, in one transaction with the ledger.

``_database`` has the transactions and changes of tables. ``_file`` is the open file that all streams of a process share
and close between loads. The driver is an extra, and is imported when a file is first opened.
"""

from api2db.targets.duckdb._database import DuckdbDatabase, duckdb_engine

__all__ = ["DuckdbDatabase", "duckdb_engine"]
