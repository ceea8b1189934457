"""Shards in an object store, which is moto's S3: what Stream2Local does there beside the behaviour suite."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest

from api2db import Stream2Local
from api2db.errors import ConfigurationError, TargetUnavailableError
from api2db.objects import Address, ObjectFolder
from api2db.objects import _folder as folders
from tests.servers.buckets import BUCKET, KEY_ID, SECRET, Bucket
from tests.stream.cases import COLLECTOR, frame
from tests.stream.eventually import eventually

pytestmark = pytest.mark.usefixtures("_short_pauses")
FORMATS = ("parquet", "json", "csv", "pickle")


def into(address: str, bucket: Bucket, home: Path, **options: Any) -> Stream2Local:
    return Stream2Local(COLLECTOR, address, storage_options=bucket.options, home=home, **options)


def large(rows: int = 1_600_000) -> pd.DataFrame:
    """A frame whose file is uploaded in two parts."""
    return pd.DataFrame({"value": np.random.default_rng(1).random(rows)})


@pytest.mark.parametrize("fmt", FORMATS)
def test_shards_of_each_format_are_named_and_read_as_on_a_disk(fmt: str, bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.new_address()
    with into(address, bucket, tmp_path, fmt=fmt) as stream:
        for number in (1, 2):
            stream.q.put(frame(number))
        assert stream.flush(20)
        assert stream.head(5)["id"].tolist() == [2, 1]
    names = bucket.shards(address, fmt)
    assert len(names) == 2
    assert all(re.fullmatch(rf"\d{{19}}\.{fmt}", name) for name in names)
    with Stream2Local(COLLECTOR, fmt=fmt, home=tmp_path / "disk") as on_disk:
        on_disk.stream(frame(1))
    [shard] = (tmp_path / "disk" / "STORE" / COLLECTOR / fmt).glob("[0-9]*")
    assert bucket.read(f"{address}/{names[0]}") == shard.read_bytes()


def test_a_shard_takes_three_small_requests_and_leaves_nothing_beside_it(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.new_address()
    with into(address, bucket, tmp_path) as stream:
        stream.stream(frame(1))
        with bucket.watched() as requests:
            stream.stream(frame(2))
    assert [request.split()[0] for request in requests] == ["PUT", "PUT", "POST"]
    assert bucket.keys(address) == bucket.shards(address)
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_name_that_another_writer_has_taken_is_never_overwritten(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.new_address()
    stream = into(address, bucket, tmp_path)
    stream.q.put(frame(1))
    entry, *_ = stream._attachment.attach().newest()[0]
    taken = f"{entry.timestamp_ns}.parquet"
    bucket.write(f"{address}/{taken}", b"of another writer")
    with stream:
        assert stream.flush(20)
    assert bucket.read(f"{address}/{taken}") == b"of another writer"
    [mine] = [name for name in bucket.shards(address) if name != taken]
    assert mine == f"{entry.timestamp_ns + 1}.parquet"


@pytest.mark.parametrize("size", [100, 300], ids=["in one request", "in parts"])
def test_publication_knows_its_own_file_and_refuses_another_s(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(folders, "LARGE_BYTES", 200)
    folder = ObjectFolder(Address(bucket.new_address(), bucket.options), tmp_path)
    folder.reach()

    def file(name: str, content: bytes) -> Path:
        path = folder.here / f".me.{name:>016}.tmp"
        path.write_bytes(content * size)
        return path

    with monkeypatch.context() as patched:  # as if the process had died before it noted the publication
        patched.setattr(ObjectFolder, "delete", lambda folder, names: None)
        folder.publish(file("1", b"a"), "1.parquet")
    folder.publish(file("1", b"a"), "1.parquet")
    for other in (file("2", b"a"), file("3", b"b")):
        with pytest.raises(FileExistsError, match="the name is taken"):
            folder.publish(other, "1.parquet")
        assert other.exists()
    assert bucket.read(f"{folder}/1.parquet") == b"a" * size
    folder.replace(file("3", b"b"), "1.parquet")
    assert bucket.read(f"{folder}/1.parquet") == b"b" * size
    folder.sweep("me")
    assert bucket.keys(str(folder)) == ["1.parquet"]
    assert list(folder.here.iterdir()) == []


def test_a_late_request_does_not_replace_a_newer_file(bucket: Bucket, tmp_path: Path) -> None:
    folder = ObjectFolder(Address(bucket.new_address(), bucket.options), tmp_path)
    folder.reach()
    old, new = folder.here / "old", folder.here / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    bucket.write(f"{folder}/one.csv", b"first")

    def overtaken(_number: int, what: str) -> None:
        if what.startswith("PUT") and new.exists():
            new.unlink()
            bucket.write(f"{folder}/one.csv", b"new")

    with bucket.watched(overtaken), pytest.raises(TargetUnavailableError):
        folder.replace(old, "one.csv")
    assert bucket.read(f"{folder}/one.csv") == b"new"


def test_a_large_shard_goes_in_parts_and_is_never_seen_in_part(bucket: Bucket, tmp_path: Path) -> None:
    address, seen = bucket.new_address(), set[int]()
    with into(address, bucket, tmp_path) as stream:
        stream.stream(frame(1))

        def look(_number: int, _what: str) -> None:
            for name in bucket.shards(address):
                seen.add(len(bucket.read(f"{address}/{name}")))

        with bucket.watched() as requests:
            stream.stream(large())
    parts = [request for request in requests if "partNumber=" in request and "/.api2db/" in request]
    assert len(parts) == 2
    assert bucket.keys(address) == bucket.shards(address)
    assert len(bucket.rows(address)) == 1_600_001
    assert bucket.uploads() == []


def test_plain_readers_read_the_folder(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.new_address()
    with into(address, bucket, tmp_path) as stream:
        for number in (1, 2, 3):
            stream.q.put(frame(number))
    options = {name.lower(): value for name, value in bucket.options.items()}
    found = polars.read_parquet(f"{address}/*.parquet", storage_options=options)
    assert found["id"].to_list() == [1, 2, 3]
    assert [row["id"] for row in bucket.rows(address)] == [1, 2, 3]


FAULTS = {
    "no such bucket": ("s3://no-such-bucket/x", {}, "no such bucket; create it"),
    "nobody listens": ("s3://lake/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "can't be reached"),
    "not https": ("s3://lake/x", {"AWS_ALLOW_HTTP": "false"}, "set AWS_ALLOW_HTTP to true"),
    "an option that nobody knows": ("s3://lake/x", {"AWS_ODD": "planted-odd"}, "aws_odd, which is no option"),
}


@pytest.mark.parametrize(("address", "odd", "said"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_said_in_one_line_without_secrets_and_rows_wait(
    address: str, odd: dict[str, str], said: str, bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stream = Stream2Local(COLLECTOR, address, storage_options={**bucket.options, **odd}, home=tmp_path)
    stream.q.put(frame(1))
    stream.start()
    assert eventually(lambda: stream.status().last_error is not None)
    status = stream.status()
    stream.stop()
    assert status.rows_waiting == 1
    assert said in str(status.last_error)
    assert "\n" not in str(status.last_error)
    assert "planted" not in f"{status} {stream!r} {stream.__dict__} {caplog.text}"
    with pytest.raises(TargetUnavailableError) as raised:
        stream.diagnose()
    assert "planted" not in str(raised.value)


def test_rows_that_may_not_be_written_wait_and_are_delivered_once_the_right_is_given(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = bucket.new_address()
    stream = into(address, bucket, tmp_path)

    with bucket.denied():
        stream.start()
        stream.q.put(frame(1))
        assert eventually(lambda: stream.status().last_error is not None)
        assert "lack a right" in str(stream.status().last_error)
        assert stream.status().rows_waiting == 1
    assert stream.flush(20)
    stream.stop()
    assert [row["id"] for row in bucket.rows(address)] == [1]
    assert "planted" not in caplog.text


def test_credentials_come_from_the_environment_or_a_file(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = tmp_path / "s3.json"
    auth.write_text(json.dumps({**bucket.options, "AWS_SECRET_ACCESS_KEY": "$OF_A_TEST"}))
    monkeypatch.setenv("OF_A_TEST", SECRET)
    by_file, by_environment = bucket.new_address(), bucket.new_address()
    with Stream2Local(COLLECTOR, by_file, auth_path="s3.json", home=tmp_path) as stream:
        stream.stream(frame(1))
    for name, value in bucket.options.items():
        monkeypatch.setenv(name, value)
    with Stream2Local(COLLECTOR, by_environment, home=tmp_path) as stream:
        stream.stream(frame(2))
    assert [row["id"] for row in bucket.rows(by_file, by_environment)] in ([1, 2], [2, 1])
    written = "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and path != auth
    )
    assert SECRET not in written
    assert KEY_ID not in written


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "ftp://x/y"}, "path must be a path, or an address"),
        ({"path": f"s3://me:planted@{BUCKET}/x"}, "no password and no query"),
        ({"path": "az://c/t?sig=planted"}, "no password and no query"),
        ({"path": f"s3://{BUCKET}", "mode": "update"}, "the address of a file"),
        ({"path": f"s3://{BUCKET}/x", "storage_options": {"AWS_CONDITIONAL_PUT": "disabled"}}, "is disabled"),
        ({"path": f"s3://{BUCKET}/x", "storage_options": {"AWS_REGION": 1}}, "must be text"),
        ({"storage_options": {"AWS_REGION": "x"}}, "are for an object store"),
        ({"auth_path": "x.json"}, "are for an object store"),
    ],
    ids=str,
)
def test_arguments_that_can_t_be_used_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        Stream2Local(COLLECTOR, home=tmp_path, **options)
    assert "planted" not in str(refused.value)


def test_the_identity_is_the_mode_and_the_address(bucket: Bucket, tmp_path: Path) -> None:
    stream = into("s3://lake/a/", bucket, tmp_path)
    assert (stream.identity, stream.path) == ("shard:s3://lake/a", "s3://lake/a")
    assert into("s3://lake/a/one.parquet", bucket, tmp_path, mode="update").identity == (
        "update:s3://lake/a/one.parquet"
    )


def test_rows_of_objects_are_not_searched(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not search"):
        into("s3://lake/a", bucket, tmp_path).find({"id": "1"})
