"""Engines of MySQL and MariaDB without transactions: neither rows nor a ledger are written into their tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api2db import Stream2Sql
from tests.servers.server import Server
from tests.stream.cases import frame
from tests.stream.eventually import eventually

ENGINES = "SELECT DISTINCT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}'"


@pytest.fixture(params=["mariadb", "mysql"])
def kept(request: pytest.FixtureRequest) -> Iterator[Server]:
    server: Server = request.getfixturevalue(request.param)
    [(before,)] = server.execute("SELECT @@GLOBAL.default_storage_engine")
    yield server
    server.execute(f"SET GLOBAL default_storage_engine = {before}")


@pytest.fixture
def place(kept: Server, tmp_path: Path) -> dict[str, Any]:
    """Create a database on the server; return a stream's arguments for it."""
    who = {"username": kept.user, "password": kept.password, "host": kept.host, "port": str(kept.port)}
    return {"name": "flights", "db_name": kept.new_database(), "dialect": kept.kind, "home": tmp_path, **who}


def test_our_tables_have_transactions_whatever_the_server_makes_by_itself(kept: Server, place: dict[str, Any]) -> None:
    kept.execute("SET GLOBAL default_storage_engine = MyISAM")
    with Stream2Sql(**place, keys=["id"]) as stream:
        stream.stream(frame(1, 2))
        stream.stream(frame(2, 3))
    assert kept.execute("SELECT id FROM flights ORDER BY id", place["db_name"]) == [(1,), (2,), (3,)]
    assert kept.execute(ENGINES.format(place["db_name"])) == [("InnoDB",)]


@pytest.mark.parametrize("when", ["before the first load", "between two loads"])
def test_a_table_without_transactions_is_waited_for_and_what_to_do_is_told(
    kept: Server, place: dict[str, Any], when: str
) -> None:
    if when == "before the first load":
        kept.execute("CREATE TABLE flights (id BIGINT, text LONGTEXT) ENGINE=MyISAM", place["db_name"])
    with Stream2Sql(**place) as stream:
        if when == "between two loads":
            stream.stream(frame(0))
            kept.execute("ALTER TABLE flights ENGINE=MyISAM", place["db_name"])
        _waits_for_a_change(kept, stream, "flights")


@pytest.mark.parametrize("engine", ["MyISAM", "MEMORY"])
def test_a_ledger_without_transactions_is_waited_for_too(kept: Server, place: dict[str, Any], engine: str) -> None:
    with Stream2Sql(**place) as stream:
        stream.stream(frame(0))
    kept.execute(f"ALTER TABLE _api2db_ledger ENGINE={engine}", place["db_name"])
    with stream:
        _waits_for_a_change(kept, stream, "_api2db_ledger")


def _waits_for_a_change(kept: Server, stream: Stream2Sql, table: str) -> None:
    stream.q.put(frame(1))
    said = eventually(lambda: stream.status().last_error)
    assert f"ALTER TABLE `{table}` ENGINE=InnoDB" in str(said)
    assert (1,) not in kept.execute("SELECT id FROM flights", stream.db_name)
    kept.execute(f"ALTER TABLE {table} ENGINE=InnoDB", stream.db_name)
    assert stream.flush(20)
    assert kept.execute("SELECT count(*) FROM flights WHERE id = 1", stream.db_name) == [(1,)]


def test_a_table_of_another_name_on_such_an_engine_is_not_ours_to_mind(kept: Server, place: dict[str, Any]) -> None:
    [(folds,)] = kept.execute("SELECT @@lower_case_table_names")
    if folds:
        pytest.skip("this server takes both names for one")
    kept.execute("CREATE TABLE Flights (id BIGINT) ENGINE=MyISAM", place["db_name"])
    with Stream2Sql(**place) as stream:
        stream.q.put(frame(1))
        assert stream.flush(20), stream.status()
    assert kept.execute("SELECT id FROM flights", place["db_name"]) == [(1,)]


def test_a_view_of_a_table_without_transactions_is_waited_for_too(kept: Server, place: dict[str, Any]) -> None:
    kept.execute("CREATE TABLE `the base` (id BIGINT, text LONGTEXT) ENGINE=MyISAM", place["db_name"])
    kept.execute("CREATE VIEW inner_view AS SELECT id, text FROM `the base` AS base", place["db_name"])
    kept.execute("CREATE VIEW flights AS SELECT id, text FROM inner_view", place["db_name"])
    with Stream2Sql(**place) as stream:
        stream.q.put(frame(1))
        said = eventually(lambda: stream.status().last_error)
        assert f"ALTER TABLE `{place['db_name']}`.`the base` ENGINE=InnoDB" in str(said)
        assert kept.execute("SELECT id FROM flights", place["db_name"]) == []
        kept.execute("ALTER TABLE `the base` ENGINE=InnoDB", place["db_name"])
        assert stream.flush(20)
    assert kept.execute("SELECT id FROM flights", place["db_name"]) == [(1,)]
