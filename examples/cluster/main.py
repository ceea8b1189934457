"""Two counters into Parquet files. ``pin="*"`` says that all workers share the disk that has the files."""

from typing import Any

from api2db import Collector, Run, Stream2Local


def import_data(state: dict[str, Any]) -> list[dict[str, int]]:
    """Return the next ten numbers. The last one is stored together with the rows."""
    first = state.get("next", 0)
    state["next"] = first + 10
    return [{"number": number} for number in range(first, first + 10)]


collectors = [Collector(name, 0.5, import_data, [Stream2Local(name)], pin="*") for name in ("even", "odd")]

if __name__ == "__main__":
    Run(collectors).run()
