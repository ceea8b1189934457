"""Readings into small Parquet files, composed into partitions by day."""

from datetime import UTC, datetime, timedelta
from typing import Any

from api2db import Collector, Run, Store2Local, Stream2Local

BEGIN = datetime(2026, 1, 30, 20, tzinfo=UTC)
ROWS = 500


def import_data(state: dict[str, Any]) -> list[dict[str, object]]:
    """Return the next 500 minutes of a meter; a recorded one, which is always a step ahead."""
    first = state.get("next", 0)
    state["next"] = first + ROWS
    return [
        {"at": BEGIN + timedelta(minutes=minute), "kwh": round(0.25 + minute % 60 / 100, 2)}
        for minute in range(first, first + ROWS)
    ]


collectors = [
    Collector(
        "readings",
        seconds=5,
        import_target=import_data,
        streams=[Stream2Local("readings")],
        stores=[Store2Local("readings", seconds=60, move_composed_path="lake", partition_by="at")],
    )
]

if __name__ == "__main__":
    Run(collectors).run()
