"""Trades into DuckDB, four polls a second."""

from typing import Any

import exchange

from api2db import Collector, Run, Stream2Sql


def import_data(state: dict[str, Any]) -> list[dict[str, object]]:
    """Return the trades since the last poll."""
    trades = exchange.trades_after(state.get("last", 0))
    if trades:
        state["last"] = trades[-1]["number"]
    return trades


table = Stream2Sql("trades", db_name="ticker.duckdb", dialect="duckdb")
collectors = [Collector("trades", seconds=0.25, import_target=import_data, streams=[table])]

if __name__ == "__main__":
    Run(collectors).run()
