"""``make bench``: run all benchmarks, or those named: ``python -m benchmarks put flights latency memory``."""

import sys
import tempfile
from pathlib import Path

from benchmarks import flights, latency, memory, put
from benchmarks.figure import show

BENCHMARKS = {"put": put.measure, "flights": flights.measure, "latency": latency.measure, "memory": memory.measure}


def main(names: list[str]) -> None:
    """Run benchmarks in a folder of the disk that the current folder is on."""
    for name in names or list(BENCHMARKS):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
            for figure in BENCHMARKS[name](Path(folder)):
                show(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
