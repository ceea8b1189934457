"""A store into each database: rounds, targets that go away, answers that are lost; each row is there once."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api2db import Store2Sql
from api2db.errors import ConnectionBrokenError, TargetUnavailableError
from api2db.store._reader import ManifestReader
from api2db.targets.sql import SqlTarget
from api2db.torture.proxy import Proxy
from tests.store.homes import left, put_shards, rows_of
from tests.stream.databases import DATABASES, DIALECTS, SERVERS, query, running, target_of, use

OFTEN = 0.3


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return use(request.param, request)


def store_into(dialect: str, home: Path, **options: Any) -> Store2Sql:
    return Store2Sql(**{"name": "flights", "seconds": 60, "home": home, **target_of(dialect), **options})


def loaded(home: Path, dialect: str) -> list[tuple[Any, ...]]:
    return sorted(query(home, dialect, "SELECT n, place FROM flights"))


def put(home: Path, numbers: range) -> None:
    """Shards whose columns every dialect can name as they are."""
    put_shards(home, numbers, "parquet", place=[0, 1])


def test_rounds_load_each_row_once(dialect: str, tmp_path: Path) -> None:
    store = store_into(dialect, tmp_path, chunk_size=7)
    for start in (0, 10, 20):
        put(tmp_path, range(start, start + 10))
        store.store()
    assert loaded(tmp_path, dialect) == rows_of(*range(30))
    assert left(tmp_path) == []
    assert store.status().rows_delivered == 60


@pytest.mark.usefixtures("_short_pauses")
def test_whatever_fails_at_any_call_before_or_behind_it_no_row_shows_it(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(dialect)
    for owner, names, error in (
        (SqlTarget, ("connect", "read_position", "prepare", "load"), TargetUnavailableError),
        (ManifestReader, ("acknowledge", "save", "seek"), OSError),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, failing(getattr(owner, name), error, dice))
    store = store_into(dialect, tmp_path, chunk_size=3)
    for number in range(6):
        put(tmp_path, range(number * 5, number * 5 + 5))
        try:
            store.store()
        except TargetUnavailableError:
            assert left(tmp_path)
    monkeypatch.undo()
    store.store()
    assert loaded(tmp_path, dialect) == rows_of(*range(30))


def failing(real: Callable[..., Any], error: type[Exception], dice: random.Random) -> Callable[..., Any]:
    """The same call, which fails now and then, before or behind what it does."""

    def fails(*arguments: Any, **options: Any) -> Any:
        fate = dice.random()
        if fate < OFTEN / 2:
            raise error("planted before")
        result = real(*arguments, **options)
        if fate < OFTEN:
            raise error("planted behind")
        return result

    return fails


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize("error", [TargetUnavailableError, ConnectionBrokenError])
def test_a_commit_whose_answer_is_always_lost_is_not_repeated(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    real = SqlTarget.load

    def load(*arguments: Any) -> None:
        real(*arguments)
        raise error("the answer is lost")

    monkeypatch.setattr(SqlTarget, "load", load)
    put(tmp_path, range(10))
    store_into(dialect, tmp_path).store()
    assert loaded(tmp_path, dialect) == rows_of(*range(10))


@pytest.mark.parametrize("dialect", SERVERS)
@pytest.mark.usefixtures("_short_pauses")
def test_a_line_that_breaks_in_the_middle_is_mended_within_the_round(
    dialect: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    use(dialect, request)
    server = running(dialect)
    put(tmp_path, range(100))
    with Proxy(server.host, server.port) as proxy:
        store = store_into(dialect, tmp_path, port=str(proxy.port), chunk_size=20)
        proxy.reset_after(9_000)
        store.store()
    assert loaded(tmp_path, dialect) == rows_of(*range(100))
    assert left(tmp_path) == []


@pytest.mark.parametrize("dialect", SERVERS)
@pytest.mark.usefixtures("_short_pauses")
def test_a_server_that_is_away_keeps_the_shards_and_the_next_round_goes_on(
    dialect: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(dialect, request)
    server = running(dialect)
    put(tmp_path, range(100))
    with Proxy(server.host, server.port) as proxy:
        store, real, loads = store_into(dialect, tmp_path, port=str(proxy.port), chunk_size=20), SqlTarget.load, []

        def load(*arguments: Any) -> None:
            real(*arguments)
            loads.append(arguments)
            if len(loads) == 2:
                proxy.refuse()

        monkeypatch.setattr(SqlTarget, "load", load)
        with pytest.raises(TargetUnavailableError, match="the next round continues"):
            store.store()
        assert len(left(tmp_path)) == 101
        put(tmp_path, range(100, 103))
        proxy.heal()
        store.store()
    assert loaded(tmp_path, dialect) == rows_of(*range(103))
    assert left(tmp_path) == []


def test_a_file_that_a_stream_writes_too_takes_both(tmp_path: Path) -> None:
    from api2db import Stream2Sql

    assert "duckdb" in DATABASES
    put(tmp_path, range(20))
    with Stream2Sql("others", home=tmp_path, **target_of("duckdb")) as stream:
        for number in range(20):
            stream.q.put([{"n": number}])
            store_into("duckdb", tmp_path).store()
    assert loaded(tmp_path, "duckdb") == rows_of(*range(20))
    assert query(tmp_path, "duckdb", "SELECT count(*) FROM others") == [(20,)]
