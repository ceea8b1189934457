"""Stores on an object store, which is moto's S3: shards there, composed files there, or both."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
import pandas as pd
import pytest

from api2db import Store2Local, Store2Sql, Stream2Local
from api2db.errors import ConfigurationError, DataError, FolderBusyError, TargetUnavailableError
from api2db.shards import manifest as manifests
from api2db.shards.shards import locked
from api2db.store import _steps
from tests.servers.buckets import Bucket
from tests.shards.killing import interrupted

FORMATS = ("parquet", "json", "csv", "pickle")


def put(address: str | None, bucket: Bucket, home: Path, numbers: Iterable[int], fmt: str = "parquet") -> None:
    """A shard a number, of two rows."""
    options: dict[str, Any] = {"storage_options": bucket.options} if address else {}
    with Stream2Local("flights", address, fmt=fmt, home=home, **options) as stream:
        for number in numbers:
            day = f"2026-01-0{1 + number % 2}"
            stream.stream(pd.DataFrame({"n": [number] * 2, "row": [0, 1], "day": [day, "2026-01-03"]}))


def store(address: str | None, bucket: Bucket, home: Path, **options: Any) -> Store2Local:
    return Store2Local("flights", 60, address, home=home, storage_options=bucket.options, **options)


def rows_of(*numbers: int) -> list[tuple[int, int]]:
    return [(number, row) for number in numbers for row in (0, 1)]


def found(bucket: Bucket, *addresses: str) -> list[tuple[int, int]]:
    return [(row["n"], row["row"]) for row in bucket.rows(*addresses)]


@pytest.mark.parametrize("fmt", FORMATS)
def test_shards_become_one_file_and_are_deleted(fmt: str, bucket: Bucket, tmp_path: Path) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(3), fmt)
    first, *_, last = bucket.shards(shards, fmt)
    store(shards, bucket, tmp_path, fmt=fmt, move_composed_path=composed).store()
    assert bucket.shards(shards, fmt) == []
    assert bucket.keys(composed) == [f"{first.partition('.')[0]}_{last}"]
    if fmt == "parquet":
        assert found(bucket, composed) == rows_of(0, 1, 2)
    assert list(tmp_path.rglob("*.tmp")) == []


def test_from_a_disk_into_a_bucket_and_back(bucket: Bucket, tmp_path: Path) -> None:
    composed = bucket.new_address()
    put(None, bucket, tmp_path, range(3))
    store(None, bucket, tmp_path, move_composed_path=composed).store()
    assert found(bucket, composed) == rows_of(0, 1, 2)
    assert list((tmp_path / "STORE" / "flights" / "parquet").iterdir()) == []
    back = store(composed, bucket, tmp_path, move_composed_path="back")
    back.store()
    assert bucket.shards(composed) == []
    read = pd.read_parquet(tmp_path / "back")
    assert list(zip(read["n"], read["row"], strict=True)) == rows_of(0, 1, 2)


def test_there_is_a_folder_for_each_date(bucket: Bucket, tmp_path: Path) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(4))
    store(shards, bucket, tmp_path, move_composed_path=composed, partition_by="day").store()
    assert [name.partition("/")[0] for name in bucket.keys(composed)] == [
        f"day_date=2026-01-0{day}" for day in (1, 2, 3)
    ]
    assert sorted(found(bucket, composed)) == rows_of(0, 1, 2, 3)


def test_moved_shards_are_in_the_other_folder(bucket: Bucket, tmp_path: Path) -> None:
    shards, moved, composed = (bucket.new_address() for _ in range(3))
    put(shards, bucket, tmp_path, range(3))
    names = bucket.shards(shards)
    store(shards, bucket, tmp_path, move_composed_path=composed, move_shards_path=moved).store()
    assert (bucket.shards(shards), bucket.shards(moved)) == ([], names)
    assert found(bucket, moved) == found(bucket, composed) == rows_of(0, 1, 2)


def test_a_store_into_a_database_takes_shards_from_a_bucket_by_the_environment(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = bucket.new_address()
    put(shards, bucket, tmp_path, range(3))
    for name, value in bucket.options.items():
        monkeypatch.setenv(name, value)
    taking = Store2Sql("flights", 60, "flights.sqlite", "sqlite", path=shards, home=tmp_path)
    assert taking.status().frames_waiting == 3
    taking.store()
    taking.store()
    with closing(sqlite3.connect(tmp_path / "flights.sqlite")) as connection:
        assert connection.execute("SELECT n, row FROM flights ORDER BY rowid").fetchall() == rows_of(0, 1, 2)
    assert (taking.status().frames_waiting, taking.status().frames_delivered) == (0, 3)


def test_the_status_says_that_the_bucket_can_t_be_reached(tmp_path: Path) -> None:
    options = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true", "AWS_SKIP_SIGNATURE": "true"}
    taking = Store2Local("flights", 60, "s3://lake/x", home=tmp_path, move_composed_path="all", storage_options=options)
    status = taking.status()
    assert status.frames_waiting == 0
    assert "s3://lake/x can't be reached" in str(status.last_error)


def test_shards_that_are_being_published_are_left_to_the_next_round(bucket: Bucket, tmp_path: Path) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(3))
    announced = bucket.shards(shards)[1]
    bucket.write(f"{shards}/.api2db/plans/x.json", f'["{announced}", "7.parquet"]'.encode())
    rounds = store(shards, bucket, tmp_path, move_composed_path=composed)
    rounds.store()
    assert bucket.shards(shards) == [announced]
    bucket.client.delete_object(Bucket="lake", Key=f"{shards.removeprefix('s3://lake/')}/.api2db/plans/x.json")
    rounds.store()
    assert bucket.shards(shards) == []
    assert sorted(found(bucket, composed)) == rows_of(0, 1, 2)


def test_a_store_does_not_take_the_file_of_another_whose_round_was_interrupted(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, hourly, daily = (bucket.new_address() for _ in range(3))
    put(shards, bucket, tmp_path, range(3))
    first = store(shards, bucket, tmp_path, move_composed_path=hourly)
    second = store(hourly, bucket, tmp_path, move_composed_path=daily)
    with interrupted(monkeypatch, manifests, "write_manifest"):
        first.store()
    second.store()
    assert found(bucket, hourly) == rows_of(0, 1, 2)
    first.store()
    second.store()
    assert (found(bucket, hourly), found(bucket, daily)) == ([], rows_of(0, 1, 2))


STEPS = {
    "the manifest is written": (manifests, "publish_composed", 0),
    "the file is published": (manifests, "write_manifest", 0),
    "the manifest is marked": (manifests, "put_away", 0),
    "the shards are deleted": (manifests, "drop_manifest", 0),
}


@pytest.mark.parametrize(("owner", "name", "after"), STEPS.values(), ids=STEPS)
def test_a_round_that_ended_after_a_step_is_finished_by_the_next(
    owner: Any, name: str, after: int, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(3))
    rounds = store(shards, bucket, tmp_path, move_composed_path=composed)
    with interrupted(monkeypatch, owner, name, after):
        rounds.store()
    put(shards, bucket, tmp_path, [3])
    rounds.store()
    assert found(bucket, composed) == rows_of(0, 1, 2, 3)
    assert bucket.shards(shards) == []


def test_a_shard_written_under_the_name_of_one_that_was_taken_is_another_and_stays(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(2))
    first = bucket.shards(shards)[0]
    content = bucket.read(f"{shards}/{first}")
    rounds = store(shards, bucket, tmp_path, move_composed_path=composed)
    with interrupted(monkeypatch, manifests, "put_away"):
        rounds.store()
    bucket.write(f"{shards}/{first}", content[:-4] + b"PAR2")
    with interrupted(monkeypatch, _steps, "_read"):
        rounds.store()
    assert bucket.shards(shards) == [first]


def test_a_shard_that_changed_while_it_was_loaded_is_named_by_its_address(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = bucket.new_address()
    put(shards, bucket, tmp_path, range(1))
    first = bucket.shards(shards)[0]
    content = bucket.read(f"{shards}/{first}")
    for name, value in bucket.options.items():
        monkeypatch.setenv(name, value)
    rounds = Store2Sql("flights", 60, "flights.sqlite", "sqlite", path=shards, home=tmp_path)
    with interrupted(monkeypatch, _steps, "_load"):
        rounds.store()
    with Stream2Local("flights", fmt="parquet", home=tmp_path) as stream:
        stream.stream(pd.DataFrame({"n": [5]}))
    other = next((tmp_path / "STORE" / "flights" / "parquet").glob("[!.]*.parquet")).read_bytes()
    assert other != content
    bucket.write(f"{shards}/{first}", other)
    with pytest.raises(DataError, match=f"{shards}/{first} is another file"):
        rounds.store()


@pytest.mark.parametrize("listed", ['"{}"', "{}", 'W/"{}"', "{}-in-another-form"])
def test_a_tag_of_another_form_in_lists_is_not_another_shard(
    listed: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(2))
    rounds = store(shards, bucket, tmp_path, move_composed_path=composed)
    real = obstore.list_with_delimiter

    def changed(*given: Any) -> Any:
        found = real(*given)
        tags = [{**entry, "e_tag": listed.format(str(entry["e_tag"]).strip('"'))} for entry in found["objects"]]
        return {**found, "objects": tags}

    monkeypatch.setattr(obstore, "list_with_delimiter", changed)
    rounds.store()
    rounds.store()
    assert (bucket.shards(shards), found(bucket, composed)) == ([], rows_of(0, 1))


def test_stores_of_two_projects_do_not_take_the_same_shards(bucket: Bucket, tmp_path: Path) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path / "one", range(2))
    store(shards, bucket, tmp_path / "one", move_composed_path=composed).store()
    put(shards, bucket, tmp_path / "two", range(2, 4))
    other = store(shards, bucket, tmp_path / "two", move_composed_path=composed)
    with pytest.raises(ConfigurationError, match="store of another project"):
        other.store()
    assert len(bucket.shards(shards)) == 2


def test_two_stores_of_one_project_take_turns(bucket: Bucket, tmp_path: Path) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(2))
    rounds = store(shards, bucket, tmp_path, move_composed_path=composed)
    with locked(rounds._folder), pytest.raises(FolderBusyError):
        rounds.store()
    assert len(bucket.shards(shards)) == 2


def test_a_bucket_that_fails_is_said_without_secrets_and_loses_nothing(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(2))
    rounds = store(shards, bucket, tmp_path, move_composed_path=composed)
    with bucket.denied(), pytest.raises(TargetUnavailableError, match="lack a right") as raised:
        rounds.store()
    said = f"{raised.value} {rounds!r} {rounds.status()} {rounds.identity} {rounds.__dict__} {caplog.text}"
    assert "planted" not in said
    rounds.store()
    assert found(bucket, composed) == rows_of(0, 1)


def test_a_composed_file_s_name_that_is_taken_is_not_overwritten(bucket: Bucket, tmp_path: Path) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(shards, bucket, tmp_path, range(2))
    first, last = (name.partition(".")[0] for name in bucket.shards(shards))
    bucket.write(f"{composed}/{first}_{last}.parquet", b"of another")
    rounds = store(shards, bucket, tmp_path, move_composed_path=composed)
    with pytest.raises(FileExistsError, match="name is taken"):
        rounds.store()
    assert bucket.read(f"{composed}/{first}_{last}.parquet") == b"of another"
    assert len(bucket.shards(shards)) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "s3://lake/a", "move_shards_path": "moved"}, "must both be addresses"),
        ({"move_shards_path": "s3://lake/a"}, "must both be addresses"),
        ({"path": "s3://lake/a", "move_composed_path": "s3://lake/a/"}, "the same address"),
        ({"path": "s3://lake/a", "move_composed_path": "s3a://lake/a"}, "the same address"),
        (
            {"path": "s3://lake/a", "move_composed_path": "s3://lake/c", "move_shards_path": "s3://lake/c/m"},
            "would see each row again",
        ),
        (
            {"path": "s3://lake/a", "move_composed_path": "s3a://lake/c", "move_shards_path": "s3://lake/c/m"},
            "would see each row again",
        ),
        ({"path": "https://lake/a"}, "path must be a path, or an address"),
        ({"storage_options": {"AWS_REGION": "x"}}, "are for an object store"),
    ],
    ids=str,
)
def test_folders_that_can_t_be_used_together_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Store2Local("flights", 60, home=tmp_path, **options)


def test_the_rest_of_a_round_is_not_finished_at_another_address(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, composed = bucket.new_address(), bucket.new_address()
    put(None, bucket, tmp_path, range(2))
    with interrupted(monkeypatch, manifests, "publish_composed"):
        store(None, bucket, tmp_path, move_composed_path=composed).store()
    with pytest.raises(ConfigurationError):
        store(None, bucket, tmp_path, move_composed_path=shards).store()
    store(None, bucket, tmp_path, move_composed_path=composed).store()
    assert found(bucket, composed) == rows_of(0, 1)
