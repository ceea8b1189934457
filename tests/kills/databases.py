"""What other clients do to a database."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb


def change(dialect: str, file: Path, *statements: str) -> None:
    """What another client does to a database, by its own driver."""
    file.parent.mkdir(parents=True, exist_ok=True)
    connection: Any = duckdb.connect(str(file)) if dialect == "duckdb" else sqlite3.connect(file)
    try:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


@contextmanager
def held_here(file: Path) -> Iterator[None]:
    """Another connection has a SQLite file for itself."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()
