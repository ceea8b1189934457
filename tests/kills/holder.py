"""A process that holds a database file: python -m tests.kills.holder DIALECT FILE; it lets go when its input ends."""

import sqlite3
import sys
import time

import duckdb


def main(dialect: str, file: str) -> None:
    if dialect == "duckdb":
        connection = _connect(file, time.monotonic() + 10)
    else:
        sqlite = sqlite3.connect(file, isolation_level=None)
        sqlite.execute("BEGIN EXCLUSIVE")
    print("held", flush=True)
    sys.stdin.read()
    (connection if dialect == "duckdb" else sqlite).close()


def _connect(file: str, deadline: float) -> duckdb.DuckDBPyConnection:
    """As soon as its owner lets it go."""
    while True:
        try:
            return duckdb.connect(file)
        except duckdb.IOException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
