"""A child puts and delivers until it is killed, at any moment, and is started again, many times; no target shows it."""

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.children import acknowledged
from tests.kills.checker import Verdict
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.kills.marks import AFTER, AHEAD, BEFORE, DURING, where_killed

SHORTEST_S, LONGEST_S = 0.001, 0.5


def kill_once(fork_server: ForkServer, home: Home, dice: random.Random, longest_s: float = LONGEST_S) -> Counter[str]:
    """A round: it is killed some time after its first acknowledged row of the round."""
    before = len(acknowledged(home.log))
    with fork_server.start("produce", home.project) as child:
        child.wait_for(home.log, before + 1)
        time.sleep(dice.uniform(SHORTEST_S, longest_s))
        child.kill()
    return where_killed(home.logs / "marks", child.pid, len(home.kinds))


def kill_often(fork_server: ForkServer, home: Home, rounds: int, longest_s: float = LONGEST_S) -> str:
    dice = random.Random(rounds)
    killed: Counter[str] = Counter()
    for number in range(rounds):
        killed += kill_once(fork_server, home, dice, longest_s)
        home.consume(str(number))
    fork_server.run("produce", home.project, frames=3)
    assert home.judgements() == dict.fromkeys(home.kinds, Verdict())
    where = ", ".join(f"{killed[moment]} {moment} a load" for moment in (BEFORE, DURING, AFTER))
    where += f", {killed[AHEAD]} after the next one had begun" if killed[AHEAD] else ""
    return f"{rounds} random kills of {len(home.kinds)} streams, {len(acknowledged(home.log))} frames: {where}"


def test_whenever_a_process_is_killed_each_acknowledged_row_is_there_once(
    fork_server: ForkServer, tmp_path: Path, say: list[str]
) -> None:
    say.append(kill_often(fork_server, Home(tmp_path), 5))


@pytest.mark.parametrize("options", [{"durability": "process"}, {"chunk_size": 100}], ids=str)
def test_so_it_is_without_an_fsync_a_put_and_with_frames_that_are_cut(
    fork_server: ForkServer, tmp_path: Path, say: list[str], options: dict[str, Any]
) -> None:
    say.append(f"{kill_often(fork_server, Home(tmp_path, options=options), 3)} ({options})")


def test_so_it_is_with_frames_that_have_no_common_schema(
    fork_server: ForkServer, tmp_path: Path, say: list[str]
) -> None:
    say.append(f"{kill_often(fork_server, Home(tmp_path, alternates=True), 5)}, types that alternate")


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("options", [{}, {"durability": "process"}, {"chunk_size": 100}], ids=str)
def test_two_hundred_random_kills(
    fork_server: ForkServer, tmp_path: Path, say: list[str], options: dict[str, Any]
) -> None:
    say.append(f"{kill_often(fork_server, Home(tmp_path, options=options), 200)} {options or ''}")


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_two_hundred_random_kills_with_frames_that_have_no_common_schema(
    fork_server: ForkServer, tmp_path: Path, say: list[str]
) -> None:
    say.append(f"{kill_often(fork_server, Home(tmp_path, alternates=True), 200)}, types that alternate")
