"""``make bench``: run all benchmarks, or those named: ``python -m benchmarks put latency postgresql``."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import bigquery, compose, flights, latency, memory, omnisci, put, servers
from benchmarks.figure import Figure, show

BENCHMARKS: Mapping[str, Callable[[Path], Iterator[Figure]]] = {
    "put": put.measure,
    "flights": flights.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "compose": compose.measure,
    "postgresql": partial(servers.measure, "postgresql"),
    "mariadb": partial(servers.measure, "mariadb"),
    "mysql": partial(servers.measure, "mysql"),
    "omnisci": omnisci.measure,
    "bigquery": bigquery.measure,
}


def main(names: list[str]) -> None:
    """Run benchmarks in a folder of the disk that the current folder is on."""
    for name in names or list(BENCHMARKS):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
            for figure in BENCHMARKS[name](Path(folder)):
                show(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
