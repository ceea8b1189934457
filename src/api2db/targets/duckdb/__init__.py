"""DuckDB: Arrow tables are scanned as they are, in one transaction with the ledger.

``database`` is what ``SqlTarget`` asks of a database, and its session. ``file`` is the one open file that all streams
of a process share and let go between loads. The driver, an extra, is imported when a file is first opened.
"""

from api2db.targets.duckdb._database import DuckdbDatabase, duckdb_engine

__all__ = ["DuckdbDatabase", "duckdb_engine"]
