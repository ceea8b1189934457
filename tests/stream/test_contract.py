"""The contract of the spec: signatures, attributes, return values, errors, folders, file names, and our additions."""

import dataclasses
import inspect
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import pyarrow.parquet
import pytest
import sqlalchemy

import api2db
from api2db import FileConverter, Stream, Stream2Local, Stream2Sql
from api2db.errors import ConfigurationError, TargetUnavailableError
from api2db.stream import StreamStatus
from api2db.targets.sql import SqlTarget
from tests.stream.cases import frame, rejected_rows
from tests.stream.eventually import eventually

SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
NOTHING = inspect.Parameter.empty

# Names, order and defaults as in the spec.
SPEC: dict[type, dict[str, dict[str, Any]]] = {
    Stream: {
        "__init__": {
            "name": NOTHING,
            "path": None,
            "dtypes": None,
            "fmt": None,
            "chunk_size": 0,
            "stream_type": "stream",
            "store": False,
        },
        "start": {},
        "check_failures": {},
        "stream_start": {},
        "stream": {"data": NOTHING},
    },
    Stream2Local: {
        "__init__": {
            "name": NOTHING,
            "path": None,
            "mode": "shard",
            "fmt": "parquet",
            "drop_duplicate_keys": None,
        },
        "stream": {"data": NOTHING},
        "stream_shard": {"data": NOTHING},
        "stream_update": {"data": NOTHING},
        "stream_replace": {"data": NOTHING},
    },
    Stream2Sql: {
        "__init__": {
            "name": NOTHING,
            "db_name": NOTHING,
            "dialect": NOTHING,
            "username": None,
            "password": None,
            "host": None,
            "auth_path": None,
            "port": "",
            "if_exists": "append",
            "chunk_size": 0,
            "store": False,
        },
        "load": {},
        "connect": {},
        "stream": {"data": NOTHING, "retry_depth": 5},
    },
}
ANSWERS = {"connect": bool}
METHODS = [(kind, method) for kind, methods in SPEC.items() for method in methods]

# All that api2db adds to the spec.
MORE_OPTIONS = {"home": None, "durability": "full", "max_backlog_bytes": None, "schema": "evolve", "table": None}
MORE_OPTIONS |= {"stream_id": None}
MORE_OF: dict[type[Stream], dict[str, Any]] = {
    Stream: {},
    Stream2Local: {"chunk_size": 0, "dtypes": None, "storage_options": None, "auth_path": None},
    Stream2Sql: {"keys": (), "on_conflict": "reject", "tls": None, "engine": None, "iam": False, "region": None}
    | {"max_connections": 8, "table_schema": None, "url": None, "dtypes": None},
}
MORE_METHODS = {
    "__enter__": {},
    "__exit__": {"kind": NOTHING, "error": NOTHING, "trace": NOTHING},
    "describe": {},
    "diagnose": {},
    "find": {"where": NOTHING, "most": 5},
    "flush": {"timeout": None},
    "head": {"n": 5},
    "status": {},
    "stop": {"timeout": None},
}
MORE_PROPERTIES = {"embedded_file", "identity"}


def defaults(callable_: Callable[..., Any], *kinds: object) -> dict[str, Any]:
    found = inspect.signature(callable_).parameters.values()
    return {each.name: each.default for each in found if each.kind in kinds and each.name != "self"}


def local(home: Path, **options: Any) -> Stream2Local:
    return Stream2Local("flights", home=home, **options)


def sqlite(home: Path, **options: Any) -> Stream2Sql:
    return Stream2Sql("flights", "flights.sqlite", "sqlite", home=home, **options)


def duckdb(home: Path, **options: Any) -> Stream2Sql:
    return Stream2Sql("flights", "flights.duckdb", "duckdb", home=home, **options)


MAKERS = (local, sqlite, duckdb)


@pytest.mark.parametrize(("kind", "method"), METHODS, ids=lambda each: getattr(each, "__name__", each))
def test_each_signature_is_the_spec_s(kind: type, method: str) -> None:
    function = vars(kind)[method]
    wanted = SPEC[kind][method]
    found = defaults(function, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert (list(found), found) == (list(wanted), wanted)
    assert get_type_hints(function)["return"] is ANSWERS.get(method, type(None))


@pytest.mark.parametrize("kind", MORE_OF)
def test_options_beyond_the_spec_are_keyword_only(kind: type[Stream]) -> None:
    assert defaults(kind, inspect.Parameter.KEYWORD_ONLY) == MORE_OPTIONS | MORE_OF[kind]
    kinds = {each.kind for each in inspect.signature(kind).parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def test_what_is_public_beyond_the_spec_is_what_is_listed_here() -> None:
    for kind in (Stream, Stream2Local, Stream2Sql):
        public = {name for base in kind.__mro__[:-1] if base is not FileConverter for name in vars(base)}
        methods = {name for name in public if callable(getattr(kind, name)) and not name.startswith("_")}
        spec = {name for known, each in SPEC.items() if issubclass(kind, known) for name in each}
        assert methods - spec == {name for name in MORE_METHODS if not name.startswith("_")}
        properties = {
            name
            for name in public
            if isinstance(inspect.getattr_static(kind, name), property) and not name.startswith("_")
        }
        assert properties == MORE_PROPERTIES | ({"connected", "engine_str"} if kind is Stream2Sql else set())
    for name, wanted in MORE_METHODS.items():
        assert defaults(getattr(Stream, name), inspect.Parameter.POSITIONAL_OR_KEYWORD) == wanted


def test_inheritance_is_the_spec_s() -> None:
    assert Stream.__bases__ == (FileConverter,)
    assert Stream2Local.__bases__ == (Stream,)
    assert Stream2Sql.__bases__ == (Stream,)


def test_the_spec_s_modules_are_where_it_has_them() -> None:
    from api2db.stream import file_converter, stream, stream2local, stream2sql

    found = (file_converter.FileConverter, stream.Stream, stream2local.Stream2Local, stream2sql.Stream2Sql)
    assert found == (api2db.FileConverter, api2db.Stream, api2db.Stream2Local, api2db.Stream2Sql)


def test_the_attributes_of_a_stream_are_the_spec_s(tmp_path: Path) -> None:
    stream = Stream("flights", "some/path", {"id": "int64"}, "csv", 7, "mine", True, home=tmp_path)
    assert stream.name == "flights"
    assert stream.path == "some/path"
    assert stream.dtypes == {"id": "int64"}
    assert stream.fmt == "csv"
    assert stream.chunk_size == 7
    assert stream.stream_type == "mine"
    assert stream.is_store_instance is True
    assert Stream("flights", home=tmp_path).is_store_instance is False
    assert isinstance(stream.lock, type(threading.Lock()))
    assert isinstance(stream.q, queue.Queue)


def test_the_attributes_of_stream2local_are_the_spec_s(tmp_path: Path) -> None:
    stream = local(tmp_path, mode="update", fmt="json", drop_duplicate_keys=["id"])
    assert (stream.mode, stream.fmt, stream.drop_duplicate_keys) == ("update", "json", ["id"])
    assert stream.stream_type == "local"


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_the_attributes_of_stream2sql_are_the_spec_s(dialect: str, tmp_path: Path) -> None:
    stream = Stream2Sql("flights", "some.db", dialect, "me", "secret", "there", None, "1", home=tmp_path)
    assert stream.stream_type == f"sql.{dialect}"
    assert stream.driver == dialect
    assert stream.engine_str == f"{dialect}:///{tmp_path / 'some.db'}"
    assert isinstance(stream.log_str, str)
    assert "flights" in stream.log_str
    assert (stream.con, stream.connected) == (None, False)
    assert (stream.db_name, stream.dialect, stream.username, stream.host, stream.port) == (
        "some.db",
        dialect,
        "me",
        "there",
        "1",
    )
    assert stream.connect() is True
    assert isinstance(stream.con, sqlalchemy.engine.Engine)
    assert stream.connected is True
    stream.stop()


def test_no_secret_is_in_what_a_stream_says_of_itself(tmp_path: Path) -> None:
    stream = Stream2Sql("flights", "some.db", "sqlite", "me", "top secret", home=tmp_path)
    said = [repr(stream), str(stream), stream.log_str, stream.describe(), stream.identity, str(stream.status())]
    assert not [each for each in said if "top secret" in each]


def test_a_stream_itself_can_not_stream(tmp_path: Path) -> None:
    stream = Stream("flights", home=tmp_path)
    with pytest.raises(AttributeError, match="inherit"):
        stream.stream(frame(1))
    with pytest.raises(AttributeError, match="inherit"):
        stream.start()
    assert not stream.lock.locked()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", MAKERS)
def test_a_store_s_stream_is_not_polled(make: Callable[..., Stream], tmp_path: Path) -> None:
    if make is local:
        stream: Stream = Stream("flights", store=True, home=tmp_path)
    else:
        stream = make(tmp_path, store=True)
    with pytest.raises(AttributeError, match="Store"):
        stream.start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dialect", ["oracle", "microsoft_sql"])
def test_the_dialects_that_were_to_come_soon_are_there(dialect: str, tmp_path: Path) -> None:
    stream = Stream2Sql("flights", "db", dialect, "me", "secret", "host", home=tmp_path)
    assert stream.describe().startswith(f"{dialect} ")
    assert "secret" not in repr(vars(stream))


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (sqlite, {"if_exists": "upsert"}, "append, replace, fail"),
        (sqlite, {"chunk_size": -1}, "chunk_size"),
        (sqlite, {"chunk_size": True}, "chunk_size"),
        (sqlite, {"chunk_size": 1.5}, "chunk_size"),
        (sqlite, {"durability": "none"}, "full, process"),
        (sqlite, {"schema": "strict"}, "evolve, freeze"),
        (sqlite, {"max_backlog_bytes": -1}, "max_backlog_bytes"),
        (local, {"chunk_size": -1}, "chunk_size"),
        (local, {"mode": "append"}, "shard, update, replace"),
        (local, {"fmt": "xlsx"}, "parquet, json, csv, pickle"),
    ],
)
def test_an_argument_that_can_not_be_used_is_a_value_error_that_says_what_can(
    make: Callable[..., Stream], options: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        make(tmp_path, **options)
    assert isinstance(caught.value, ConfigurationError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("db_name", ["", ":memory:", "a\0b"])
@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_a_database_that_is_no_file_is_refused(db_name: str, dialect: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="db_name"):
        Stream2Sql("flights", db_name, dialect, home=tmp_path)


def test_an_unknown_dialect_is_a_value_error_that_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="duckdb, sqlite, postgresql"):
        Stream2Sql("flights", "db", "dbase", home=tmp_path)


@pytest.mark.disk_journal
@pytest.mark.parametrize("make", [*MAKERS, lambda home: Stream("flights", home=home)])
def test_constructors_make_nothing_on_disk_and_start_no_thread(make: Callable[..., Stream], tmp_path: Path) -> None:
    before = threading.active_count()
    stream = make(tmp_path / "home")
    assert stream.status() == StreamStatus(False, 0, 0, 0, 0, 0, 0, 0, 0, None, 0.0)
    assert repr(stream)
    assert threading.active_count() <= before
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use the current folder as the project's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_home_is_what_is_given_else_the_variable_s_else_the_current_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Stream2Local("flights").home == here
    monkeypatch.setenv("API2DB_HOME", str(here / "other"))
    assert Stream2Local("flights").home == here / "other"
    assert Stream2Local("flights", home="given").home == here / "given"


def test_shards_lie_in_store_name_fmt_named_by_their_frame_s_time(here: Path) -> None:
    for fmt in ("parquet", "json", "csv", "pickle"):
        with Stream2Local("flights", fmt=fmt) as stream:
            stream.q.put(frame(1))
            stream.q.put(frame(2))
        names = sorted(path.name for path in (here / "STORE" / "flights" / fmt).iterdir())
        assert len(names) == 2
        for name in names:
            time, ending = name.split(".")
            assert ending == fmt
            assert abs(int(time) / 1e9 - pd.Timestamp.now().timestamp()) < 60


@pytest.mark.parametrize("mode", ["update", "replace"])
@pytest.mark.parametrize("fmt", ["parquet", "json", "csv", "pickle"])
def test_the_one_file_is_cache_name_static_fmt(mode: str, fmt: str, here: Path) -> None:
    with Stream2Local("flights", mode=mode, fmt=fmt) as stream:
        stream.q.put(frame(1))
    loaded = FileConverter.static_load_df(f"CACHE/flights_static.{fmt}", fmt)
    assert loaded is not None
    pd.testing.assert_frame_equal(loaded, frame(1))


def test_a_path_is_below_the_home_or_anywhere(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    with local(home, path="shards/here") as stream:
        stream.q.put(frame(1))
    with local(home, path=str(elsewhere / "one.csv"), mode="replace", fmt="csv") as stream:
        stream.q.put(frame(1))
    assert len(list((home / "shards" / "here").glob("*.parquet"))) == 1
    assert (elsewhere / "one.csv").exists()


def test_dtypes_are_learnt_into_cache_name_dtypes_json_and_taken_from_there(here: Path) -> None:
    with Stream2Local("flights") as stream:
        assert stream.dtypes is None
        stream.q.put(frame(1))
    assert "id" in json.loads((here / "CACHE" / "flights_dtypes.json").read_text())
    again = Stream2Local("flights")
    assert again.dtypes is not None
    assert list(again.dtypes) == ["id", "text"]
    frame(1).astype(again.dtypes)


@pytest.mark.disk_journal
def test_the_journal_lies_in_store_journal_collector(here: Path) -> None:
    stream = Stream2Local("flights")
    stream.q.put(frame(1))
    stream.stop()
    assert (here / "STORE" / "journal" / "flights" / "state.sqlite").exists()
    assert [path.name for path in here.iterdir()] == ["STORE"]


def test_the_retry_depth_of_a_call_is_not_that_of_later_frames(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream2Sql("flights", "flights.sqlite", "sqlite")
    failures: list[int] = []

    def fail(*_: object) -> None:
        failures.append(1)
        raise TargetUnavailableError("down")

    with monkeypatch.context() as down:
        down.setattr(SqlTarget, "load", fail)
        stream.stream(frame(1), retry_depth=0)
    stream.check_failures()
    assert stream.flush(20)
    failures.clear()
    with monkeypatch.context() as down:
        down.setattr(SqlTarget, "load", fail)
        stream.q.put(frame(2))
        assert eventually(lambda: stream.status().rows_parked == 1)
        assert len(failures) > 5
    stream.check_failures()
    assert stream.flush(20)
    stream.stop()


@pytest.mark.disk_journal
@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_a_parked_batch_is_store_upload_failed_collector_stream_type_time_parquet(dialect: str, here: Path) -> None:
    (here / "db").mkdir()
    stream = Stream2Sql("flights", "db", dialect)
    call: Callable[..., object] = stream.stream
    answer = call(frame(1, 2), retry_depth=0)
    assert answer is None
    [path] = (here / "STORE" / "upload_failed" / "flights" / f"sql.{dialect}").iterdir()
    assert path.stem.isdigit()
    assert path.suffix == ".parquet"
    assert pyarrow.parquet.read_table(path).column("id").to_pylist() == [1, 2]
    assert stream.status().rows_parked == 2
    (here / "db").rmdir()
    stream.check_failures()
    assert stream.flush(20)
    assert not path.exists()
    eventually(lambda: stream.status().rows_parked == 0)
    stream.stop()


@pytest.mark.disk_journal
def test_a_local_stream_parks_in_upload_failed_collector_local(here: Path) -> None:
    stream = Stream2Local("flights", path="place/file.parquet", mode="update")
    (here / "place").touch()
    stream.q.put(frame(1))
    stream.start()
    folder = here / "STORE" / "upload_failed" / "flights" / "local"
    [path] = eventually(lambda: list(folder.glob("[0-9]*.parquet")))
    (here / "place").unlink()
    stream.check_failures()
    assert stream.flush(20)
    assert not path.exists()
    stream.stop()


@pytest.mark.disk_journal
def test_rejected_rows_are_store_rejected_collector_stream_type_time_parquet(here: Path) -> None:
    with Stream2Sql("flights", "db", "sqlite") as stream:
        stream.stream(pd.DataFrame({"n": [1]}))
        stream.stream(pd.DataFrame({"n": ["x"]}))
    [path] = (here / "STORE" / "rejected" / "flights" / "sql.sqlite").iterdir()
    assert path.stem.isdigit()
    assert path.suffix == ".parquet"
    [row] = rejected_rows(here, "sql.sqlite")
    assert list(row) == ["n", "_api2db_reason", "_api2db_frame_ns"]
    assert row["_api2db_frame_ns"] == int(path.stem)


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_files_are_for_their_owner_alone_whatever_the_umask(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api2db.targets.duckdb._IDLE_S", 60)
    home = here / "home"
    streams: list[Stream] = [
        sqlite(home),
        duckdb(home),
        local(home),
        local(home, mode="update"),
        Stream2Sql("flights", "odd/place.sqlite", "sqlite", home=home),
    ]
    (home / "odd").parent.mkdir()
    home.chmod(0o700)
    modes: dict[str, int] = {}

    def look() -> None:
        for path in home.rglob("*"):
            with suppress(FileNotFoundError):  # a temporary file
                modes[str(path.relative_to(home))] = path.stat().st_mode & 0o777

    for stream in streams:
        stream.stream(frame(1))
        look()
    streams[0].stream(pd.DataFrame({"id": ["x"]}))
    parked = Stream2Sql("flights", "STORE", "sqlite", home=home)
    parked.stream(frame(1), retry_depth=0)
    look()
    for stream in [*streams, parked]:
        stream.stop()
    assert {name: oct(mode) for name, mode in modes.items() if mode not in {0o600, 0o700}} == {}
    folders = {name for name, mode in modes.items() if mode == 0o700}
    assert folders == {str(path.relative_to(home)) for path in home.rglob("*") if path.is_dir()}
    assert {"flights.sqlite", "flights.duckdb", "flights.duckdb.wal", "odd/place.sqlite"} <= modes.keys()
    assert not (home / "flights.duckdb.wal").exists()


def test_the_status_is_a_frozen_dataclass_with_the_figures_of_the_issue() -> None:
    names = [field.name for field in dataclasses.fields(StreamStatus)]
    assert names == [
        "running",
        "frames_waiting",
        "rows_waiting",
        "frames_delivered",
        "rows_delivered",
        "rows_parked",
        "rows_rejected",
        "rows_superseded",
        "duplicates_dropped",
        "last_error",
        "lag_s",
    ]
    status = StreamStatus(False, 0, 0, 0, 0, 0, 0, 0, 0, None, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.running = True  # type: ignore[misc]


def test_chunk_size_works_where_the_spec_says_not_supported(tmp_path: Path) -> None:
    with sqlite(tmp_path, chunk_size=2) as stream:
        stream.q.put(frame(1, 2, 3))
    with sqlite3.connect(tmp_path / "flights.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM flights").fetchone() == (3,)
    connection.close()
