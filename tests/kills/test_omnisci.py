"""Clients killed, answers lost, connections cut, loads that outlive their client: a HeavyDB table shows none of it."""

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api2db.errors import JournalWriteError, TargetUnavailableError
from api2db.journal._reader import SegmentedReader
from api2db.stream import stream2omnisci
from api2db.targets.heavydb import HeavydbTarget
from api2db.torture.proxy import Proxy
from tests.faults.children import acknowledged
from tests.kills.checker import Row, Verdict, set_aside
from tests.kills.fork_server import ForkServer
from tests.kills.here import Puts, running, wait_until
from tests.kills.homes import Home
from tests.kills.test_lost_answers import failing
from tests.kills.test_random_kills import kill_often
from tests.servers.omnisci import OmnisciServer
from tests.servers.omnisci.columns import RefusedError
from tests.servers.omnisci.tables import Tables

pytestmark = pytest.mark.usefixtures("_short_pauses")

TABLE = "flights_stream"
LOAD = b"load_table_binary_arrow"
ROUNDS = [2, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])]
LARGE_ROWS = 30_000
# What others may do: add so many rows, or delete the four that were there.
MORE = f'INSERT INTO "{TABLE}" (n_t) SELECT -1 FROM range({{}})'
LESS = f'DELETE FROM "{TABLE}" WHERE n_t = 1'


@pytest.fixture
def network(omnisci: OmnisciServer) -> Iterator[Proxy]:
    with Proxy(omnisci.host, omnisci.port) as proxy:
        yield proxy


def rows_of(server: OmnisciServer) -> list[Row]:
    """What the table holds, in the order in which it went in; a text of no characters is NULL there."""
    found = server.sql(f'SELECT * FROM "{TABLE}" ORDER BY rowid').to_pylist()
    named = [{name.removesuffix("_t"): value for name, value in row.items()} for row in found]
    return [{**row, "payload": row["payload"] or ""} for row in named]


@dataclass(frozen=True)
class HomeOf(Home):
    """A project whose one stream writes to a HeavyDB of the test's own process."""

    server: OmnisciServer | None = None

    def rows(self, kind: str) -> list[Any]:
        assert self.server is not None
        return rows_of(self.server)


class PutsThere(Puts):
    """A stream of the test's own process."""

    def __init__(self, place: Path, server: OmnisciServer, port: int | None = None) -> None:
        self.server = server
        self.begin(Home(place, ("omnisci",)), "omnisci", {**server.reach.options, "port": port or server.port})

    def found(self) -> list[Any]:
        return rows_of(self.server)


def flushed(puts: Puts) -> None:
    assert puts.stream.flush(60), puts.stream.status()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_whenever_the_client_is_killed_each_acknowledged_row_is_there_once(
    fork_server: ForkServer, tmp_path: Path, omnisci: OmnisciServer, say: list[str], rounds: int
) -> None:
    home = HomeOf(tmp_path, ("omnisci",), options=omnisci.reach.options, server=omnisci)
    say.append(f"omnisci: {kill_often(fork_server, home, rounds)}")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_load_whose_answer_is_lost_is_not_repeated(
    tmp_path: Path, omnisci: OmnisciServer, network: Proxy, rounds: int
) -> None:
    puts = PutsThere(tmp_path, omnisci, network.port)
    with running(puts.stream):
        for _ in range(rounds):
            before = network.connections
            network.drop_answers(after=LOAD, then_reset=True)
            puts.put(2)
            flushed(puts)
            assert network.connections > before
            network.heal()
            wait_until(lambda: puts.stream.status().last_error is None)
    assert puts.verdict() == Verdict()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_whenever_the_connection_is_cut_each_acknowledged_row_is_there_once(
    tmp_path: Path,
    omnisci: OmnisciServer,
    network: Proxy,
    say: list[str],
    caplog: pytest.LogCaptureFixture,
    rounds: int,
) -> None:
    puts, dice = PutsThere(tmp_path, omnisci, network.port), random.Random(rounds)
    with running(puts.stream):
        for number in range(rounds):
            before = network.connections
            network.reset_after(int(10 ** dice.uniform(1, 4)))
            while network.connections == before:
                puts.put(1)
            if number % 5 == 0:
                flushed(puts)
        flushed(puts)
    assert puts.verdict() == Verdict()
    assert "is not known" not in caplog.text
    say.append(f"omnisci: {rounds} cuts, {len(puts.acknowledged)} frames, {omnisci.loads} loads")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_large_frame_whose_connection_is_cut_in_its_middle_is_there_once(
    tmp_path: Path, omnisci: OmnisciServer, network: Proxy, rounds: int
) -> None:
    puts, dice = PutsThere(tmp_path, omnisci, network.port), random.Random(rounds)
    puts.put(1)
    with running(puts.stream):
        flushed(puts)
        for _ in range(min(rounds, 20)):
            before = network.connections
            network.reset_after(dice.randrange(100_000, 1_000_000))
            puts.put(1, rows=LARGE_ROWS)
            flushed(puts)
            assert network.connections > before
    assert puts.verdict() == Verdict()


def test_a_load_that_the_server_is_still_at_when_the_client_has_given_up_counts(
    tmp_path: Path, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream2omnisci, "_ANSWER_S", 0.3)
    puts = PutsThere(tmp_path, omnisci)
    puts.put(1)
    with running(puts.stream):
        flushed(puts)
        omnisci.faults.loads_go_on.clear()
        omnisci.faults.loading.clear()
        puts.put(1)
        assert omnisci.faults.loading.wait(10)
        wait_until(lambda: puts.stream.status().last_error)
        omnisci.faults.loads_go_on.set()
        flushed(puts)
    assert puts.verdict() == Verdict()


def test_who_is_not_let_to_wait_for_a_load_does_not_take_it_for_one_that_was_not_carried_out(
    tmp_path: Path, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without ALTER is refused at once, though the old session's load is still under way."""

    def forbidden(*_: object) -> None:
        raise RefusedError(f"Current user does not have the privilege to alter table: {TABLE}")

    monkeypatch.setattr(stream2omnisci, "_ANSWER_S", 0.3)
    puts = PutsThere(tmp_path, omnisci)
    puts.put(1)
    with running(puts.stream):
        flushed(puts)
        omnisci.faults.loads_go_on.clear()
        omnisci.faults.loading.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Tables, "drop_column", forbidden)
            puts.put(1)
            assert omnisci.faults.loading.wait(10)
            wait_until(lambda: "grant ALTER" in str(puts.stream.status().last_error))
        omnisci.faults.loads_go_on.set()
        flushed(puts)
    assert puts.verdict() == Verdict()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_load_that_the_server_is_still_at_when_the_client_is_killed_counts(
    fork_server: ForkServer, tmp_path: Path, omnisci: OmnisciServer, say: list[str], rounds: int
) -> None:
    """Each kill falls into a load; it ends before the next client begins, or while that one settles."""
    home = HomeOf(tmp_path, ("omnisci",), options=omnisci.reach.options, server=omnisci)
    fork_server.run("produce", home.project, frames=3)
    faults, dice = omnisci.faults, random.Random(rounds)
    for _ in range(rounds):
        before = omnisci.loads
        faults.loads_go_on.clear()
        faults.loading.clear()
        with fork_server.start("produce", home.project) as child:
            assert faults.loading.wait(30)
            child.kill()
        if dice.random() < 0.5:
            faults.loads_go_on.set()
            wait_until(partial(_more_than, omnisci, before))
        else:
            threading.Timer(dice.uniform(0.01, 0.5), faults.loads_go_on.set).start()
    assert faults.loads_go_on.wait(30)
    fork_server.run("produce", home.project, frames=3)
    assert home.judgements() == {"omnisci": Verdict()}
    assert acknowledged(home.log)
    say.append(f"omnisci: {rounds} kills in a load, {omnisci.loads} loads")


def _more_than(server: OmnisciServer, loads: int) -> bool:
    return server.loads > loads


def test_a_call_that_comes_after_its_session_was_ended_is_not_carried_out(
    tmp_path: Path, omnisci: OmnisciServer, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network holds a load back, the client gives up and goes on by another way, then the load arrives."""
    monkeypatch.setattr(stream2omnisci, "_ANSWER_S", 0.3)
    puts = PutsThere(tmp_path, omnisci, network.port)
    puts.put(1)
    with running(puts.stream):
        flushed(puts)
    real = HeavydbTarget.append

    def held_back(target: HeavydbTarget, *arguments: Any) -> None:
        network.pause()
        target._session._server = omnisci_server(target, omnisci)
        monkeypatch.setattr(HeavydbTarget, "append", real)
        real(target, *arguments)

    monkeypatch.setattr(HeavydbTarget, "append", held_back)
    puts.put(1)
    with running(puts.stream):
        flushed(puts)
        loads = omnisci.loads
        network.resume()
        puts.put(1)
        flushed(puts)
    assert omnisci.loads == loads + 1
    assert puts.verdict() == Verdict()


def omnisci_server(target: HeavydbTarget, server: OmnisciServer) -> Any:
    """The same server, past the network."""
    return replace(target._session._server, port=server.port)


@pytest.mark.parametrize(
    ("carried_out", "statements"),
    [
        (0, [MORE.format(1)]),
        (0, [MORE.format(7)]),
        (0, [MORE.format(1), MORE.format(3)]),
        (1, [MORE.format(1)]),
        (1, [MORE.format(7)]),
        (1, [LESS]),
        (1, [LESS, MORE.format(4)]),
    ],
)
def test_rows_of_which_nobody_can_tell_whether_they_are_in_are_set_aside_and_it_is_told(
    tmp_path: Path,
    omnisci: OmnisciServer,
    caplog: pytest.LogCaptureFixture,
    carried_out: int,
    statements: list[str],
) -> None:
    """This is the window that is left: another writer on the table in the very moment of a lost answer."""
    puts = PutsThere(tmp_path, omnisci)
    puts.put(1, rows=4)
    with running(puts.stream):
        flushed(puts)
    omnisci.faults.lose_answers = carried_out
    omnisci.faults.cut_before_loads = 1 - carried_out
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(HeavydbTarget, "rows_committed", meanwhile(omnisci, statements))
        puts.put(1, rows=4)
        with running(puts.stream):
            flushed(puts)
            wait_until(lambda: "is not known" in str(puts.stream.status().last_error))
    puts.put(1, rows=4)
    with running(puts.stream):
        flushed(puts)
    found = [row["n"] for row in rows_of(omnisci) if row["n"] != -1]
    assert found == [1] * 4 * (LESS not in statements) + [2] * 4 * carried_out + [3] * 4
    aside = set_aside(puts.home.path, "omnisci")
    assert [row["n"] for row in aside] == [2] * 4
    assert "the target can't tell" in aside[0]["_api2db_reason"]
    assert any(record.levelno == logging.ERROR and "is not known" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("statement", [MORE.format(4), LESS])
@pytest.mark.parametrize("carried_out", [0, 1])
def test_what_others_have_done_before_the_plan_leaves_no_doubt(
    tmp_path: Path, omnisci: OmnisciServer, caplog: pytest.LogCaptureFixture, carried_out: int, statement: str
) -> None:
    puts, tables = PutsThere(tmp_path, omnisci), omnisci.handler.tables
    with running(puts.stream):
        puts.put(1, rows=4)
        flushed(puts)
        tables.change(tables.find(TABLE), statement)
        omnisci.faults.lose_answers = carried_out
        omnisci.faults.cut_before_loads = 1 - carried_out
        puts.put(1, rows=4)
        flushed(puts)
    assert [row["n"] for row in rows_of(omnisci) if row["n"] == 2] == [2] * 4
    assert "is not known" not in caplog.text


@pytest.mark.parametrize("carried_out", [0, 1])
def test_a_table_that_was_put_back_to_an_earlier_state_tells_of_no_load(
    tmp_path: Path, omnisci: OmnisciServer, caplog: pytest.LogCaptureFixture, carried_out: int
) -> None:
    puts = PutsThere(tmp_path, omnisci)
    for _ in range(2):
        puts.put(1)
        with running(puts.stream):
            flushed(puts)
    omnisci.faults.lose_answers = carried_out
    omnisci.faults.cut_before_loads = 1 - carried_out
    real = HeavydbTarget.rows_committed

    def restored(target: HeavydbTarget, plan: Any) -> int | None:
        omnisci.handler.tables.find(TABLE).epoch = plan.details["epoch"] - 1
        return real(target, plan)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(HeavydbTarget, "rows_committed", restored)
        puts.put(1)
        with running(puts.stream):
            flushed(puts)
    assert {row["n"] for row in set_aside(puts.home.path, "omnisci")} == {3}
    assert "is not known" in caplog.text


def meanwhile(server: OmnisciServer, statements: list[str]) -> Callable[..., int | None]:
    """What is asked of a plan, after somebody else has changed the table."""
    real, tables = HeavydbTarget.rows_committed, server.handler.tables

    def rows_committed(target: HeavydbTarget, plan: Any) -> int | None:
        for statement in statements:
            tables.change(tables.find(TABLE), statement)
        return real(target, plan)

    return rows_committed


def test_whatever_fails_at_any_call_before_or_behind_it_no_row_shows_it(
    tmp_path: Path, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random("omnisci")
    for name in ("connect", "prepare", "plan", "append", "rows_committed"):
        monkeypatch.setattr(HeavydbTarget, name, failing(getattr(HeavydbTarget, name), TargetUnavailableError, dice))
    for name in ("acknowledge", "save"):
        monkeypatch.setattr(SegmentedReader, name, failing(getattr(SegmentedReader, name), JournalWriteError, dice))
    puts = PutsThere(tmp_path, omnisci)
    with running(puts.stream):
        for _ in range(40):
            puts.put(2)
            if dice.random() < 0.5:
                flushed(puts)
        flushed(puts)
    assert puts.verdict() == Verdict()


def test_the_plan_is_durable_before_the_server_is_asked_to_load(
    tmp_path: Path, omnisci: OmnisciServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: deque[str] = deque()
    for owner, name in ((SegmentedReader, "save"), (HeavydbTarget, "append"), (SegmentedReader, "acknowledge")):
        monkeypatch.setattr(owner, name, noting(order, name, getattr(owner, name)))
    puts = PutsThere(tmp_path, omnisci)
    puts.put(1)
    puts.deliver()
    assert list(order)[-3:] == ["save", "append", "acknowledge"]


def noting(order: deque[str], name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        order.append(name)
        return real(*arguments, **options)

    return noted
