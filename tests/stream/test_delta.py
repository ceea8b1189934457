"""Stream2Delta: what it promises beyond the behaviour that all targets share."""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Field, Transaction, write_deltalake
from deltalake.schema import PrimitiveType

from api2db import Stream2Delta
from api2db.errors import (
    ConfigurationError,
    LedgerMovedError,
    TableChangedError,
    TargetUnavailableError,
)
from api2db.stream.stream2delta import _location
from api2db.targets.delta import DeltaTarget, TableLocation
from api2db.targets.delta._location import library
from api2db.targets.port import LedgerRow, LedgerUpdate
from tests.stream.cases import COLLECTOR, frame, rejected_rows
from tests.stream.lakes import DELTA, delta_rows, delta_types, make_delta_table, stream_into_delta
from tests.stream.test_lakes import EPOCH, ROWS, STREAM, WAYS, load


@pytest.fixture
def place(tmp_path: Path) -> TableLocation:
    return _location(DELTA, {}, tmp_path)


def owner(place: TableLocation, **options: Any) -> DeltaTarget:
    """A target of the stream that has read its ledger."""
    made = DeltaTarget(place, **{"if_exists": "append", "schema": "evolve", **options})
    made.connect()
    made.read_position(STREAM)
    return made


@pytest.mark.parametrize("way", WAYS)
def test_a_load_beside_the_gathering_of_small_files_is_there_once(
    place: TableLocation, tmp_path: Path, way: str
) -> None:
    ours, reached = owner(place, **WAYS[way]), None
    for number in range(3):
        reached = load(ours, reached, 1 + number, pa.table({"id": [number]}))
    owner(place).optimize()
    with suppress(TargetUnavailableError):  # the files that it replaces may be gone
        load(ours, reached, 4, pa.table({"id": [3]}))
    if ours.read_position(STREAM) == reached:
        load(ours, reached, 4, pa.table({"id": [3]}))
    assert ours.read_position(STREAM) == LedgerRow(EPOCH, 4, 0)
    assert sorted(row["id"] for row in delta_rows(tmp_path)) == ([3] if way == "replace" else [0, 1, 2, 3])


def test_a_commit_whose_answer_is_lost_is_made_once(
    place: TableLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = owner(place)
    reached = load(target, None, 1)

    def commit_and_lose_the_answer(*arguments: Any, **options: Any) -> None:
        write_deltalake(*arguments, **options)
        raise OSError("timed out")

    with monkeypatch.context() as patched:
        patched.setattr(
            "api2db.targets.delta._table.library",
            lambda name: commit_and_lose_the_answer if name == "write_deltalake" else library(name),
        )
        with pytest.raises(TargetUnavailableError):
            load(target, reached, 2)
    with pytest.raises(LedgerMovedError):
        load(target, reached, 2)
    assert target.read_position(STREAM) == LedgerRow(EPOCH, 2, 0)
    assert len(delta_rows(tmp_path)) == 4


def test_a_commit_whose_process_died_before_its_flush_is_flushed_before_it_counts(
    place: TableLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(owner(place), None, 1)
    write_deltalake(place.uri, ROWS, mode="append")
    flushed: list[str] = []
    monkeypatch.setattr("api2db.targets.delta._table.sync_file", lambda path: flushed.append(path.name))
    owner(place)
    assert [Path(name).suffix for name in flushed] == [".parquet", ".json"]
    assert flushed[-1] == f"{1:020}.json"


def test_streams_of_others_commit_side_by_side(place: TableLocation, tmp_path: Path) -> None:
    reached = load(owner(place), None, 1)
    ours = owner(place)
    for number in range(3):
        theirs = CommitProperties(app_transactions=[Transaction("another", number)])
        write_deltalake(place.uri, ROWS, mode="append", commit_properties=theirs)
        reached = load(ours, reached, 2 + number)
    assert len(delta_rows(tmp_path)) == 14


def test_a_column_that_another_program_adds_meanwhile_is_seen(place: TableLocation) -> None:
    target = owner(place)
    columns = target.prepare(ROWS.schema)
    DeltaTable(place.uri).alter.add_columns(field_of("extra"))
    with pytest.raises(TableChangedError):
        target.load(ROWS, columns, LedgerUpdate(STREAM, None, LedgerRow(EPOCH, 1, 0), 2))
    assert [column.name for column in target.prepare(ROWS.schema)] == ["id", "extra"]


def field_of(name: str) -> Any:
    return [Field(name, PrimitiveType("long"))]


def test_a_table_that_forgets_ledgers_is_refused(place: TableLocation) -> None:
    load(owner(place), None, 1)
    DeltaTable(place.uri).alter.set_table_properties({"delta.setTransactionRetentionDuration": "interval 1 hours"})
    with pytest.raises(TargetUnavailableError, match="remove the property"):
        owner(place)


def test_duckdb_and_polars_read_what_the_log_names(tmp_path: Path) -> None:
    with stream_into_delta(tmp_path) as stream:
        stream.stream(frame(1, 2))
        stream.stream(pd.DataFrame({"id": [3], "more": [{"a": 1}]}))
    table = DeltaTable(tmp_path / DELTA)
    files = table.file_uris()
    with duckdb.connect() as connection:
        connection.execute("SELECT sum(id), count(*) FROM read_parquet($files, union_by_name=true)", {"files": files})
        assert connection.fetchall() == [(6, 3)]
    assert pl.read_delta(str(tmp_path / DELTA)).sort("id")["more"].to_list() == [None, None, '{"a": 1}']


def test_a_rule_of_the_table_rejects_its_own_rows(tmp_path: Path) -> None:
    make_delta_table(tmp_path, {"id": "long", "text": "string"})
    DeltaTable(tmp_path / DELTA).alter.add_constraint({"positive": "id > 0"})
    with stream_into_delta(tmp_path) as stream:
        stream.stream(frame(1, -2, 3))
    assert [row["id"] for row in delta_rows(tmp_path)] == [1, 3]
    [rejected] = rejected_rows(tmp_path, "delta")
    assert rejected["id"] == -2
    assert "CHECK" in rejected["_api2db_reason"]


def test_a_column_is_widened_where_every_row_stays_exact(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "api2db")
    with stream_into_delta(tmp_path) as stream:
        stream.stream(pd.DataFrame({"id": [1], "n": [5], "t": [None]}))
        stream.stream(pd.DataFrame({"id": [2], "n": [0.5], "t": ["x"]}))
    assert delta_rows(tmp_path) == [{"id": 1, "n": 5.0, "t": None}, {"id": 2, "n": 0.5, "t": "x"}]
    assert delta_types(tmp_path / DELTA) == {"id": "long", "n": "double", "t": "string"}
    assert "the column 'n' is double instead of long" in caplog.text


def test_a_table_beyond_the_bound_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api2db.targets.delta._table.LARGEST_REWRITE_BYTES", 10)
    with stream_into_delta(tmp_path) as stream:
        stream.stream(pd.DataFrame({"n": [5]}))
        stream.stream(pd.DataFrame({"n": [0.5]}))
    assert [row["n"] for row in delta_rows(tmp_path)] == [5]
    [rejected] = rejected_rows(tmp_path, "delta")
    assert "written again" in rejected["_api2db_reason"]


def test_rows_are_partitioned(tmp_path: Path) -> None:
    with stream_into_delta(tmp_path, partition_by=["day"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 2, 3], "day": ["a", "b", "a/ü"]}))
        stream.stream(pd.DataFrame({"id": [4], "day": [None]}))
    assert sorted((row["id"], row["day"]) for row in delta_rows(tmp_path)) == [
        (1, "a"), (2, "b"), (3, "a/ü"), (4, None),
    ]  # fmt: skip
    assert DeltaTable(tmp_path / DELTA).metadata().partition_columns == ["day"]


def test_keys_replace_rows_and_leave_what_a_frame_lacks(tmp_path: Path) -> None:
    with stream_into_delta(tmp_path, keys=["id", "a b"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 2], "a b": ["x", 'q"`'], 'w"x': [1, 2], "e": [1, 2]}))
        stream.stream(pd.DataFrame({"id": [2, 3], "a b": ['q"`', "z"], 'w"x': [5, 6]}))
    found = sorted(delta_rows(tmp_path), key=lambda row: row["id"])
    assert [list(row.values()) for row in found] == [[1, "x", 1, 1], [2, 'q"`', 5, 2], [3, "z", 6, None]]


def test_small_files_are_gathered_and_no_reader_sees_a_row_twice(tmp_path: Path) -> None:
    with stream_into_delta(tmp_path) as stream:
        for number in range(4):
            stream.stream(frame(number))
        assert stream.optimize() == 4
        assert stream.optimize() == 0
        stream.stream(frame(4))
        assert stream.vacuum(dry_run=True) == []
    assert sorted(row["id"] for row in delta_rows(tmp_path)) == [0, 1, 2, 3, 4]
    assert len(DeltaTable(tmp_path / DELTA).file_uris()) == 2


def test_the_table_s_folder_is_its_owner_s_alone(tmp_path: Path) -> None:
    with stream_into_delta(tmp_path) as stream:
        stream.stream(frame(1))
    assert (tmp_path / DELTA).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("uri", ["", "ftp://x/y", "s3://", "s3://user:planted@bucket/t", "az://c/t?sig=planted"])
def test_an_address_that_can_t_be_used_is_refused_without_its_secret(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Stream2Delta(COLLECTOR, uri, home=tmp_path)
    assert "planted" not in str(refused.value)


def test_an_option_by_which_commits_could_be_overwritten_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="overwrite"):
        Stream2Delta(COLLECTOR, "s3://bucket/t", {"AWS_CONDITIONAL_PUT": "disabled"}, home=tmp_path)


def test_no_option_is_shown_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    auth = tmp_path / "AUTH" / "store.json"
    auth.parent.mkdir()
    auth.write_text(json.dumps({"AWS_SECRET_ACCESS_KEY": "planted-secret", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}))
    options = {"AWS_ACCESS_KEY_ID": "planted-id", "AWS_REGION": "x", "AWS_ALLOW_HTTP": "true"}
    stream = Stream2Delta(COLLECTOR, "s3://bucket/t", {**options, "max_retries": "0"}, "AUTH/store.json", home=tmp_path)
    assert not stream.connect()
    said = f"{caplog.text} {stream!r} {stream.log_str} {stream._place!r} {stream.identity} {vars(stream)}"
    assert "can't be reached" in said
    assert "planted" not in said


def test_options_that_are_no_texts_are_refused_without_their_values(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AWS_SECRET_ACCESS_KEY") as refused:
        Stream2Delta(COLLECTOR, "s3://bucket/t", {"AWS_SECRET_ACCESS_KEY": 31415926}, home=tmp_path)  # type: ignore[dict-item]
    assert "31415926" not in str(refused.value)
