"""A process that holds a database file: python -m tests.kills.holder DIALECT FILE; it lets go when its input ends."""

import sqlite3
import sys
import time
from typing import Any

import duckdb

from api2db.torture.fork_server import say


def main(dialect: str, file: str) -> None:
    connection = {"duckdb": _duckdb, "sqlite": _sqlite}[dialect](file)
    say("held")
    sys.stdin.read()
    connection.close()


def _sqlite(file: str) -> Any:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def _duckdb(file: str) -> Any:
    """As soon as its owner lets it go."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return duckdb.connect(file)
        except duckdb.IOException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
