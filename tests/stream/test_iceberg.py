"""Stream2Iceberg: what it promises beyond the behaviour that all targets share."""

import errno
import json
import logging
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from moto.server import ThreadedMotoServer
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType, UUIDType

from api2db import Stream2Iceberg
from api2db.errors import (
    BatchRefusedError,
    ConfigurationError,
    LedgerMovedError,
    TableChangedError,
    TargetUnavailableError,
)
from api2db.targets.iceberg import CatalogPlace, IcebergTarget
from api2db.targets.iceberg._files import DurableFileIO
from api2db.targets.iceberg._maintenance import _files_of
from api2db.targets.iceberg._table import Draft, Table
from api2db.targets.port import LedgerRow, LedgerUpdate
from tests.stream.cases import COLLECTOR, frame, rejected_rows
from tests.stream.lakes import ICEBERG, iceberg_catalog, iceberg_rows, iceberg_types, stream_into_iceberg
from tests.stream.test_lakes import EPOCH, LAKES, ROWS, STREAM, load

TABLE = ("default", COLLECTOR)
[LAKE] = [lake for lake in LAKES if lake.name == "iceberg"]


def ids(home: Path) -> list[int]:
    return sorted(row["id"] for row in iceberg_rows(home))


def test_rows_of_other_programs_and_of_ours_are_all_there(tmp_path: Path) -> None:
    reached = load(LAKE.owner(tmp_path), None, 1)
    ours = LAKE.owner(tmp_path)
    for number in range(3):
        iceberg_catalog(tmp_path).load_table(TABLE).append(ROWS)
        reached = load(ours, reached, 2 + number)
    assert len(iceberg_rows(tmp_path)) == 14


def test_streams_that_write_to_one_table_at_once_lose_nothing(tmp_path: Path) -> None:
    load(LAKE.owner(tmp_path), None, 1)
    streams = [stream_into_iceberg(tmp_path, stream_id=f"s{number}", commit_every_s=0) for number in range(3)]
    threads = [threading.Thread(target=put_all, args=(stream, 10 * place)) for place, stream in enumerate(streams, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(tmp_path) == [1, 2, *range(10, 15), *range(20, 25), *range(30, 35)]
    assert_no_file_is_left_over(tmp_path)


@pytest.mark.parametrize("options", [{}, {"keys": ("id",)}, {"if_exists": "replace"}], ids=str)
def test_the_files_of_a_commit_that_came_second_are_deleted(tmp_path: Path, options: dict[str, Any]) -> None:
    reached = load(LAKE.owner(tmp_path, **options), None, 1)
    late, table = LAKE.owner(tmp_path, **options), iceberg_catalog(tmp_path).load_table(TABLE)
    assert late.read_position(STREAM) == reached
    table.append(ROWS)
    load(late, reached, 2)
    successor = LAKE.owner(tmp_path, **options)
    reached = successor.read_position(STREAM)
    load(successor, reached, 3)
    with pytest.raises(LedgerMovedError):
        load(late, reached, 3)
    assert_no_file_is_left_over(tmp_path)


def assert_no_file_is_left_over(home: Path) -> None:
    table = iceberg_catalog(home).load_table(TABLE)
    needed = _files_of(table, table.snapshots())
    there = {f"file://{path}" for path in (home / ICEBERG).rglob("*") if path.suffix in {".parquet", ".avro"}}
    assert there == needed


def put_all(stream: Stream2Iceberg, first: int) -> None:
    with stream:
        for number in range(first, first + 5):
            stream.stream(frame(number))


@pytest.mark.parametrize("answer", [OSError("timed out"), CommitFailedException("the branch main has changed")])
def test_a_commit_whose_answer_is_lost_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    target = LAKE.owner(tmp_path)
    reached = load(target, None, 1)
    commit = target._catalog._catalog.commit_table

    def commit_and_lose_the_answer(*arguments: Any) -> None:
        commit(*arguments)
        raise answer

    with monkeypatch.context() as patched:
        patched.setattr(target._catalog._catalog, "commit_table", commit_and_lose_the_answer)
        with pytest.raises((TargetUnavailableError, LedgerMovedError)):
            load(target, reached, 2)
    with pytest.raises(LedgerMovedError):
        load(target, reached, 2)
    assert target.read_position(STREAM) == LedgerRow(EPOCH, 2, 0)
    assert len(iceberg_rows(tmp_path)) == 4


def test_a_ledger_outlives_its_snapshot_and_goes_back_with_the_table(tmp_path: Path) -> None:
    first = load(LAKE.owner(tmp_path), None, 1)
    table = iceberg_catalog(tmp_path).load_table(TABLE)
    held = table.current_snapshot()
    second = load(LAKE.owner(tmp_path), first, 2)
    table.refresh().append(ROWS)
    old = [snapshot.snapshot_id for snapshot in table.snapshots()][:-1]
    table.manage_snapshots().rollback_to_snapshot(held.snapshot_id).commit()
    assert LAKE.owner(tmp_path).read_position(STREAM) == first
    table.refresh().append(ROWS)
    table.maintenance.expire_snapshots().by_ids([held.snapshot_id]).commit()
    assert LAKE.owner(tmp_path).read_position(STREAM) is None  # no snapshot tells, and the property is of another one
    table.refresh().maintenance.expire_snapshots().by_ids(old[1:]).commit()
    assert LAKE.owner(tmp_path).read_position(STREAM) == second


def test_a_column_that_another_program_adds_meanwhile_is_seen(tmp_path: Path) -> None:
    target = LAKE.owner(tmp_path)
    columns = target.prepare(ROWS.schema)
    with iceberg_catalog(tmp_path).load_table(TABLE).update_schema() as update:
        update.add_column("extra", LongType())
    with pytest.raises(TableChangedError):
        target.load(ROWS, columns, LedgerUpdate(STREAM, None, LedgerRow(EPOCH, 1, 0), 2))
    assert [column.name for column in target.prepare(ROWS.schema)] == ["id", "extra"]


def test_every_file_is_flushed_before_a_commit_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, flushed = LAKE.owner(tmp_path), set()
    reached = load(target, None, 1)
    files = "api2db.targets.iceberg._files"
    monkeypatch.setattr(f"{files}.sync_file", lambda file: flushed.add(Path(f"/proc/self/fd/{file}").resolve()))
    monkeypatch.setattr(f"{files}.sync_folder", flushed.add)
    there = {*(tmp_path / ICEBERG).rglob("*.*")}
    load(target, reached, 2)
    new = {path for path in (tmp_path / ICEBERG).rglob("*.*") if path not in there and path.name != "catalog.db"}
    assert {path.suffix for path in new} == {".parquet", ".avro", ".json"}
    assert new | {path.parent for path in new} == flushed


def test_polars_reads_what_the_catalogue_names(tmp_path: Path) -> None:
    with stream_into_iceberg(tmp_path) as stream:
        stream.stream(frame(1, 2))
        stream.stream(pd.DataFrame({"id": [3], "more": [{"a": 1}]}))
    location = iceberg_catalog(tmp_path).load_table(TABLE).metadata_location
    with pytest.warns(match="polars_iceberg"):
        found = pl.scan_iceberg(location).collect().sort("id")
    assert found["id"].to_list() == [1, 2, 3]
    assert found["more"].to_list() == [None, None, '{"a": 1}']


def test_rows_without_a_value_that_the_table_requires_are_rejected(tmp_path: Path) -> None:
    catalog = iceberg_catalog(tmp_path)
    catalog.create_namespace("default")
    catalog.create_table(
        TABLE, Schema(NestedField(1, "id", LongType(), required=True), NestedField(2, "text", StringType()))
    )
    with stream_into_iceberg(tmp_path) as stream:
        stream.stream(pd.DataFrame({"id": [1, None, 3], "text": list("abc")}))
    assert ids(tmp_path) == [1, 3]
    [rejected] = rejected_rows(tmp_path, "iceberg")
    assert rejected["text"] == "b"
    assert "'id'" in rejected["_api2db_reason"]


def test_a_column_is_widened_where_every_row_stays_exact(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "api2db")
    small = pd.DataFrame({"id": [1], "n": [5], "t": [None], "i": pd.array([1], "int32")})
    with stream_into_iceberg(tmp_path) as stream:
        stream.stream(small)
        stream.stream(pd.DataFrame({"id": [2], "n": [0.5], "t": ["x"], "i": [2**40]}))
    rows = iceberg_rows(tmp_path)
    assert [{name: row[name] for name in "nti"} for row in rows] == [
        {"n": 5.0, "t": None, "i": 1},
        {"n": 0.5, "t": "x", "i": 2**40},
    ]
    assert iceberg_types(tmp_path) == {"id": "long", "n": "double", "t": "string", "i": "long"}
    assert "the column 'n' is double instead of long" in caplog.text


def test_values_that_come_before_a_column_gets_its_type_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promote = Draft.promote

    def be_late(draft: Draft, *arguments: Any) -> None:
        monkeypatch.undo()
        iceberg_catalog(tmp_path).load_table(TABLE).append(pa.table({"t": ["theirs"]}))
        promote(draft, *arguments)

    with stream_into_iceberg(tmp_path, commit_every_s=0) as stream:
        stream.stream(pd.DataFrame({"t": [None]}))
        monkeypatch.setattr(Draft, "promote", be_late)
        stream.stream(pd.DataFrame({"t": [5]}))
    assert [row["t"] for row in iceberg_rows(tmp_path)] == [None, "theirs"]
    [rejected] = rejected_rows(tmp_path, "iceberg")
    assert rejected["t"] == 5


def test_a_table_beyond_the_bound_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api2db.targets.iceberg._table.LARGEST_REWRITE_BYTES", 10)
    with stream_into_iceberg(tmp_path) as stream:
        stream.stream(pd.DataFrame({"n": [5]}))
        stream.stream(pd.DataFrame({"n": [0.5]}))
    assert [row["n"] for row in iceberg_rows(tmp_path)] == [5]
    [rejected] = rejected_rows(tmp_path, "iceberg")
    assert "written again" in rejected["_api2db_reason"]


def test_rows_are_partitioned(tmp_path: Path) -> None:
    with stream_into_iceberg(tmp_path, partition_by=["day"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 2, 3], "day": ["a", "b", "a/ü"]}))
        stream.stream(pd.DataFrame({"id": [4], "day": [None]}))
    assert sorted((row["id"], row["day"]) for row in iceberg_rows(tmp_path)) == [
        (1, "a"), (2, "b"), (3, "a/ü"), (4, None),
    ]  # fmt: skip
    assert [field.name for field in iceberg_catalog(tmp_path).load_table(TABLE).spec().fields] == ["day"]


def test_keys_replace_rows_and_leave_what_a_frame_lacks(tmp_path: Path) -> None:
    with stream_into_iceberg(tmp_path, keys=["id", "a b"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 2], "a b": ["x", 'q"`'], 'w"x': [1, 2], "e.f": [1, 2]}))
        stream.stream(pd.DataFrame({"id": [2, 3], "a b": ['q"`', "z"], 'w"x': [5, 6]}))
    found = sorted(iceberg_rows(tmp_path), key=lambda row: row["id"])
    assert [list(row.values()) for row in found] == [[1, "x", 1, 1], [2, 'q"`', 5, 2], [3, "z", 6, None]]


@pytest.mark.parametrize("key", [[1, 2, 3], ["a", "b", "c" * 40], pd.date_range("2026-01-01", periods=3).date])
def test_keys_of_any_type_replace_rows(tmp_path: Path, key: Any) -> None:
    with stream_into_iceberg(tmp_path, keys=["k"]) as stream:
        stream.stream(pd.DataFrame({"k": key, "n": [1, 2, 3]}))
        stream.stream(pd.DataFrame({"k": key[1:], "n": [5, 6]}))
    assert sorted(row["n"] for row in iceberg_rows(tmp_path)) == [1, 5, 6]


def test_a_retried_row_replaces_none_that_comes_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = LAKE.owner(tmp_path, keys=["id"])
    reached = load(target, None, 1)
    columns = target.prepare(ROWS.schema)
    write = Table.write

    def be_late(table: Table, *arguments: Any) -> Any:
        monkeypatch.undo()
        iceberg_catalog(tmp_path).load_table(TABLE).append(pa.table({"id": [7]}))
        return write(table, *arguments)

    monkeypatch.setattr(Table, "write", be_late)
    update = LedgerUpdate(STREAM, reached, LedgerRow(EPOCH, 2, 0), 1, only_new=True)
    with pytest.raises(BatchRefusedError):
        target.load(pa.table({"id": [7]}), columns, update)
    assert ids(tmp_path) == [1, 2, 7]


def test_keys_leave_a_column_that_only_others_write(tmp_path: Path) -> None:
    catalog = iceberg_catalog(tmp_path)
    catalog.create_namespace("default")
    table = catalog.create_table(TABLE, Schema(NestedField(1, "id", LongType()), NestedField(2, "u", UUIDType())))
    theirs = uuid.UUID(int=7).bytes
    table.append(pa.table({"id": [1, 2], "u": pa.array([theirs, None], pa.binary(16))}))
    with stream_into_iceberg(tmp_path, keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 3], "n": [5, 6]}))
        stream.stream(pd.DataFrame({"id": [4], "n": [0.5]}))  # for which the table is written again
        assert len(stream.head(by="id")) == 4
    found = {row["id"]: row for row in iceberg_catalog(tmp_path).load_table(TABLE).scan().to_arrow().to_pylist()}
    assert {number: row["n"] for number, row in found.items()} == {1: 5, 2: None, 3: 6, 4: 0.5}
    assert found[1]["u"] in {theirs, uuid.UUID(int=7)}


@pytest.mark.parametrize("partition_by", [[], ["day"]])
def test_small_files_are_gathered_and_no_reader_sees_a_row_twice(tmp_path: Path, partition_by: list[str]) -> None:
    with stream_into_iceberg(tmp_path, partition_by=partition_by) as stream:
        for number in range(6):
            stream.stream(pd.DataFrame({"id": [number], "day": ["ab"[number % 2]]}))
        assert stream.optimize() == 6
        assert stream.optimize() == 0
        stream.stream(pd.DataFrame({"id": [6], "day": ["a"]}))
    assert ids(tmp_path) == list(range(7))
    files = list(iceberg_catalog(tmp_path).load_table(TABLE).scan().plan_files())
    assert len(files) == (3 if partition_by else 2)
    assert LAKE.owner(tmp_path).optimize() == 2


def test_a_gathering_that_another_commit_precedes_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, reached = LAKE.owner(tmp_path), None
    for number in range(3):
        reached = load(ours, reached, 1 + number, pa.table({"id": [number]}))
    write = Table.write

    def load_first(table: Table, *arguments: Any) -> Any:
        monkeypatch.undo()
        load(ours, reached, 4, pa.table({"id": [3]}))
        return write(table, *arguments)

    monkeypatch.setattr(Table, "write", load_first)
    assert LAKE.owner(tmp_path).optimize() == 3
    assert ids(tmp_path) == [0, 1, 2, 3]


def test_a_gathering_of_files_whose_rows_are_replaced_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, reached = LAKE.owner(tmp_path, keys=["id"]), None
    for number in range(3):
        reached = load(ours, reached, 1 + number, pa.table({"id": [number], "value": [0]}))
    write = Table.write

    def replace_first(table: Table, *arguments: Any) -> Any:
        monkeypatch.undo()
        load(ours, reached, 4, pa.table({"id": [1], "value": [9]}))
        return write(table, *arguments)

    monkeypatch.setattr(Table, "write", replace_first)
    with pytest.raises(TargetUnavailableError):
        LAKE.owner(tmp_path).optimize()
    assert sorted((row["id"], row["value"]) for row in iceberg_rows(tmp_path)) == [(0, 0), (1, 9), (2, 0)]


def test_old_snapshots_go_with_the_files_that_only_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stream_into_iceberg(tmp_path) as stream:
        for number in range(4):
            stream.stream(frame(number))
        stream.optimize()
        stream.stream(frame(4))
        assert stream.expire_snapshots() == []
        monkeypatch.setattr("api2db.targets.iceberg._maintenance.time.time", lambda: 2**33)
        doomed = stream.expire_snapshots(1, dry_run=True)
        assert len([name for name in doomed if name.endswith(".parquet")]) == 4
        assert stream.expire_snapshots(1) == doomed
        assert not [name for name in doomed if Path(name.removeprefix("file://")).exists()]
        stream.stream(frame(5))
    assert ids(tmp_path) == [0, 1, 2, 3, 4, 5]
    table = iceberg_catalog(tmp_path).load_table(TABLE)
    assert sorted(table.scan().to_arrow().column("id").to_pylist()) == [0, 1, 2, 3, 4, 5]
    assert len(table.snapshots()) == 2


def test_a_file_that_cannot_be_deleted_keeps_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_into_iceberg(tmp_path) as stream:
        for number in range(4):
            stream.stream(frame(number))
        stream.optimize()
        monkeypatch.setattr("api2db.targets.iceberg._maintenance.time.time", lambda: 2**33)
        first, *others = stream.expire_snapshots(1, dry_run=True)
        delete = DurableFileIO.delete

        def refuse_first(io: DurableFileIO, file: str) -> None:
            if file == first:
                raise PermissionError(errno.EACCES, "denied")
            delete(io, file)

        monkeypatch.setattr(DurableFileIO, "delete", refuse_first)
        assert stream.expire_snapshots(1) == others
    assert first in caplog.text
    assert [Path(name.removeprefix("file://")).exists() for name in [first, *others]] == [True, *[False] * len(others)]


def test_all_files_are_their_owner_s_alone(tmp_path: Path) -> None:
    with stream_into_iceberg(tmp_path) as stream:
        stream.stream(frame(1))
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / ICEBERG).rglob("*")}
    assert modes == {0o600, 0o700}


@pytest.mark.parametrize("warehouse", ["", "a?b", "ftp://x/y", "s3://user:planted@bucket/t", "s3://bucket/lake"])
def test_a_warehouse_that_can_t_be_used_is_refused_without_its_secret(tmp_path: Path, warehouse: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Stream2Iceberg(COLLECTOR, warehouse, home=tmp_path)
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize("namespace", ["", "a..b", 7])
def test_a_namespace_that_can_t_be_used_is_refused(tmp_path: Path, namespace: Any) -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        stream_into_iceberg(tmp_path, namespace=namespace)


def test_no_property_is_shown_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    auth = tmp_path / "AUTH" / "lake.json"
    auth.parent.mkdir()
    auth.write_text(json.dumps({"token": "planted-token", "s3.secret-access-key": "planted-secret"}))
    catalog = {"type": "rest", "uri": "http://user:planted@127.0.0.1:9/"}
    stream = Stream2Iceberg(COLLECTOR, "s3://bucket/lake", catalog, "AUTH/lake.json", home=tmp_path)
    assert not stream.connect()
    said = f"{caplog.text} {stream!r} {stream.log_str} {stream._place!r} {stream.identity} {vars(stream)}"
    assert "can't be reached" in said
    assert "planted" not in said


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    who = {"aws_access_key_id": "planted-id", "aws_secret_access_key": "planted-secret"}
    try:
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **who).create_bucket(
            Bucket="lake"
        )
        yield {
            "s3.endpoint": f"http://{host}:{port}",
            "s3.region": "us-east-1",
            "s3.access-key-id": "planted-id",
            "s3.secret-access-key": "planted-secret",
        }
    finally:
        server.stop()


def test_rows_are_in_the_object_store_once(s3: dict[str, str], tmp_path: Path) -> None:
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", **s3}
    stream = Stream2Iceberg(COLLECTOR, "s3://lake/tables", catalog, home=tmp_path, namespace="a.b", table="t")
    for numbers in ([1, 2], [3]):
        with stream:
            stream.stream(frame(*numbers))
    held = load_catalog("default", warehouse="s3://lake/tables", **catalog).load_table(("a", "b", "t"))
    assert held.location().startswith("s3://lake/tables")
    assert sorted(held.scan().to_arrow().column("id").to_pylist()) == [1, 2, 3]
    assert "planted" not in f"{stream!r} {stream.status()} {stream.identity}"


def test_owners_in_an_object_store_never_both_win(s3: dict[str, str], tmp_path: Path) -> None:
    options = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": "s3://lake/owned", **s3}
    place = CatalogPlace(("a",), "t", "owned", options)

    def owner() -> IcebergTarget:
        target = IcebergTarget(place, "append", "evolve")
        target.connect()
        target.read_position(STREAM)
        return target

    reached = load(owner(), None, 1)
    first, second = owner(), owner()
    load(first, reached, 2)
    with pytest.raises(LedgerMovedError):
        load(second, reached, 2)
