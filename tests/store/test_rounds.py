"""A round of a store: each row of each shard once, whatever is wrong with one of them, and nothing goes before that."""

import json
import logging
import os
import shutil
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from api2db import FileConverter, Store, Store2Sql, Stream2Local
from api2db.errors import ConfigurationError, DataError, FolderBusyError, TargetUnavailableError
from api2db.formats import FORMATS, read_frame, write_frame
from api2db.shards import manifest as manifests
from api2db.shards import moving as putting_away
from api2db.shards.compose import as_frame, compose
from api2db.shards.manifest import MANIFEST_NAME
from api2db.shards.shards import locked
from api2db.store.rejected import put_back
from api2db.targets.sql import SqlTarget
from tests.faults.disks import fill, small_disk
from tests.shards.killing import interrupted
from tests.store.homes import (
    cut_short,
    left,
    loaded,
    put_shards,
    query,
    rows_of,
    shards,
    sqlite_store,
)
from tests.stream.cases import rejected_rows
from tests.stream.eventually import eventually


@pytest.mark.parametrize("fmt", FORMATS)
def test_shards_of_each_format_are_loaded_in_the_order_of_their_names(tmp_path: Path, fmt: str) -> None:
    put_shards(tmp_path, [2, 1, 3], fmt)
    sqlite_store(tmp_path, fmt=fmt).store()
    assert loaded(tmp_path) == rows_of(1, 2, 3)
    assert left(tmp_path, fmt) == []


def test_what_stream2local_has_left_is_loaded_by_default(tmp_path: Path) -> None:
    with Stream2Local("flights", home=tmp_path) as stream:
        for n in range(3):
            stream.q.put(pd.DataFrame({"n": [n, n], "row": [0, 1]}))
    sqlite_store(tmp_path).store()
    assert loaded(tmp_path) == rows_of(0, 1, 2)


def test_the_next_round_takes_what_came_meanwhile(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path)
    for n in (1, 2, 3):
        put_shards(tmp_path, [n])
        store.store()
    assert loaded(tmp_path) == rows_of(1, 2, 3)
    status = store.status()
    assert (status.frames_delivered, status.rows_delivered, status.frames_waiting) == (3, 6, 0)


def test_a_folder_that_is_not_there_yet_or_empty_is_no_fault(tmp_path: Path) -> None:
    sqlite_store(tmp_path).store()
    shards(tmp_path).mkdir(parents=True)
    sqlite_store(tmp_path).store()
    assert not (tmp_path / "flights.sqlite").exists()


def test_shards_of_no_rows_go_too(tmp_path: Path) -> None:
    shards(tmp_path).mkdir(parents=True)
    write_frame(pd.DataFrame({"n": pd.Series([], dtype="int64")}), shards(tmp_path) / "1.parquet", "parquet")
    sqlite_store(tmp_path).store()
    assert left(tmp_path) == []


def test_rows_that_repeat_are_dropped_and_counted(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2])
    put_shards(tmp_path, [3])
    frame = read_frame(shards(tmp_path) / "001.parquet", "parquet")
    write_frame(frame, shards(tmp_path) / "004.parquet", "parquet")
    store = sqlite_store(tmp_path)
    store.store()
    assert loaded(tmp_path) == rows_of(1, 2, 3)
    assert (store.status().rows_delivered, store.status().duplicates_dropped) == (6, 2)


def test_columns_that_do_not_count_are_left_out_when_rows_are_compared(tmp_path: Path) -> None:
    shards(tmp_path).mkdir(parents=True)
    for number in (1, 2):
        frame = pd.DataFrame({"n": [number // 2, 7], "row": [0, 0], "request_millis": [number * 10, number * 10 + 1]})
        write_frame(frame, shards(tmp_path) / f"{number}.parquet", "parquet")
    sqlite_store(tmp_path, drop_duplicate_exclude=["request_millis"]).store()
    assert query(tmp_path, "SELECT n, request_millis FROM flights ORDER BY rowid") == [(0, 10), (7, 11), (1, 20)]


def test_the_composed_file_holds_the_shards_and_the_shards_are_moved(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2, 3])
    sqlite_store(tmp_path, move_shards_path="moved", move_composed_path="composed").store()
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == [f"00{n}.parquet" for n in (1, 2, 3)]
    assert read_frame(tmp_path / "composed" / "001_003.parquet", "parquet")["n"].tolist() == [1, 1, 2, 2, 3, 3]
    assert loaded(tmp_path) == rows_of(1, 2, 3)


def test_a_torn_shard_stays_and_is_named_and_the_others_are_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_shards(tmp_path, [1, 2, 3])
    torn = shards(tmp_path) / "002.parquet"
    torn.write_bytes(torn.read_bytes()[:-20])
    store = sqlite_store(tmp_path)
    with caplog.at_level(logging.ERROR):
        store.store()
    assert loaded(tmp_path) == rows_of(1, 3)
    assert left(tmp_path) == ["002.parquet"]
    assert "002.parquet" in caplog.text


def test_a_shard_in_another_format_stays_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_shards(tmp_path, [1])
    write_frame(pd.DataFrame({"n": [9]}), shards(tmp_path) / "002.parquet", "csv")
    sqlite_store(tmp_path).store()
    assert left(tmp_path) == ["002.parquet"]
    assert "002.parquet" in caplog.text


def test_rows_of_a_shard_of_another_type_are_set_aside_and_the_round_ends(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2])
    write_frame(pd.DataFrame({"n": ["x"], "row": [0]}), shards(tmp_path) / "003.parquet", "parquet")
    put_shards(tmp_path, [4])
    store = sqlite_store(tmp_path)
    store.store()
    assert loaded(tmp_path) == rows_of(1, 2, 4)
    assert left(tmp_path) == []
    [rejected] = rejected_rows(tmp_path, "store.sql.sqlite")
    assert (rejected["n"], rejected["row"]) == ("x", 0)
    assert "text does not fit the column's type" in rejected["_api2db_reason"]
    assert store.status().last_error is None


def test_rows_of_another_type_are_loaded_by_key_as_those_of_a_stream_are(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    for number, column in ((2, "kept"), (3, "kept"), (4, "n")):
        frame = pd.DataFrame({"row": [0], column: [number if column == "n" else "x"]})
        write_frame(frame, shards(tmp_path) / f"{number:03}.parquet", "parquet")
    sqlite_store(tmp_path, keys=["row"]).store()
    assert query(tmp_path, "SELECT n, row, kept FROM flights ORDER BY row") == [(4, 0, "x"), (1, 1, None)]


def test_rows_that_are_put_again_never_replace_newer_ones_of_their_key(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    write_frame(pd.DataFrame({"n": ["x"], "row": [0]}), shards(tmp_path) / "002.parquet", "parquet")
    store = sqlite_store(tmp_path, keys=["row"])
    store.store()
    [path] = (tmp_path / "STORE" / "rejected" / "flights" / "store.sql.sqlite").glob("*.parquet")
    put_back(tmp_path, str(path.relative_to(tmp_path)))
    store.store()
    assert loaded(tmp_path) == rows_of(1)
    [rejected] = rejected_rows(tmp_path, "store.sql.sqlite")
    assert set(rejected) == {"n", "row", "_api2db_reason", "_api2db_frame_ns"}


def test_a_round_of_mixed_types_replaces_the_table_as_one_frame(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path, if_exists="replace")
    put_shards(tmp_path, [1])
    write_frame(pd.DataFrame({"n": ["x"], "row": [2]}), shards(tmp_path) / "002.parquet", "parquet")
    store.store()
    assert query(tmp_path, "SELECT n, row FROM flights ORDER BY row") == [("1", 0), ("1", 1), ('"x"', 2)]


def test_a_method_of_a_user_gets_mixed_types_as_one_frame(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    write_frame(pd.DataFrame({"n": ["x"], "row": [2]}), shards(tmp_path) / "002.parquet", "parquet")
    store = Kept(tmp_path)
    store.store()
    [frame] = store.frames
    assert frame["n"].tolist() == [1, 1, "x"]


def test_rows_that_repeat_are_dropped_also_where_a_column_has_two_types(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    for number in (2, 3):
        write_frame(pd.DataFrame({"n": ["one"], "row": [0]}), shards(tmp_path) / f"{number:03}.parquet", "parquet")
    store = sqlite_store(tmp_path)
    store.store()
    assert loaded(tmp_path) == rows_of(1)
    status = store.status()
    assert (status.rows_delivered, status.rows_rejected, status.duplicates_dropped) == (2, 1, 1)


def test_a_restart_goes_on_behind_the_shard_of_another_type_that_it_was_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shards(tmp_path, [1, 3, 5])
    for number in (2, 4):
        write_frame(pd.DataFrame({"n": ["x"], "row": [number]}), shards(tmp_path) / f"{number:03}.parquet", "parquet")
    real, dies_at = SqlTarget.load, iter(range(100))

    def load(*arguments: Any) -> None:
        if next(dies_at) % 2:
            raise KeyboardInterrupt
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(SqlTarget, "load", load)
    for _ in range(20):
        with suppress(KeyboardInterrupt):
            sqlite_store(tmp_path, chunk_size=1).store()
    assert left(tmp_path) == []
    assert loaded(tmp_path) == rows_of(1, 3, 5)
    assert [row["row"] for row in rejected_rows(tmp_path, "store.sql.sqlite")] == [2, 4]


def test_whole_numbers_of_one_shard_join_the_fractions_of_the_next(tmp_path: Path) -> None:
    put_shards(tmp_path, [1], price=[5, 6])
    put_shards(tmp_path, [2], price=[5.5, 6.5])
    sqlite_store(tmp_path).store()
    assert query(tmp_path, "SELECT price FROM flights ORDER BY rowid") == [(5.0,), (6.0,), (5.5,), (6.5,)]


def test_rows_that_the_target_refuses_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2, 3])
    query(tmp_path, "CREATE TABLE flights (n BIGINT CHECK (n <> 2), row BIGINT)")
    store = sqlite_store(tmp_path)
    store.store()
    assert loaded(tmp_path) == rows_of(1, 3)
    [path] = (tmp_path / "STORE" / "rejected" / "flights" / "store.sql.sqlite").glob("*.parquet")
    rejected = pq.read_table(path)
    assert rejected.column("n").to_pylist() == [2, 2]
    assert all("CHECK" in reason for reason in rejected.column("_api2db_reason").to_pylist())
    assert store.status().rows_rejected == 2
    assert left(tmp_path) == []


def test_refused_rows_of_a_shard_that_a_person_has_named_were_put_when_it_was_written(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    written_ns = (shards(tmp_path) / "001.parquet").stat().st_mtime_ns
    query(tmp_path, "CREATE TABLE flights (n BIGINT CHECK (n <> 1), row BIGINT)")
    sqlite_store(tmp_path).store()
    [path] = (tmp_path / "STORE" / "rejected" / "flights" / "store.sql.sqlite").glob("*.parquet")
    assert pq.read_table(path).column("_api2db_frame_ns").to_pylist() == [written_ns, written_ns]


def test_refused_rows_that_are_put_back_are_loaded_by_the_next_round(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2])
    query(tmp_path, "CREATE TABLE flights (n BIGINT CHECK (n <> 2), row BIGINT)")
    store = sqlite_store(tmp_path)
    store.store()
    [path] = (tmp_path / "STORE" / "rejected" / "flights" / "store.sql.sqlite").glob("*.parquet")
    query(tmp_path, "DROP TABLE flights")
    assert put_back(tmp_path, str(path.relative_to(tmp_path))) == 2
    assert not path.exists()
    put_shards(tmp_path, [3])
    store.store()
    assert sorted(query(tmp_path, "SELECT * FROM flights")) == rows_of(2, 3)


def test_refused_rows_of_csv_shards_are_left_to_a_person(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2], "csv")
    query(tmp_path, "CREATE TABLE flights (n BIGINT CHECK (n <> 2), row BIGINT)")
    sqlite_store(tmp_path, fmt="csv").store()
    [path] = (tmp_path / "STORE" / "rejected" / "flights" / "store.sql.sqlite").glob("*.parquet")
    with pytest.raises(ConfigurationError, match="yourself"):
        put_back(tmp_path, str(path.relative_to(tmp_path)))
    assert path.exists()


def test_a_target_that_stays_unavailable_is_an_error_and_the_shards_stay(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2])
    (tmp_path / "flights.sqlite").mkdir()
    store = sqlite_store(tmp_path)
    with pytest.raises(TargetUnavailableError, match="can't be opened"):
        store.store()
    assert left(tmp_path) == [MANIFEST_NAME, "001.parquet", "002.parquet"]
    (tmp_path / "flights.sqlite").rmdir()
    put_shards(tmp_path, [3])
    store.store()
    assert loaded(tmp_path) == rows_of(1, 2, 3)
    assert left(tmp_path) == []


def test_an_unreadable_folder_is_a_clear_error(tmp_path: Path) -> None:
    shards(tmp_path).parent.mkdir(parents=True)
    shards(tmp_path).write_text("no folder")
    with pytest.raises(OSError, match="STORE/flights/parquet"):
        sqlite_store(tmp_path).store()


def test_where_the_composed_file_does_not_fit_nothing_goes_and_the_next_round_does_it(tmp_path: Path) -> None:
    put_shards(tmp_path, range(1, 30))
    with small_disk(tmp_path / "small", "64k") as small:
        fill(small / "ballast")
        store = sqlite_store(tmp_path, move_composed_path=str(small / "composed"))
        with pytest.raises(OSError, match="No space left"):
            store.store()
        assert left(tmp_path) == [f"{n:03}.parquet" for n in range(1, 30)]
        (small / "ballast").unlink()
        store.store()
        assert [path.name for path in (small / "composed").iterdir()] == ["001_029.parquet"]
    assert loaded(tmp_path) == rows_of(*range(1, 30))


@pytest.mark.parametrize("options", [{}, {"move_composed_path": "composed"}], ids=["loading", "composing too"])
def test_where_the_manifest_does_not_fit_nothing_is_loaded_and_the_next_round_does_it(
    tmp_path: Path, options: dict[str, str]
) -> None:
    put_shards(tmp_path, range(1, 9))
    with small_disk(tmp_path / "small", "128k") as small:
        for shard in shards(tmp_path).iterdir():
            shutil.copy(shard, small)
        fill(small / "ballast")
        store = sqlite_store(tmp_path, path=str(small), **options)
        with pytest.raises(OSError, match=r"No space left.*small/\.api2db_manifest\.json"):
            store.store()
        assert len(list(small.glob("*.parquet"))) == 8
        assert not (tmp_path / "flights.sqlite").exists()
        assert not list(tmp_path.glob("composed/.*"))
        (small / "ballast").unlink()
        store.store()
        assert list(small.iterdir()) == []
    assert loaded(tmp_path) == rows_of(*range(1, 9))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and delete everything")
def test_a_folder_that_may_not_be_read_is_a_clear_error(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    shards(tmp_path).chmod(0)
    try:
        with pytest.raises(PermissionError):
            sqlite_store(tmp_path).store()
    finally:
        shards(tmp_path).chmod(0o700)


def test_a_folder_is_held_by_one_store_at_a_time(tmp_path: Path) -> None:
    put_shards(tmp_path, [1])
    with locked(shards(tmp_path)), pytest.raises(FolderBusyError, match="another caller"):
        sqlite_store(tmp_path).store()
    sqlite_store(tmp_path).store()
    assert loaded(tmp_path) == rows_of(1)


@pytest.mark.parametrize("option", ["move_shards_path", "move_composed_path"])
def test_shards_and_composed_files_go_to_other_folders(tmp_path: Path, option: str) -> None:
    put_shards(tmp_path, [1])
    with pytest.raises(ConfigurationError, match="another folder"):
        sqlite_store(tmp_path, **{option: "STORE/flights/parquet"}).store()
    assert left(tmp_path) == ["001.parquet"]


def test_a_round_of_another_store_that_was_cut_short_stops_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shards(tmp_path, [1])
    cut_short(monkeypatch, "put_away", sqlite_store(tmp_path))
    other = Store2Sql("flights", 60, "other.sqlite", "sqlite", home=tmp_path)
    with pytest.raises(ConfigurationError, match=r"flights\.sqlite.*not by"):
        other.store()
    sqlite_store(tmp_path).store()
    assert loaded(tmp_path) == rows_of(1)


def test_a_shard_that_goes_while_it_is_being_stored_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_shards(tmp_path, [1, 2])
    cut_short(monkeypatch, "_load", sqlite_store(tmp_path))
    (shards(tmp_path) / "001.parquet").rename(tmp_path / "kept")
    with pytest.raises(DataError, match=r"001\.parquet.*restore the file") as caught:
        sqlite_store(tmp_path).store()
    assert MANIFEST_NAME in str(caught.value)
    (tmp_path / "kept").rename(shards(tmp_path) / "001.parquet")
    sqlite_store(tmp_path).store()
    assert loaded(tmp_path) == rows_of(1, 2)


def test_a_copy_of_the_project_that_was_cut_short_at_the_same_round_loads_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    put_shards(one, [1, 2])
    stores = [Store2Sql("flights", 60, str(tmp_path / "flights.sqlite"), "sqlite", home=home) for home in (one, other)]
    cut_short(monkeypatch, "_load", stores[0])
    shutil.copytree(one, other)
    for store in stores:
        store.store()
    assert loaded(tmp_path) == rows_of(1, 2)
    assert left(one) == left(other) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 4}', b'{"version": 4, "store": {}}'])
def test_a_damaged_manifest_stops_before_anything_is_touched(tmp_path: Path, content: bytes) -> None:
    put_shards(tmp_path, [1])
    (shards(tmp_path) / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(ConfigurationError, match="damaged"):
        sqlite_store(tmp_path).store()
    assert left(tmp_path) == [MANIFEST_NAME, "001.parquet"]


@pytest.mark.parametrize("name", [".api2db_compose.json", ".api2db_store.json", MANIFEST_NAME])
def test_a_manifest_of_another_version_stops_before_anything_is_touched(tmp_path: Path, name: str) -> None:
    put_shards(tmp_path, [1])
    (shards(tmp_path) / name).write_text('{"version": 3}')
    with pytest.raises(ConfigurationError, match=f"{name} was left by another version of api2db.*run that version"):
        sqlite_store(tmp_path).store()
    assert left(tmp_path) == [name, "001.parquet"]


@pytest.mark.parametrize(
    "change", [{"shards": [["../precious", 1, 1]]}, {"files": [["/tmp/precious", "/tmp/x", 1, 1]]}]
)
def test_a_forged_manifest_touches_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    put_shards(tmp_path, [1])
    cut_short(monkeypatch, "put_away", sqlite_store(tmp_path))
    path = shards(tmp_path) / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigurationError, match="damaged"):
        sqlite_store(tmp_path).store()


def test_what_a_composing_call_has_left_is_finished_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_shards(tmp_path, [1])
    with interrupted(monkeypatch, manifests, "put_away"):
        compose(shards(tmp_path), "parquet", as_frame, composed_to=tmp_path / "composed")
    put_shards(tmp_path, [2])
    sqlite_store(tmp_path).store()
    assert loaded(tmp_path) == rows_of(2)
    assert left(tmp_path) == []


def test_a_folder_in_which_a_store_was_cut_short_is_not_composed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_shards(tmp_path, [1, 2])
    cut_short(monkeypatch, "put_away", sqlite_store(tmp_path))
    with pytest.raises(ConfigurationError, match=rf"{MANIFEST_NAME}.*run that store again"):
        compose(shards(tmp_path), "parquet", as_frame, composed_to=tmp_path / "composed")
    assert FileConverter.static_compose_df_from_dir(str(shards(tmp_path)), "parquet") is None
    assert MANIFEST_NAME in caplog.text
    assert left(tmp_path) == [MANIFEST_NAME, "001.parquet", "002.parquet"]
    sqlite_store(tmp_path).store()
    assert loaded(tmp_path) == rows_of(1, 2)


def test_a_new_shard_under_the_name_of_one_that_is_loaded_is_stored_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shards(tmp_path, [1, 2])
    cut_short(monkeypatch, "put_away", sqlite_store(tmp_path))
    put_shards(tmp_path, [7])
    (shards(tmp_path) / "007.parquet").replace(shards(tmp_path) / "001.parquet")
    sqlite_store(tmp_path).store()
    assert loaded(tmp_path) == rows_of(1, 2, 7)
    assert left(tmp_path) == []


def test_a_new_shard_under_the_name_of_one_that_is_not_loaded_yet_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shards(tmp_path, [1, 2])
    cut_short(monkeypatch, "_load", sqlite_store(tmp_path))
    put_shards(tmp_path, [1])
    with pytest.raises(DataError, match=r"001\.parquet is another file"):
        sqlite_store(tmp_path).store()
    assert left(tmp_path) == [MANIFEST_NAME, "001.parquet", "002.parquet"]


@pytest.mark.parametrize("dies_before", ["copies", "unlink", "publish", "drop"])
def test_a_chain_of_stores_over_two_file_systems_loads_each_shard_once_in_each(
    tmp_path: Path, other_file_system: Path, monkeypatch: pytest.MonkeyPatch, dies_before: str
) -> None:
    put_shards(tmp_path, [1, 2])
    first = sqlite_store(tmp_path, move_shards_path=str(other_file_system))
    second = Store2Sql("next", 60, "next.sqlite", "sqlite", path=str(other_file_system), home=tmp_path)
    owner, name = {
        "copies": (putting_away, "_copied"),
        "unlink": (putting_away, "_finish_moving"),
        "publish": (putting_away, "publish"),
        "drop": (manifests, "drop_manifest"),
    }[dies_before]
    with interrupted(monkeypatch, owner, name, after=1 if name == "publish" else 0):
        first.store()
    for store in (second, first, second):
        store.store()
    assert loaded(tmp_path) == rows_of(1, 2)
    with closing(sqlite3.connect(tmp_path / "next.sqlite")) as connection:
        assert sorted(connection.execute("SELECT n, row FROM next")) == rows_of(1, 2)
    assert left(tmp_path) == []
    assert list(other_file_system.iterdir()) == []


def test_replace_makes_the_table_what_the_newest_round_has_loaded(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path, if_exists="replace", chunk_size=1)
    put_shards(tmp_path, [1, 2])
    store.store()
    assert loaded(tmp_path) == rows_of(1, 2)
    put_shards(tmp_path, [3])
    store.store()
    assert loaded(tmp_path) == rows_of(3)


def test_fail_refuses_a_table_that_another_has_made_and_not_its_own(tmp_path: Path) -> None:
    store = sqlite_store(tmp_path, if_exists="fail")
    for n in (1, 2):
        put_shards(tmp_path, [n])
        store.store()
    assert loaded(tmp_path) == rows_of(1, 2)
    other = tmp_path / "other"
    put_shards(other, [3])
    query(other, "CREATE TABLE flights (n BIGINT, row BIGINT)")
    with pytest.raises(TargetUnavailableError, match="if_exists='fail'"):
        sqlite_store(other, if_exists="fail").store()
    assert left(other) == [MANIFEST_NAME, "003.parquet"]


@pytest.mark.parametrize("dies_in", ["_note_stored", "_note_end"])
def test_a_table_that_a_store_has_made_is_its_own_also_where_it_died_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    put_shards(tmp_path, [1])
    with interrupted(monkeypatch, Store, dies_in):
        sqlite_store(tmp_path, if_exists="fail").store()
    put_shards(tmp_path, [2])
    store = sqlite_store(tmp_path, if_exists="fail")
    store.store()
    assert loaded(tmp_path) == rows_of(1, 2)
    assert (store.status().frames_delivered, store.status().rows_delivered) == (2, 4)


def test_a_round_that_died_at_its_end_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_shards(tmp_path, [1, 2])
    store = sqlite_store(tmp_path)
    cut_short(monkeypatch, "drop_manifest", store)
    store.store()
    assert (store.status().frames_delivered, store.status().rows_delivered) == (2, 4)


def test_columns_get_the_dtypes_of_the_store_and_rows_that_do_not_fit_are_set_aside(tmp_path: Path) -> None:
    put_shards(tmp_path, [1], price="1.5")
    put_shards(tmp_path, [2], price="cheap")
    store = sqlite_store(tmp_path, dtypes={"price": "float64"})
    assert store.dtypes == {"price": "float64"}
    store.store()
    assert query(tmp_path, "SELECT n, price FROM flights") == [(1, 1.5), (1, 1.5)]
    assert store.status().rows_rejected == 2
    assert left(tmp_path) == []


def test_rows_are_upserted_by_key(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2, 3])
    sqlite_store(tmp_path, keys=["row"]).store()
    assert query(tmp_path, "SELECT n, row FROM flights ORDER BY row") == [(3, 0), (3, 1)]


class Kept(Store):
    """A store of a user's own."""

    def __init__(self, home: Path, fails: int = 0) -> None:
        super().__init__("flights", 60, home=home)
        self.fails = fails
        self.frames: list[pd.DataFrame] = []

    def stream(self, data: pd.DataFrame) -> None:
        self.frames.append(data)
        if len(self.frames) <= self.fails:
            raise ConnectionError("no bucket")


def test_a_method_of_a_user_gets_the_composed_frame_and_again_where_it_raised(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2])
    store = Kept(tmp_path, fails=1)
    with pytest.raises(ConnectionError):
        store.store()
    put_shards(tmp_path, [3])
    store.store()
    assert [frame["n"].tolist() for frame in store.frames] == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3]]
    assert left(tmp_path) == []


def test_a_method_that_ends_the_program_is_told_as_what_went_wrong(tmp_path: Path) -> None:
    class Exits(Store):
        def stream(self, data: pd.DataFrame) -> None:
            raise SystemExit("no more")

    put_shards(tmp_path, [1])
    store = Exits("flights", 60, home=tmp_path)
    with pytest.raises(SystemExit):
        store.store()
    assert store.status().last_error == "no more"


def test_what_a_method_raises_is_kept_for_the_status_without_its_secrets(tmp_path: Path) -> None:
    class Refused(Store):
        def stream(self, data: pd.DataFrame) -> None:
            raise ConnectionError("refused at https://me:s3cret@api.example")

    put_shards(tmp_path, [1])
    store = Refused("flights", 60, home=tmp_path)
    with pytest.raises(ConnectionError):
        store.store()
    assert store.status().last_error == "refused at https://***@api.example"


def test_shards_that_a_stream_writes_meanwhile_are_loaded_once(tmp_path: Path) -> None:
    store, ended = sqlite_store(tmp_path), threading.Event()

    def keep_storing() -> None:
        while not ended.is_set():
            store.store()

    thread = threading.Thread(target=keep_storing)
    thread.start()
    try:
        with Stream2Local("flights", home=tmp_path) as stream:
            for n in range(60):
                stream.q.put(pd.DataFrame({"n": [n, n], "row": [0, 1]}))
        eventually(lambda: not list(shards(tmp_path).glob("[!.]*")))
    finally:
        ended.set()
        thread.join()
    store.store()
    assert loaded(tmp_path) == rows_of(*range(60))
    assert store.status().frames_delivered == 60
