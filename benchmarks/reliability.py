"""Tortures each target and records what is found in ``benchmarks/reliability.json``, for docs/reliability.md.

    python -m benchmarks.reliability [--share SHARE] [TARGET...]

The whole run has 1,000 kills, 1,000 lost COMMITs and 200 power cuts, and takes hours. A share, such as 0.01, injects
that share of each fault. Power cuts need root: they cut a file system of their own.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from api2db.torture.checker import Check
from api2db.torture.run import Outcome, Torture
from api2db.torture.scratch import Fault, scratch_in
from benchmarks.results import facts
from tests.kills.checker import set_aside
from tests.kills.fork_server import ForkServer
from tests.kills.homes import EMBEDDED, Home
from tests.kills.power import cut_and_look
from tests.servers.engines import Kind, find
from tests.servers.install import root_of_mysql
from tests.servers.server import Server, running_server

PATH: Final = Path(__file__).with_name("reliability.json")
SERVERS: Final[tuple[Kind, ...]] = ("postgresql", "mariadb", "mysql")
POWER_CUT: Final = "power-cut"
_PASSWORD: Final = "API2DB_TORTURE_PASSWORD"
_STREAM_TYPES: Final = {"duckdb": "sql.duckdb", "sqlite": "sql.sqlite", "shards": "local"}
_ON_DISK: Final[Mapping[Fault, int]] = {"kill": 167, "disk-full": 50}
_ON_SERVERS: Final[Mapping[Fault, int]] = {
    "kill": 167,
    "cut": 100,
    "lost-commit": 334,
    "server-kill": 50,
    "disk-full": 50,
}
PLAN: Final[Mapping[str, Mapping[Fault, int]]] = {
    **dict.fromkeys(EMBEDDED, _ON_DISK),
    **dict.fromkeys(SERVERS, _ON_SERVERS),
}
_POWER_CUTS: Final = 200
_SEED: Final = 19


class Recorded(NamedTuple):
    """What one fault did to one target.

    Attributes:
        rounds: How often the fault was injected.
        rows: As ``RowCounts`` has them.
    """

    target: str
    fault: str
    rounds: int
    rows: dict[str, int]
    held: bool
    seconds: float


class _Restarted(NamedTuple):
    """A server of the tests as a torture kills it."""

    server: Server

    def begin(self) -> None:
        """See ``Killable``."""

    def kill(self) -> None:
        """See ``Killable``."""
        self.server.kill()

    def start(self) -> None:
        """See ``Killable``."""
        self.server.start()

    def end(self) -> None:
        """See ``Killable``."""


def main(arguments: list[str] | None = None) -> int:
    """Run all that is asked for; return 0 if the promise held everywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="the share of the whole run")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join([*PLAN, POWER_CUT])}; all by default"
    )
    asked = parser.parse_args(arguments)
    held, said = True, facts()  # before there are folders that git does not know
    with tempfile.TemporaryDirectory(prefix="api2db-reliability-", dir=Path.cwd()) as folder:
        for recorded in _all(asked.targets or [*PLAN, POWER_CUT], asked.share, Path(folder)):
            held = held and recorded.held
            outcome = "held" if recorded.held else "NOT HELD"
            figures = f"{recorded.rounds:>5} rounds {recorded.rows['stored']:>11,} rows {recorded.seconds:>6.0f} s"
            print(f"{recorded.target:<12} {recorded.fault:<12} {figures}  {outcome}", flush=True)
            _write(recorded, said)
    return 0 if held else 1


def _all(targets: list[str], share: float, folder: Path) -> Iterator[Recorded]:
    for target in targets:
        if target == POWER_CUT:
            yield from _power_cuts(max(1, round(_POWER_CUTS * share)), folder)
            continue
        with _place_of(target) as (to, server):
            for fault, rounds in PLAN[target].items():
                yield _tortured(target, to, fault, max(1, round(rounds * share)), folder, server)


@contextmanager
def _place_of(target: str) -> Iterator[tuple[str, Server | None]]:
    if target not in SERVERS:
        yield target, None
        return
    engine = find(target, root_of_mysql())
    if engine is None:
        raise SystemExit(f"there is no {target} here; get it by: python -m tests.servers.install")
    with running_server(engine) as server:
        os.environ[_PASSWORD] = server.password
        yield f"{target}://{server.user}:${_PASSWORD}@{server.host}:{server.port}/{server.new_database()}", server


def _tortured(target: str, to: str, fault: Fault, rounds: int, folder: Path, server: Server | None) -> Recorded:
    home = folder / f"{target}-{fault}"
    scratch = scratch_in(to, home, os.environ)
    outcome: Outcome = Torture(
        scratch, home, [fault], rounds, _SEED, None if server is None else _Restarted(server)
    ).run()
    if not outcome.held:
        print(json.dumps(outcome.as_json(), indent=2), file=sys.stderr)
    return Recorded(target, fault, rounds, outcome.rows._asdict(), outcome.held, round(outcome.seconds, 1))


def _power_cuts(rounds: int, folder: Path) -> Iterator[Recorded]:
    """Cut the power of a disk that has a journal, DuckDB, SQLite and shards, at random moments."""
    dice = random.Random(_SEED)
    sums: dict[str, dict[str, int]] = {kind: {} for kind in EMBEDDED}
    held = dict.fromkeys(EMBEDDED, True)
    began_s = time.monotonic()
    forks = ForkServer(folder / "errors")
    try:
        for number in range(rounds):
            found = cut_and_look(forks, folder / f"cut{number}", _checked, frames=dice.randrange(200))
            for kind, (counts, is_clean) in found.items():
                held[kind] = held[kind] and is_clean
                sums[kind] = {name: count + sums[kind].get(name, 0) for name, count in counts.items()}
    finally:
        forks.close()
    for kind in EMBEDDED:
        yield Recorded(kind, POWER_CUT, rounds, sums[kind], held[kind], round(time.monotonic() - began_s, 1))


def _checked(home: Home) -> dict[str, tuple[dict[str, int], bool]]:
    found = {}
    for kind in home.kinds:
        check, acknowledged = Check(), home.acknowledged(kind)
        check.store(home.rows(kind))
        check.reject(set_aside(home.path, _STREAM_TYPES[kind]))
        found[kind] = check.counts(acknowledged)._asdict(), check.verdict(acknowledged).is_clean
    return found


def _write(recorded: Recorded, said: Mapping[str, str]) -> None:
    """Record it in place of the last one of the same target and fault."""
    entries: list[dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else []
    kept = [each for each in entries if (each["target"], each["fault"]) != (recorded.target, recorded.fault)]
    kept.append({**recorded._asdict(), **said})
    order = [*PLAN]
    kept.sort(key=lambda each: (order.index(each["target"]), each["fault"]))
    PATH.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
