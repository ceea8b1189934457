"""Clients and servers are killed, connections cut and answers lost, many times: on no server does a row show it."""

import random
import time
from functools import partial
from pathlib import Path

import pytest

from api2db.torture.proxy import Proxy
from tests.faults.children import acknowledged
from tests.kills.checker import Verdict
from tests.kills.fork_server import ForkServer
from tests.kills.here import running, wait_until
from tests.kills.on_servers import HomeOf, PutsThere, There, home_on
from tests.kills.test_random_kills import LONGEST_S, SHORTEST_S, kill_often
from tests.servers.server import Server

ROUNDS = [2, pytest.param(100, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])]
LARGE_ROWS = 30_000


@pytest.fixture
def there(server: Server) -> There:
    return There(server)


@pytest.fixture
def behind(server: Server, proxy: Proxy) -> There:
    return There(server, proxy)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_whenever_the_client_is_killed_each_acknowledged_row_is_on_the_server_once(
    fork_server: ForkServer, tmp_path: Path, there: There, say: list[str], rounds: int
) -> None:
    say.append(f"{there.kind}: {kill_often(fork_server, home_on(there, tmp_path, fork_server), rounds)}")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_whenever_the_server_is_killed_and_started_again_each_acknowledged_row_is_there_once(
    fork_server: ForkServer, tmp_path: Path, there: There, say: list[str], rounds: int
) -> None:
    home, dice = home_on(there, tmp_path, fork_server), random.Random(rounds)
    with fork_server.start("produce", home.project) as child:
        for _ in range(rounds):
            home.wait_for_loads(1)
            time.sleep(dice.uniform(SHORTEST_S, LONGEST_S))
            there.server.kill()
            there.server.start()
        child.kill()
    check(fork_server, home)
    say.append(f"{there.kind}: {rounds} kills of the server, {len(acknowledged(home.log))} frames")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_whenever_the_connection_is_reset_each_acknowledged_row_is_there_once(
    fork_server: ForkServer, tmp_path: Path, behind: There, proxy: Proxy, say: list[str], rounds: int
) -> None:
    home, dice = home_on(behind, tmp_path, fork_server), random.Random(rounds)
    with fork_server.start("produce", home.project) as child:
        for _ in range(rounds):
            home.wait_for_loads(1)
            before = proxy.connections
            proxy.reset_after(int(10 ** dice.uniform(1, 5)))
            wait_until(partial(_more_than, proxy, before))
        child.kill()
    check(fork_server, home)
    say.append(f"{behind.kind}: {rounds} resets, {len(acknowledged(home.log))} frames")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_large_frame_whose_connection_is_reset_in_its_middle_is_there_once(
    tmp_path: Path, behind: There, proxy: Proxy, rounds: int
) -> None:
    puts, dice = PutsThere(tmp_path, behind), random.Random(rounds)
    with running(puts.stream):
        for _ in range(min(rounds, 20)):
            before = proxy.connections
            proxy.reset_after(dice.randrange(500_000, 1_500_000))
            puts.put(1, rows=LARGE_ROWS)
            assert puts.stream.flush(60), puts.stream.status()
            assert proxy.connections > before
    assert puts.verdict() == Verdict()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_commit_whose_answer_is_lost_is_not_repeated(
    tmp_path: Path, behind: There, proxy: Proxy, rounds: int
) -> None:
    puts = PutsThere(tmp_path, behind)
    with running(puts.stream):
        for _ in range(rounds):
            before = proxy.connections
            proxy.drop_answers(after=b"COMMIT", then_reset=True)
            puts.put(2)
            assert puts.stream.flush(60), puts.stream.status()
            assert proxy.connections > before
            proxy.heal()
    assert puts.verdict() == Verdict()


def test_a_server_that_is_restarted_while_nothing_is_to_be_done_is_reached_again(tmp_path: Path, there: There) -> None:
    puts = PutsThere(tmp_path, there)
    with running(puts.stream):
        for _ in range(2):
            puts.put(2)
            assert puts.stream.flush(60), puts.stream.status()
            there.server.restart()
        puts.put(2)
        assert puts.stream.flush(60), puts.stream.status()
    assert puts.verdict() == Verdict()


def _more_than(proxy: Proxy, connections: int) -> bool:
    return proxy.connections > connections


def check(fork_server: ForkServer, home: HomeOf) -> None:
    """One more run delivers all that is left; then the checker looks."""
    fork_server.run("produce", home.project, frames=3)
    assert home.judgements() == dict.fromkeys(home.kinds, Verdict())
