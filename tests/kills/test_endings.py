"""A process that is told to end: what waits is delivered first, or stays on disk, within ten seconds."""

import json
import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.children import Child
from tests.kills.checker import Verdict
from tests.kills.databases import held_here
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home

LONGEST_S = 60.0  # ten seconds is the promise, on a machine that has nothing else to do
ENDINGS = [("exit", None), ("raise", None), ("wait", signal.SIGTERM), ("wait", signal.SIGINT)]


def leaving(home: Home, how: str, frames: int = 60) -> Child:
    return Child("tests.kills.leaving", [json.dumps(home.project), str(frames), how])


@pytest.mark.parametrize(("how", "told"), ENDINGS)
def test_a_process_that_ends_delivers_what_waits_first(tmp_path: Path, how: str, told: int | None) -> None:
    home = Home(tmp_path)
    with leaving(home, how) as child:
        assert child.wait_for_line() == "ready"
        if told is not None:
            os.kill(child.pid, told)
        child.wait(LONGEST_S)
    assert home.judgements() == dict.fromkeys(home.kinds, Verdict())


def test_a_process_that_ends_while_a_target_is_held_keeps_what_waits_on_disk(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    homes = [Home(tmp_path / str(number), ("sqlite", "shards")) for number in range(len(ENDINGS))]
    with ExitStack() as ends:
        for home in homes:
            fork_server.run("produce", home.project, frames=3)
            ends.enter_context(held_here(home.databases / "flights.sqlite"))
        children = [ends.enter_context(leaving(home, how, 6)) for home, (how, _) in zip(homes, ENDINGS, strict=True)]
        for child, (_, told) in zip(children, ENDINGS, strict=True):
            assert child.wait_for_line() == "ready"
            if told is not None:
                os.kill(child.pid, told)
        for child in children:
            child.wait(LONGEST_S)
    for home in homes:
        assert home.judge("shards") == Verdict(), "a target that is well is drained"
        assert home.judge("sqlite").lost, "one that is held is not"
        fork_server.run("produce", home.project, frames=1)
        assert home.judgements() == dict.fromkeys(home.kinds, Verdict())


def end_puts(fork_server: ForkServer, tmp_path: Path, told: int, at_once: int, rounds: int) -> None:
    dice = random.Random(told)
    homes = [
        Home(tmp_path / str(number), ("sqlite", "shards"), options={"durability": "process"})
        for number in range(at_once * rounds)
    ]
    while homes:
        some, homes = homes[:at_once], homes[at_once:]
        with ExitStack() as ends:
            children = [ends.enter_context(leaving(home, "put", 1)) for home in some]
            for child in children:
                assert child.wait_for_line() == "ready"
                time.sleep(dice.uniform(0.01, 0.1))
                os.kill(child.pid, told)
            for child in children:
                child.wait(LONGEST_S)
        for home in some:
            fork_server.run("produce", home.project, frames=1)
            assert home.judgements() == dict.fromkeys(home.kinds, Verdict())


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_told_to_end_while_it_puts_ends_and_loses_nothing(
    fork_server: ForkServer, tmp_path: Path, told: int
) -> None:
    end_puts(fork_server, tmp_path, told, at_once=2, rounds=1)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_many_processes_that_are_told_to_end_while_they_put_end_and_lose_nothing(
    fork_server: ForkServer, tmp_path: Path, told: int
) -> None:
    end_puts(fork_server, tmp_path, told, at_once=2, rounds=50)
