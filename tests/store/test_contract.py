"""The 2021 release's stores, pinned: signatures, inheritance, answers, errors; and the few places that do more."""

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import api2db
from api2db import FileConverter, Store, Store2Bigquery, Store2Local, Store2Omnisci, Store2Sql, Stream
from tests.store.homes import left, loaded, put_shards, rows_of, sqlite_store

SELF, NOTHING = "self", inspect.Parameter.empty
SHARDS = {
    "path": None,
    "fmt": "parquet",
    "drop_duplicate_exclude": None,
    "move_shards_path": None,
    "move_composed_path": None,
}
SIGNATURES: dict[type, dict[str, Any]] = {
    Store: {"name": NOTHING, "seconds": NOTHING, **SHARDS, "chunk_size": 0},
    Store2Sql: {
        "name": NOTHING,
        "seconds": NOTHING,
        "db_name": NOTHING,
        "dialect": NOTHING,
        "username": None,
        "password": None,
        "host": None,
        "auth_path": None,
        "port": "",
        **SHARDS,
        "if_exists": "append",
        "chunk_size": 0,
    },
    Store2Bigquery: {
        "name": NOTHING,
        "seconds": NOTHING,
        "auth_path": NOTHING,
        "pid": NOTHING,
        "did": NOTHING,
        "tid": NOTHING,
        **SHARDS,
        "location": "US",
        "if_exists": "append",
        "chunk_size": 0,
    },
    Store2Omnisci: {
        "name": NOTHING,
        "seconds": NOTHING,
        "db_name": NOTHING,
        "username": None,
        "password": None,
        "host": None,
        "auth_path": None,
        **SHARDS,
        "protocol": "binary",
        "chunk_size": 0,
    },
    Store2Local: {"name": NOTHING, "seconds": NOTHING, **SHARDS},
}
MORE_OPTIONS: dict[type, dict[str, Any]] = {
    Store: {"storage_options": None, "auth_path": None, "home": None},
    Store2Sql: {
        "home": None,
        "schema": "evolve",
        "dtypes": None,
        "on_conflict": "reject",
        "table": None,
        "keys": (),
        "tls": None,
        "engine": None,
        "iam": False,
        "region": None,
        "table_schema": None,
        "url": None,
        "max_connections": 8,
    },
    Store2Bigquery: {"home": None, "schema": "evolve", "dtypes": None, "keys": (), "endpoint": None}
    | {"write_endpoint": None},
    Store2Omnisci: {"home": None, "schema": "evolve", "dtypes": None, "table": None, "port": ""},
    Store2Local: {"partition_by": None, "storage_options": None, "auth_path": None, "home": None},
}
KINDS = (Store, Store2Sql, Store2Bigquery, Store2Omnisci, Store2Local)
MAKERS: dict[str, Callable[[Path], Store]] = {
    "sqlite": sqlite_store,
    "local": lambda home: Store2Local("flights", 60, home=home),
    "bigquery": lambda home: Store2Bigquery("flights", 60, "key.json", "a-project", "data", "flights", home=home),
    "omnisci": lambda home: Store2Omnisci("flights", 60, "db", "me", "top secret", "localhost", home=home),
}


def parameters(kind: type, *kinds: object) -> dict[str, Any]:
    found = inspect.signature(kind).parameters.values()
    return {each.name: each.default for each in found if each.kind in kinds}


@pytest.mark.parametrize("kind", KINDS)
def test_each_constructor_is_that_of_2021(kind: type) -> None:
    found = parameters(kind, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert list(found.items()) == list(SIGNATURES[kind].items())
    assert parameters(kind, inspect.Parameter.KEYWORD_ONLY) == MORE_OPTIONS[kind]


def test_a_store_is_the_other_heir_of_the_file_converter_through_stream() -> None:
    assert Store.__bases__ == (Stream,)
    assert issubclass(Store, FileConverter)
    assert all(kind.__bases__ == (Store,) for kind in KINDS if kind is not Store)


def test_the_modules_are_where_2021_has_them() -> None:
    from api2db.store import store, store2bigquery, store2local, store2omnisci, store2sql

    found = (store.Store, store2sql.Store2Sql, store2local.Store2Local)
    assert found == (api2db.Store, api2db.Store2Sql, api2db.Store2Local)
    assert store2bigquery.Store2Bigquery is api2db.Store2Bigquery
    assert store2omnisci.Store2Omnisci is api2db.Store2Omnisci


def test_the_attributes_are_those_of_2021(tmp_path: Path) -> None:
    store = Store("flights", 60, "some/path", "csv", ["ms"], "moved", "composed", 7, home=tmp_path)
    assert (store.name, store.seconds, store.fmt, store.chunk_size) == ("flights", 60, "csv", 7)
    assert (store.drop_duplicate_exclude, store.move_shards_path, store.move_composed_path) == (
        ["ms"],
        "moved",
        "composed",
    )
    assert store.path == str(tmp_path / "some/path")
    assert store.is_store_instance is True
    assert Store("flights", 60, home=tmp_path).path == str(tmp_path / "STORE" / "flights" / "parquet")


@pytest.mark.parametrize("verb", ["start", "stream_start"])
def test_a_store_has_no_start(tmp_path: Path, verb: str) -> None:
    store = sqlite_store(tmp_path)
    with pytest.raises(AttributeError, match=verb):
        getattr(store, verb)()
    assert list(tmp_path.iterdir()) == []


def test_a_store_has_no_journal(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    with pytest.raises(AttributeError, match="no journal"):
        store.q.put(pd.DataFrame({"n": [1]}))
    with pytest.raises(AttributeError, match="no journal"):
        store.flush()
    assert list(tmp_path.iterdir()) == []


def test_store_answers_none_and_composes_and_loads_once(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2])
    store: Callable[[], object] = sqlite_store(tmp_path).store
    assert store() is None
    assert loaded(tmp_path) == rows_of(1, 2)
    assert left(tmp_path) == []
    assert not (tmp_path / "STORE" / "journal").exists()


def test_a_store_itself_has_no_target(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    with pytest.raises(AttributeError, match="inherit"):
        Store("flights", 60, home=tmp_path).store()
    assert left(tmp_path) == ["001.parquet"]


@pytest.mark.parametrize("kind", MAKERS)
def test_constructors_make_nothing_on_disk_and_start_no_thread(tmp_path: Path, kind: str) -> None:
    before = threading.active_count()
    store = MAKERS[kind](tmp_path / "home")
    assert store.status().frames_delivered == 0
    assert repr(store)
    assert threading.active_count() <= before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"fmt": "xlsx"}, "parquet, json, csv, pickle"),
        ({"if_exists": "upsert"}, "append, replace, fail"),
        ({"chunk_size": -1}, "chunk_size"),
        ({"drop_duplicate_exclude": "ms"}, "drop_duplicate_exclude"),
        ({"keys": "id"}, "keys"),
    ],
)
def test_an_argument_that_can_not_be_used_is_a_value_error(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        sqlite_store(tmp_path, **options)


@pytest.mark.parametrize("seconds", [-1, True, "60", float("nan"), None])
def test_seconds_are_a_number(tmp_path: Path, seconds: Any) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Store("flights", seconds, home=tmp_path)


def test_a_column_that_can_not_name_a_folder_parts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="partition_by"):
        Store2Local("flights", 60, partition_by="../x", home=tmp_path)


def test_no_secret_is_in_what_a_store_says_of_itself(tmp_path: Path) -> None:
    stores = [Store2Sql("flights", 60, "db", "sqlite", "me", "top secret", home=tmp_path), MAKERS["omnisci"](tmp_path)]
    said = [(repr(store), store.describe(), store.identity, str(store.status())) for store in stores]
    assert "top secret" not in str(said)


def test_a_store_into_heavydb_has_a_table_of_its_own(tmp_path: Path) -> None:
    assert MAKERS["omnisci"](tmp_path).table_name == "flights_store"


def test_the_places_of_a_target_are_checked_as_its_stream_checks_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did"):
        Store2Bigquery("flights", 60, "key.json", "a-project", "no data", "flights", home=tmp_path)
    with pytest.raises(ValueError, match="host"):
        Store2Omnisci("flights", 60, "db", "me", "top secret", home=tmp_path)
    with pytest.raises(ValueError, match="protocol"):
        Store2Omnisci("flights", 60, "db", "me", "top secret", "localhost", protocol="udp", home=tmp_path)
