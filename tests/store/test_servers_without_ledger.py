"""Stores into BigQuery and HeavyDB: rounds, lost answers, failures of any call, refused rows; each row is in once."""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api2db import Store, Store2Bigquery, Store2Omnisci
from api2db.errors import ConnectionBrokenError, TargetUnavailableError
from api2db.shards.manifest import read_manifest
from api2db.store._reader import ManifestReader
from api2db.store._round import round_of
from api2db.targets.bigquery.keyed import BigqueryKeyedTarget
from api2db.targets.bigquery.target import BigqueryTarget
from api2db.targets.heavydb import HeavydbTarget
from tests.kills.checker import set_aside
from tests.servers.bigquery import BigqueryServer
from tests.servers.omnisci import OmnisciServer
from tests.store.homes import left, put_shards, rows_of, shards
from tests.store.test_databases import failing
from tests.stream.bigqueries import DATASET, target_of_bigquery

pytestmark = pytest.mark.usefixtures("_short_pauses")

KINDS = ["bigquery", "bigquery_by_key", "omnisci"]


@dataclass(frozen=True)
class TargetCase:
    """One way into a server.

    Attributes:
        load: The method that loads.
        calls: All that may fail.
    """

    kind: type[Store]
    options: dict[str, Any]
    found: Callable[[], Sequence[dict[str, Any]]]
    target: type
    load: str
    calls: Sequence[str]

    def store(self, home: Path, **options: Any) -> Store:
        return self.kind(**{"name": "flights", "seconds": 60, "home": home, **self.options, **options})

    def loaded(self) -> list[tuple[Any, ...]]:
        """In no order: by key, rows have none."""
        return sorted((row["n"], row["place"]) for row in self.found())


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> TargetCase:
    if request.param == "omnisci":
        server: OmnisciServer = request.getfixturevalue("omnisci")
        calls = ("connect", "prepare", "plan", "append", "rows_committed")
        options = server.reach.options
        return TargetCase(Store2Omnisci, options, lambda: in_heavydb(server), HeavydbTarget, "append", calls)
    return into_bigquery(
        request.getfixturevalue("bigquery"), **({"keys": ["n", "place"]} if "key" in request.param else {})
    )


def into_bigquery(server: BigqueryServer, **options: Any) -> TargetCase:
    def found() -> list[dict[str, Any]]:
        return server.rows(DATASET, "flights")

    options = {**target_of_bigquery(server), **options}
    if "keys" in options:
        calls = ("connect", "read_position", "prepare", "load")
        return TargetCase(Store2Bigquery, options, found, BigqueryKeyedTarget, "load", calls)
    stepped = ("connect", "acquire", "prepare", "plan", "append", "rows_committed")
    return TargetCase(Store2Bigquery, options, found, BigqueryTarget, "append", stepped)


def in_heavydb(server: OmnisciServer) -> list[dict[str, Any]]:
    found = server.reach.rows("flights_store")
    return [{name.removesuffix("_t"): value for name, value in row.items()} for row in found]


def put(home: Path, numbers: range, places: Sequence[Any] = (0, 1)) -> None:
    put_shards(home, numbers, "parquet", place=list(places))


def attempt(store: Store, home: Path) -> None:
    """A round that may fail; then its shards stay."""
    try:
        store.store()
    except TargetUnavailableError:
        assert left(home)


def test_rounds_load_each_row_once(case: TargetCase, tmp_path: Path) -> None:
    store = case.store(tmp_path, chunk_size=7)
    for start in (0, 10, 20):
        put(tmp_path, range(start, start + 10))
        store.store()
    assert case.loaded() == rows_of(*range(30))
    assert left(tmp_path) == []
    assert store.status().rows_delivered == 60


@pytest.mark.parametrize("error", [TargetUnavailableError, ConnectionBrokenError])
def test_a_load_whose_answer_is_always_lost_is_not_repeated(
    case: TargetCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    real = getattr(case.target, case.load)

    def load(*arguments: Any) -> None:
        real(*arguments)
        raise error("the answer is lost")

    monkeypatch.setattr(case.target, case.load, load)
    put(tmp_path, range(10))
    case.store(tmp_path, chunk_size=7).store()
    assert case.loaded() == rows_of(*range(10))


def test_whatever_fails_at_any_call_before_or_behind_it_no_row_shows_it(
    case: TargetCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(case, random.Random(case.target.__name__), monkeypatch)
    for number in range(6):
        put(tmp_path, range(number * 5, number * 5 + 5))
        attempt(case.store(tmp_path, chunk_size=3), tmp_path)
    monkeypatch.undo()
    case.store(tmp_path).store()
    assert case.loaded() == rows_of(*range(30))


@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.torture), 3])
def test_rows_that_are_refused_are_set_aside_once_whatever_fails_meanwhile(
    case: TargetCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    put(tmp_path, range(1))
    case.store(tmp_path).store()
    plant(case, random.Random(seed), monkeypatch)
    for number in range(6):
        start = number * 5 + 1
        put(tmp_path, range(start, start + 5), [0.0, 0.5])
        attempt(case.store(tmp_path, chunk_size=3, schema="freeze"), tmp_path)
    monkeypatch.undo()
    store = case.store(tmp_path, schema="freeze")
    store.store()
    assert case.loaded() == [(0, 0), (0, 1), *((n, 0) for n in range(1, 31))]
    refused = set_aside(tmp_path, store.stream_type)
    assert sorted((row["n"], row["place"]) for row in refused) == [(n, 0.5) for n in range(1, 31)]
    assert left(tmp_path) == []


def plant(case: TargetCase, dice: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of the target and of the manifest fails now and then."""
    for owner, names, error in (
        (case.target, case.calls, TargetUnavailableError),
        (ManifestReader, ("acknowledge", "save", "seek"), OSError),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, failing(getattr(owner, name), error, dice))


def test_a_server_that_goes_away_between_two_loads_of_a_manifest_gets_the_rest_in_the_next_round(
    case: TargetCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, range(20))
    take_away_after_two_loads(case, monkeypatch)
    with pytest.raises(TargetUnavailableError, match="the next round continues"):
        case.store(tmp_path, chunk_size=7).store()
    monkeypatch.undo()
    assert len(case.loaded()) == 14
    assert len(left(tmp_path)) == 21
    put(tmp_path, range(20, 23))
    store = case.store(tmp_path, chunk_size=5)
    store.store()
    assert case.loaded() == rows_of(*range(23))
    assert left(tmp_path) == []
    assert store.status().rows_delivered == 46


@pytest.mark.parametrize("case", ["bigquery", "omnisci"], indirect=True)
def test_where_no_ledger_tells_the_manifest_says_how_far_it_is(
    case: TargetCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, range(20))
    take_away_after_two_loads(case, monkeypatch)
    with pytest.raises(TargetUnavailableError):
        case.store(tmp_path, chunk_size=7).store()
    manifest = read_manifest(shards(tmp_path))
    assert manifest is not None
    found = round_of(shards(tmp_path), manifest)
    assert (found.position, found.delivered.rows) == ((7, 0), 14)


def take_away_after_two_loads(case: TargetCase, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., None] = getattr(case.target, case.load)
    loads: list[Any] = []

    def load(*arguments: Any) -> None:
        if len(loads) == 2:
            raise TargetUnavailableError("it is away")
        real(*arguments)
        loads.append(arguments)

    monkeypatch.setattr(case.target, case.load, load)


def test_the_table_that_is_replaced_is_what_the_newest_round_has_loaded(
    bigquery: BigqueryServer, tmp_path: Path
) -> None:
    case = into_bigquery(bigquery, if_exists="replace")
    for start in (0, 10):
        put(tmp_path, range(start, start + 10))
        case.store(tmp_path, chunk_size=3).store()
        assert case.loaded() == rows_of(*range(start, start + 10))


@pytest.mark.parametrize("options", [{}, {"keys": ["n", "place"]}])
def test_if_exists_fail_is_about_tables_of_others(
    bigquery: BigqueryServer, tmp_path: Path, options: dict[str, Any]
) -> None:
    case = into_bigquery(bigquery, if_exists="fail", **options)
    for start in (0, 10):
        put(tmp_path / "mine", range(start, start + 10))
        case.store(tmp_path / "mine").store()
    put(tmp_path / "other", range(20, 30))
    with pytest.raises(TargetUnavailableError, match="if_exists='fail'"):
        case.store(tmp_path / "other").store()
    assert case.loaded() == rows_of(*range(20))


def test_if_exists_fail_lets_a_round_go_on_behind_one_that_was_cut_short(
    bigquery: BigqueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = into_bigquery(bigquery, if_exists="fail")
    put(tmp_path, range(20))
    take_away_after_two_loads(case, monkeypatch)
    with pytest.raises(TargetUnavailableError):
        case.store(tmp_path, chunk_size=7).store()
    monkeypatch.undo()
    put(tmp_path, range(20, 23))
    case.store(tmp_path).store()
    assert case.loaded() == rows_of(*range(23))


def test_of_rows_with_the_same_key_the_newest_is_kept(bigquery: BigqueryServer, tmp_path: Path) -> None:
    case = into_bigquery(bigquery, keys=["n"])
    for places in ([0, 1], [2, 3]):
        put(tmp_path, range(3), places)
        case.store(tmp_path, chunk_size=4).store()
    assert case.loaded() == [(n, 3) for n in range(3)]


def test_a_load_of_which_nobody_can_tell_is_set_aside_with_the_shards_behind_it_that_only_repeat(
    omnisci: OmnisciServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, range(4))
    shutil.copy(shards(tmp_path) / "000.parquet", shards(tmp_path) / "004.parquet")
    omnisci.faults.lose_answers = 1
    monkeypatch.setattr(HeavydbTarget, "rows_committed", lambda target, plan: None)
    store = Store2Omnisci("flights", 60, home=tmp_path, **omnisci.reach.options)
    store.store()
    assert sorted((row["n"], row["place"]) for row in in_heavydb(omnisci)) == rows_of(*range(4))
    assert sorted((row["n"], row["place"]) for row in set_aside(tmp_path, store.stream_type)) == rows_of(*range(4))
    assert left(tmp_path) == []


def test_a_store_and_a_stream_of_one_collector_do_not_share_a_heavydb_table(
    omnisci: OmnisciServer, tmp_path: Path
) -> None:
    from api2db import Stream2Omnisci

    put(tmp_path, range(3))
    with Stream2Omnisci("flights", home=tmp_path, **omnisci.reach.options) as stream:
        stream.q.put([{"n": 1}])
        Store2Omnisci("flights", 60, home=tmp_path, **omnisci.reach.options).store()
        assert stream.flush(20)
    assert len(in_heavydb(omnisci)) == 6
    assert len(omnisci.reach.rows("flights_stream")) == 1
