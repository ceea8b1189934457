"""How fast a collector polls lists of a thousand dicts with nested fields, up to the journal."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from api2db import Collector, Stream2Sql
from api2db.ingest import Runner
from benchmarks.figure import Figure, medians_of

_RUNS = 5
_PAGES = 100
_ROWS = 1_000


def measure(folder: Path) -> Iterator[Figure]:
    """Rows a second until they are in the journal; the floor is pyarrow making tables of the same lists."""
    pages = [page(number) for number in range(_PAGES)]
    floor_s, took_s = medians_of(_RUNS, partial(beside_floor, folder, pages))
    rows = _PAGES * _ROWS
    yield Figure("poll, nested dicts into the journal", rows / took_s, "rows/s", floor=rows / floor_s)
    yield Figure("  the same without the floor", rows / took_s, "rows/s", aim=150_000)


def page(number: int) -> list[dict[str, Any]]:
    """A thousand rows as an API of orders has them: eight plain fields, a dict, and a list of dicts."""
    return [_row(number * _ROWS + row) for row in range(_ROWS)]


def _row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "status": "open" if number % 3 else "closed",
        "created_at": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T{number % 24:02}:{number % 60:02}:00Z",
        "total": number / 8,
        "currency": "EUR",
        "is_paid": number % 7 != 0,
        "note": None if number % 5 else f"Please ring twice at door {number % 97}",
        "items_count": number % 40,
        "customer": {"id": number % 5000, "name": f"customer {number % 5000}", "tags": ["new", "web"]},
        "items": [{"sku": f"A-{number % 900}", "quantity": 1 + number % 3}, {"sku": "B-7", "quantity": 1}],
    }


def beside_floor(folder: Path, pages: Sequence[list[dict[str, Any]]], run: int) -> tuple[float, float]:
    """Return how long pyarrow takes to make tables of lists, and a collector to poll them, seconds."""
    began_s = time.perf_counter()
    for rows in pages:
        pa.Table.from_pylist(rows)
    floor_s = time.perf_counter() - began_s
    stream = Stream2Sql("orders", "orders.duckdb", "duckdb", home=folder / str(run), durability="process")
    runner = Runner(Collector("orders", 3600, lambda: iter(pages), [stream]))
    runner.start(polling=False)
    began_s = time.perf_counter()
    runner.poll_once()
    took_s = time.perf_counter() - began_s
    runner.stop(60)
    return floor_s, took_s
