"""Clients are killed, answers lost and connections cut while rows go to BigQuery: none is lost, none doubled."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api2db.targets.bigquery import _stream as bigquery_stream
from api2db.torture.proxy import Proxy
from tests.kills.checker import Verdict, judge, judge_newest, set_aside
from tests.kills.fork_server import ForkServer
from tests.kills.here import Puts, running, wait_until
from tests.kills.homes import Home
from tests.kills.test_random_kills import kill_often
from tests.servers.bigquery import BigqueryServer
from tests.servers.bigquery.faults import Kind
from tests.servers.emulators import EmulatorServer
from tests.stream.bigqueries import DATASET, google_of, target_of_bigquery

ROUNDS = [2, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])]
KINDS = ["bigquery", "bigquery_replace", "bigquery_by_key"]
# bqemulator appends in as many threads as there are cores and 4 more, and a kill within an append takes one of them
# until it is started again. So a thread is left, also on one core.
KILLS_OF_AN_EMULATOR = 4
LARGE_ROWS = 4_000
# Of the frames in tests.kills.rows; no column is added where DEVIATIONS says that rows would be lost.
TYPES = dict.fromkeys(("n", "row", "rows", "extra"), "INTEGER") | dict.fromkeys(
    ("stream_no", "payload", "proof"), "STRING"
)
OFTEN = 0.3


@dataclass(frozen=True)
class BigqueryHome(Home):
    """A project whose one stream writes to BigQuery."""

    server: BigqueryServer | EmulatorServer | None = None

    def rows(self, kind: str) -> list[Any]:
        assert self.server is not None
        return self.server.rows(DATASET, "flights")


class PutsToBigquery(Puts):
    """A stream of the test's own process into BigQuery."""

    def __init__(
        self, place: Path, server: BigqueryServer | EmulatorServer, kind: str = "bigquery", **options: Any
    ) -> None:
        home = BigqueryHome(place, (kind,), server=server)
        self.begin(home, kind, {**target_of_bigquery(server), **options})

    def verdict(self) -> Verdict:
        if "replace" in self.kind:
            return judge_newest(self.found(), self.acknowledged)
        return judge(self.found(), self.acknowledged, set_aside(self.home.path, "bigquery"))


@pytest.fixture(params=["bigquery", "bqemulator"])
def server(request: pytest.FixtureRequest) -> BigqueryServer | EmulatorServer:
    """Our own server, and an emulator that others wrote."""
    found: BigqueryServer | EmulatorServer = request.getfixturevalue(request.param)
    if isinstance(found, EmulatorServer):
        found.make_table(DATASET, "flights", **TYPES)
    return found


@pytest.fixture
def proxy(bigquery: BigqueryServer) -> Iterator[Proxy]:
    """A network before the Write API of our own server."""
    with Proxy("127.0.0.1", bigquery.write_api.port) as proxy:
        yield proxy


@pytest.fixture
def network(server: BigqueryServer | EmulatorServer) -> Iterator[Proxy]:
    """A network before the Write API of each of them."""
    host, _, port = server.write_address.rpartition(":")
    with Proxy(host, int(port)) as proxy:
        yield proxy


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_whenever_the_client_is_killed_each_acknowledged_row_is_there_once(
    fork_server: ForkServer, tmp_path: Path, bigquery: BigqueryServer, say: list[str], kind: str, rounds: int
) -> None:
    home = BigqueryHome(tmp_path, (kind,), options=target_of_bigquery(bigquery), server=bigquery)
    say.append(f"{kind}: {kill_often(fork_server, home, rounds)}")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_so_it_is_on_an_emulator_that_others_wrote(
    fork_server: ForkServer, tmp_path: Path, bqemulator: EmulatorServer, say: list[str], rounds: int
) -> None:
    options = target_of_bigquery(bqemulator)
    for part in range(0, rounds, KILLS_OF_AN_EMULATOR):
        if part:
            bqemulator.restart()
        bqemulator.make_table(DATASET, "flights", **TYPES)
        home = BigqueryHome(tmp_path / str(part), ("bigquery",), options=options, server=bqemulator)
        say.append(f"bqemulator: {kill_often(fork_server, home, min(rounds, KILLS_OF_AN_EMULATOR))}")


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("failure", ["unavailable", "internal", "cut"])
def test_rows_whose_answer_is_lost_are_not_sent_again(
    tmp_path: Path, bigquery: BigqueryServer, failure: Kind, rounds: int
) -> None:
    puts = PutsToBigquery(tmp_path, bigquery)
    with running(puts.stream):
        for _ in range(rounds):
            bigquery.faults.fail("AppendRows", "after", failure)
            puts.put(2)
            assert puts.stream.flush(60), puts.stream.status()
    assert bigquery.faults.met["AppendRows"] >= rounds
    assert puts.verdict() == Verdict()
    assert puts.stream.status().rows_rejected == 0


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_large_frame_whose_connection_is_cut_in_its_middle_is_there_once(
    tmp_path: Path, bigquery: BigqueryServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(bigquery_stream, "_REQUEST_BYTES", 100_000)
    puts, dice = PutsToBigquery(tmp_path, bigquery, write_endpoint=f"127.0.0.1:{proxy.port}"), random.Random(rounds)
    with running(puts.stream):
        for _ in range(rounds):
            proxy.reset_after(dice.randrange(1_000, 300_000))
            puts.put(1, rows=LARGE_ROWS)
            assert puts.stream.flush(60), puts.stream.status()
    assert proxy.connections > rounds * 2 // 3
    assert puts.verdict() == Verdict()


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize("answers", ["all", "none"])
def test_rows_sent_into_a_network_that_falls_silent_are_there_once(
    tmp_path: Path,
    server: BigqueryServer | EmulatorServer,
    network: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    answers: str,
) -> None:
    for module, name in ((bigquery_stream, "_ANSWER_S"), (bigquery_stream, "CALL_S")):
        monkeypatch.setattr(module, name, 0.3)
    puts = PutsToBigquery(tmp_path, server, write_endpoint=f"127.0.0.1:{network.port}")
    with running(puts.stream):
        puts.put(2)
        assert puts.stream.flush(60)
        if answers == "all":
            network.pause()
        else:
            network.drop_answers()
        puts.put(2)
        wait_until(lambda: "not answered" in (puts.stream.status().last_error or ""))
        network.resume()
        network.heal()
        assert puts.stream.flush(60), puts.stream.status()
    assert puts.verdict() == Verdict()


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_call_fails_before_or_behind_what_it_does_no_row_shows_it(
    tmp_path: Path, bigquery: BigqueryServer, monkeypatch: pytest.MonkeyPatch, kind: str, rounds: int
) -> None:
    google = google_of(bigquery, monkeypatch)
    methods = ("CreateWriteStream", "AppendRows", "FinalizeWriteStream", "datasets.insert", "datasets.get")
    for method in (*methods, "tables.get", "tables.insert", "tables.patch", "jobs.insert", "jobs.get", "token"):
        for moment in ("before", "after"):
            bigquery.faults.fail(method, moment, times=1_000_000, chance=0.1)
    puts, dice = PutsToBigquery(tmp_path, bigquery, kind, **google), random.Random(kind)
    with running(puts.stream):
        for _ in range(5 * rounds):
            puts.put(2)
            if dice.random() < OFTEN:
                assert puts.stream.flush(300), puts.stream.status()
        assert puts.stream.flush(300), puts.stream.status()
    assert puts.verdict() == Verdict()


@pytest.mark.usefixtures("_short_pauses")
def test_requests_of_one_plan_that_are_in_are_not_sent_again_though_the_next_is_lost(
    tmp_path: Path, bigquery: BigqueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_stream, "_REQUEST_BYTES", 1_000)
    puts = PutsToBigquery(tmp_path, bigquery)
    puts.put(1, rows=400)
    bigquery.faults.fail("AppendRows", "after", chance=0.05)
    bigquery.faults.fail("AppendRows", "before", chance=0.05)
    puts.deliver()
    assert bigquery.faults.met["AppendRows"] >= 1
    assert bigquery.faults.calls["AppendRows"] > 20
    assert puts.verdict() == Verdict()
