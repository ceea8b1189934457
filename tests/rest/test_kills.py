"""A process that polls an API is killed at random, between pages and within them: no row is missing, none is twice."""

import os
import random
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kills.fork_server import Child, ForkServer
from tests.kills.homes import Home
from tests.rest.conftest import Serve
from tests.rest.servers import Answer, Asked, Reply
from tests.rest.shapes import KILLED, SHAPES, Shape, rows_in, rows_of

MOMENTS = ("before", "within", "after")


class Killing:
    """Answers as an API does, and has the process killed around its nth answer, which may be slow as the one before."""

    def __init__(self, answer: Answer, delay_s: float = 0) -> None:
        self._answer = answer
        self._delay_s = delay_s
        self.calls = 0
        self._left = -1
        self._moment = ""
        self._due = threading.Event()
        self._killed = threading.Event()

    def plan(self, calls: int, moment: str) -> None:
        self._left, self._moment = calls, moment
        self._due.clear()
        self._killed.clear()

    def __call__(self, asked: Asked) -> Reply:
        self.calls += 1
        self._left -= 1
        reply = self._answer(asked)
        if self._left in (0, 1):
            threading.Event().wait(self._delay_s)
        if self._left != 0:
            return reply
        if self._moment == "before":
            self._wait()
        elif self._moment == "after":
            self._due.set()
        return Reply(reply.body, headers=reply.headers, midway=self._wait if self._moment == "within" else None)

    def kill(self, child: Child, delay_s: float) -> bool:
        """Kill the child when its moment has come; return whether it had not ended by itself before."""
        ended = threading.Thread(target=child.wait, daemon=True)
        ended.start()
        while not self._due.wait(0.01) and ended.is_alive():
            pass
        threading.Event().wait(delay_s if self._moment == "after" else 0)
        if ended.is_alive():
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        ended.join()
        self._killed.set()
        return child.wait() == -signal.SIGKILL

    def _wait(self) -> None:
        self._due.set()
        self._killed.wait(30)


def kill_often(fork_server: ForkServer, serve: Serve, place: Path, name: str, wanted: int) -> str:
    """Collect the whole list, then what changes, until so many polls have been killed; the rest end by themselves."""
    dice = random.Random(f"{name} {wanted}")
    shape: Shape = KILLED[name]()
    killing = Killing(shape)
    server, home = serve(killing), Home(place)
    kills: Counter[str] = Counter()

    def poll(kill_at: int) -> None:
        moment = dice.choice(MOMENTS)
        killing.plan(kill_at, moment)
        with fork_server.start("collect", home.project, shape=name, url=server.url) as child:
            was_killed = bool(kill_at) and killing.kill(child, dice.uniform(0, 0.03))
            assert was_killed or child.wait() == 0, fork_server.errors()
            kills[moment] += was_killed

    while kills.total() < wanted:
        poll(dice.randint(1, 5) if shape.is_paged else 1)
        if dice.random() < 0.2:
            shape.change()
    for _ in range(2):  # the first may only end the poll that was killed last, and rows came since that began
        poll(0)
    assert rows_in(home.path, shape) == rows_of(shape)
    shape.change()
    poll(0)
    assert rows_in(home.path, shape) == rows_of(shape)
    said = ", ".join(f"{kills[moment]} {moment}" for moment in MOMENTS)
    return f"{name}: {kills.total()} kills ({said} an answer), {killing.calls} calls, {len(shape.rows)} rows"


@pytest.mark.parametrize("name", KILLED)
def test_whenever_a_poll_is_killed_each_row_is_there_once(
    fork_server: ForkServer, serve: Serve, tmp_path: Path, say: list[str], name: str
) -> None:
    say.append(kill_often(fork_server, serve, tmp_path, name, 6))


@pytest.mark.parametrize("name", [name for name in SHAPES if SHAPES[name].is_paged])
def test_a_kill_costs_one_call_at_most(fork_server: ForkServer, serve: Serve, tmp_path: Path, name: str) -> None:
    dice = random.Random(name)
    shape = SHAPES[name]()
    killing = Killing(shape, 0.3)
    server, home = serve(killing), Home(tmp_path)
    kills, said_before = 0, fork_server.errors()
    for moment in MOMENTS:
        killing.plan(dice.randint(2, 4), moment)
        with fork_server.start("collect", home.project, shape=name, url=server.url) as child:
            kills += killing.kill(child, dice.uniform(0, 0.01))
            assert fork_server.errors() == said_before
    killing.plan(0, "")
    fork_server.run("collect", home.project, shape=name, url=server.url)
    pages = -(-len(shape.rows) // 5)
    assert kills == 3
    assert pages <= killing.calls <= pages + kills
    assert rows_in(home.path, shape) == rows_of(shape)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KILLED)
def test_five_hundred_random_kills_over_all_shapes(
    fork_server: ForkServer, serve: Serve, tmp_path: Path, say: list[str], name: str
) -> None:
    say.append(kill_often(fork_server, serve, tmp_path, name, -(-500 // len(SHAPES))))
