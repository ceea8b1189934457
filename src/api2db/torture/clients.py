"""Reads targets with the databases' own client libraries: DuckDB's, SQLite's, psycopg, PyMySQL, and pyarrow for files.

Rows come one after another, so that a target may have more of them than memory.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from api2db.torture.checker import Row

_AT_ONCE: Final = 10_000


def in_duckdb(path: Path, table: str) -> Iterator[Row]:
    """Yield the rows of a table in the order in which they were added."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        yield from _fetched(connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid'))  # noqa: S608 - our own name


def in_sqlite(path: Path, table: str) -> Iterator[Row]:
    """Yield the rows of a table in the order in which they were added."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield from _fetched(connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid'))  # noqa: S608 - our own name


def in_postgresql(connection: Any, table: str, order: str) -> Iterator[Row]:
    """Yield the rows of a table, sorted by a column; psycopg's connection must not commit by itself."""
    with connection.cursor(name="api2db_torture") as cursor:
        cursor.itersize = _AT_ONCE
        yield from _fetched(cursor.execute(f'SELECT * FROM "{table}" ORDER BY "{order}"'))  # noqa: S608 - our own names


def in_mysql(connection: Any, table: str, order: str) -> Iterator[Row]:
    """Yield the rows of a table of MySQL or MariaDB, sorted by a column."""
    from pymysql.cursors import SSCursor

    with connection.cursor(SSCursor) as cursor:
        cursor.execute(f"SELECT * FROM `{table}` ORDER BY `{order}`")  # noqa: S608 - our own names
        yield from _fetched(cursor)


def in_shards(*folders: Path) -> Iterator[Row]:
    """Yield the rows of all Parquet shards in folders, at any depth, in the order of the shards' names."""
    shards = [path for folder in folders for path in folder.rglob("[0-9]*.parquet")]
    for path in sorted(shards, key=lambda path: int(path.stem)):
        yield from in_file(path)


def in_file(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    yield from pq.ParquetFile(path).read().to_pylist()


def _fetched(cursor: Any) -> Iterator[Row]:
    names = [column[0] for column in cursor.description or ()]
    while rows := cursor.fetchmany(_AT_ONCE):
        for values in rows:
            yield dict(zip(names, values, strict=True))
