"""The last price of each symbol, once a second, while main.py runs."""

import sys
import time

import duckdb

QUERY = """
    SELECT symbol, arg_max(price, number) AS price, min(price) AS low, max(price) AS high, count(*) AS trades
    FROM trades GROUP BY symbol ORDER BY symbol
"""


def prices() -> str:
    """Return a table. Another program has the file for a moment at each load: try until it is free."""
    while True:
        try:
            with duckdb.connect("ticker.duckdb", read_only=True) as database:
                return str(database.sql(QUERY))
        except duckdb.IOException:
            time.sleep(0.02)  # no call waits until the other program lets go of the file


if __name__ == "__main__":
    print(prices())
    while "--once" not in sys.argv:
        time.sleep(1)  # once a second is often enough for a reader
        print(prices())
