"""One round of a store is killed at each of its system calls, new shards come meanwhile, and the next round ends it."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api2db.disk.atomic import replacing
from api2db.formats import write
from tests.kills.checker import Row, Verdict, in_duckdb, in_file, in_sqlite, judge, set_aside
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.kills.rows import frame
from tests.kills.steps import CALLS, Step, attached, sample

COMPOSING = {"move_composed_path": "composed", "move_shards_path": "moved"}
ROUNDS: dict[str, tuple[str, dict[str, Any]]] = {
    "duckdb": ("duckdb", {}),
    "sqlite": ("sqlite", {"chunk_size": 7}),
    "sqlite composing and moving": ("sqlite", COMPOSING),
    "file converter": ("composer", COMPOSING),
    "local": ("local", {}),
    "local by date": ("local", {"partition_by": "day"}),
    "duckdb, types change": ("duckdb", {"chunk_size": 7}),
    "sqlite, types change": ("sqlite", {"chunk_size": 2}),
    "local, types change": ("local", {}),
}
IN_THE_SUITE = 6
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


@dataclass
class Killing:
    """Rounds of one kind of store, each from a home that has stored before and has new shards."""

    fork_server: ForkServer
    place: Path
    name: str
    without: str = ""
    calls: Sequence[str] = CALLS

    def __post_init__(self) -> None:
        self.kind, self.options = ROUNDS[self.name]
        self.origin = self._home(self.place / "origin")
        self.put(self.origin, range(1, 4))
        self.fork_server.run("store", self.origin.project)
        self.put(self.origin, range(4, 9))

    @property
    def types_change(self) -> bool:
        """Whether every third shard has text where the others have numbers, which their table refuses."""
        return self.name.endswith("types change")

    def steps(self) -> list[Step]:
        """All the calls that a round makes when nobody kills it."""
        home, log = self._copy(), self.place / "calls"
        assert self._store(home, ["-o", str(log)]) == 0, self.fork_server.errors()
        found = Counter(match[1] for line in log.read_text().splitlines() if (match := _CALL.match(line)))
        return [Step(call, number + 1) for call in self.calls for number in range(found[call])]

    def killed_at(self, step: Step) -> Verdict | None:
        """Kill it there, let new shards come, and do another round; None where it came to its end before."""
        home = self._copy()
        fault = f"inject={step.call}:signal=SIGKILL:when={step.number}"
        if self._store(home, ["-e", fault, "-o", "/dev/null"]) == 0:
            return None
        self.put(home, range(9, 12))
        self.fork_server.run("store", home.project)
        self.fork_server.run("store", home.project)
        assert not list(shards(home).iterdir()), "shards, a manifest or a temporary file were left"
        assert not list(home.path.rglob("*.tmp")), "a temporary file was left"
        verdict = self.judged(home)
        if "move_composed_path" in self.options:
            assert judge(in_folder(home.path / "composed"), range(1, 12)).is_clean
            assert sorted(int(path.stem) for path in (home.path / "moved").iterdir()) == list(range(1, 12))
        return verdict

    def judged(self, home: Home) -> Verdict:
        aside = set_aside(home.path, f"store.sql.{self.kind}")
        expected = {n for n in range(1, 12) if n % 3 == 0} if self.types_change and self.kind != "local" else set()
        assert {row["n"] for row in aside} == expected
        return judge(rows(home, self.kind), range(1, 12), aside)

    def put(self, home: Home, numbers: Iterable[int]) -> None:
        for n in numbers:
            batch = frame("own", n)
            days = [f"2026-01-{1 + (n + row) % 3:02}" for row in range(batch.num_rows)]
            if self.types_change:
                odd = [f"text {row}" if n % 3 == 0 else row for row in range(batch.num_rows)]
                batch = batch.append_column("odd", odd)
            shards(home).mkdir(parents=True, exist_ok=True)
            with replacing(shards(home) / f"{n:02}.parquet") as file:
                write(batch.append_column("day", days), file, "parquet")

    def _store(self, home: Home, options: Sequence[str]) -> int:
        go = home.place / "go"
        os.mkfifo(go)
        with self.fork_server.start("store", home.project, go=str(go)) as child:
            child.wait_for_line("ready")
            with attached(child.pid, ["-e", f"trace={','.join(self.calls)}", *options]):
                go.write_text("on")
                return child.wait()

    def _copy(self) -> Home:
        place = self.place / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.origin.place, place)
        return self._home(place)

    def _home(self, place: Path) -> Home:
        return Home(place, (self.kind,), self.without, self.options)


def shards(home: Home) -> Path:
    return home.path / "STORE" / "flights" / "parquet"


def rows(home: Home, kind: str) -> list[Row]:
    if kind in {"composer", "local"}:
        folder = home.path / ("composed" if kind == "composer" else "STORE/flights/composed")
        return sorted(in_folder(folder), key=lambda row: (row["n"], row["row"]))
    file = home.databases / f"flights.{kind}"
    return in_duckdb(file) if kind == "duckdb" else in_sqlite(file)


def in_folder(folder: Path) -> list[Row]:
    return [row for path in sorted(folder.rglob("[!.]*.parquet")) for row in in_file(path)]


def kill_at_steps(killing: Killing, count: int | None) -> str:
    steps = killing.steps()
    chosen = steps if count is None else sample(steps, count)
    found = {str(step): killing.killed_at(step) for step in chosen}
    verdicts = {step: verdict for step, verdict in found.items() if verdict is not None}
    assert {step: verdict for step, verdict in verdicts.items() if not verdict.is_clean} == {}
    assert len(verdicts) >= max(4, len(chosen) - 2), "a round has more steps than these"
    return f"a store ({killing.name}) killed at {len(verdicts)} of the {len(steps)} system calls of a round"


@pytest.mark.parametrize("name", ROUNDS)
def test_a_store_killed_at_a_step_is_finished_by_its_next_round(
    fork_server: ForkServer, tmp_path: Path, say: list[str], name: str
) -> None:
    say.append(kill_at_steps(Killing(fork_server, tmp_path, name), IN_THE_SUITE))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ROUNDS)
def test_a_store_killed_at_every_step_is_finished_by_its_next_round(
    fork_server: ForkServer, tmp_path: Path, say: list[str], name: str
) -> None:
    say.append(kill_at_steps(Killing(fork_server, tmp_path, name), None))


def test_a_store_whose_manifest_is_forgotten_doubles_rows(fork_server: ForkServer, tmp_path: Path) -> None:
    killing = Killing(fork_server, tmp_path, "sqlite", without="store manifest")
    verdicts = [killing.killed_at(step) for step in killing.steps() if step.call == "unlink"]
    assert any(verdict.doubled for verdict in verdicts if verdict is not None)
