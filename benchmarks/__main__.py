"""``make bench``: run all benchmarks, or those named: ``python -m benchmarks put latency postgresql``."""

import os
import sys
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import (
    backlog,
    bigquery,
    cluster,
    collectors,
    compose,
    flights,
    freshness,
    general,
    lakes,
    latency,
    memory,
    omnisci,
    pages,
    peers,
    poll,
    put,
    quick,
    rest,
    results,
    servers,
    ticks,
    upsert,
)
from benchmarks.figure import Figure, show

Measure = Callable[[Path], Iterator[Figure]]
BENCHMARKS: Mapping[str, Measure] = {
    "put": put.measure,
    "flights": flights.measure,
    "ticks": ticks.measure,
    "poll": poll.measure,
    "latency": latency.measure,
    "freshness": freshness.measure,
    "memory": memory.measure,
    "backlog": backlog.measure,
    "compose": compose.measure,
    "collectors": collectors.measure,
    "rest": rest.measure,
    "pages": pages.measure,
    "postgresql": partial(servers.measure, "postgresql"),
    "mariadb": partial(servers.measure, "mariadb"),
    "mysql": partial(servers.measure, "mysql"),
    "upsert": upsert.measure,
    "general": general.measure,
    "delta": partial(lakes.measure, "delta"),
    "iceberg": partial(lakes.measure, "iceberg"),
    "peers": peers.measure,
    "omnisci": omnisci.measure,
    "bigquery": bigquery.measure,
    "cluster": cluster.measure,
    "quick": quick.measure,
}
VARIABLES: Mapping[str, str] = {
    "API2DB_BENCH_COLLECTORS": 'how many collectors: "100 500"',
    "API2DB_BENCH_LARGE_SHARDS": "how many shards of 1,000,000 rows compose takes: 20; 100 take 5 GB of memory",
}


def main(arguments: Sequence[str]) -> None:
    """Run benchmarks in a folder of the disk that the current folder is on."""
    parser = _parser()
    given = parser.parse_args(arguments)
    names = given.names or [name for name in BENCHMARKS if name != "quick"]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in names:
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
            figures = list(_shown(BENCHMARKS[name](Path(folder))))
        if given.record:
            results.write(name, figures, load)
        elif name == "quick" and (fell := quick.fallen(figures, results.read().get("quick"))):
            raise SystemExit("\n".join(["fell by more than a fifth:", *fell]))


def _shown(figures: Iterator[Figure]) -> Iterator[Figure]:
    for figure in figures:
        show(figure)
        yield figure


def _parser() -> ArgumentParser:
    listed = {"benchmarks": {name: _about(measure) for name, measure in BENCHMARKS.items()}, "environment": VARIABLES}
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measure api2db, each number as a ratio to a floor of the same run.",
        epilog="\n\n".join(_table(title, lines) for title, lines in listed.items()),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help="what to measure; all by default")
    parser.add_argument("--record", action="store_true", help="record the figures in benchmarks/results.json")
    return parser


def _about(measure: Measure) -> str:
    module = getattr(measure, "func", measure).__module__
    return str(sys.modules[module].__doc__).splitlines()[0]


def _table(title: str, lines: Mapping[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join([f"{title}:", *(f"  {name:<{width}}  {about}" for name, about in lines.items())])


if __name__ == "__main__":
    main(sys.argv[1:])
