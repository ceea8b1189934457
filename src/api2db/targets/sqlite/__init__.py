"""SQLite: rows by ``executemany`` of the standard library's driver, one writer at a time.

``database`` is what ``SqlTarget`` asks of a database, and its session; ``values`` makes of columns what SQLite stores.
"""

from api2db.targets.sqlite._database import SqliteDatabase

__all__ = ["SqliteDatabase"]
