"""SQLite: rows are inserted by ``executemany`` of the standard library's driver, one writer at a time."""

from api2db.targets.sqlite._database import SqliteDatabase

__all__ = ["SqliteDatabase"]
