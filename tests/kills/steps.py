"""Kills one delivery at each of its system calls, one after the other."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.needs import need
from tests.kills.checker import Verdict
from tests.kills.databases import change
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home

CALLS = ("fsync", "fdatasync", "rename", "renameat2", "unlink", "write", "writev", "pwrite64", "ftruncate")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


@dataclass(frozen=True)
class Step:
    """The n-th call of one kind; the child is killed instead of making it."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call} {self.number}"


@dataclass
class Delivery:
    """One delivery of one stream, from a home that has delivered before.

    Args:
        without: What is taken away from the process that is killed, and from the one behind it.
        table: How a user has made the table; by default the stream does.
    """

    fork_server: ForkServer
    place: Path
    kind: str
    without: str = ""
    table: str = ""

    def __post_init__(self) -> None:
        self._origin = Home(self.place / "origin", (self.kind,), self.without)
        if self.table:
            change(self.kind, self._origin.databases / f"flights.{self.kind}", self.table)
        self.fork_server.run("produce", self._origin.project, frames=7)

    def steps(self) -> list[Step]:
        """All the calls that it makes when nobody kills it."""
        home = self._copy()
        log = self.place / "calls"
        assert self._deliver(home, ["-o", str(log)]) == 0, self.fork_server.errors()
        found = Counter(match[1] for line in log.read_text().splitlines() if (match := _CALL.match(line)))
        return [Step(call, number + 1) for call in CALLS for number in range(found[call])]

    def killed_at(self, step: Step) -> Verdict | None:
        """Kill it there; put more, consume the shards, start again; say what the checker finds.

        None where it came to its end: which thread makes the very last calls is not always the same.
        """
        home = self._copy()
        fault = f"inject={step.call}:signal=SIGKILL:when={step.number}"
        if self._deliver(home, ["-e", fault, "-o", "/dev/null"]) == 0:
            return None
        home.consume("after the kill")
        self.fork_server.run("deliver", home.project, frames=3)
        return home.judge(self.kind)

    def _deliver(self, home: Home, options: Sequence[str]) -> int:
        go = home.place / "go"
        os.mkfifo(go)
        with self.fork_server.start("deliver", home.project, frames=4, go=str(go)) as child:
            child.wait_for_line("ready")
            with attached(child.pid, ["-e", f"trace={','.join(CALLS)}", *options]):
                go.write_text("on")
                return child.wait()

    def _copy(self) -> Home:
        place = self.place / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._origin.place, place)
        return Home(place, (self.kind,), self.without)


def sample(steps: Sequence[Step], count: int) -> list[Step]:
    """So many of them, evenly spread, with the first and the last."""
    if len(steps) <= count:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (count - 1))] for place in range(count)]


@contextmanager
def attached(pid: int, options: Sequence[str]) -> Iterator[Any]:
    """Trace the main thread of a process from here on, by strace; it is attached when the block begins."""
    need("strace")
    command = ["strace", "-p", str(pid), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        assert "attached" in line, line
        yield tracer
