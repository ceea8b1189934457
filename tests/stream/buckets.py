"""Files in S3 as more targets of the suites; pyarrow's own S3 reads them."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api2db import Stream2Local
from tests.servers.buckets import BUCKET, Bucket
from tests.stream.databases import COLLECTOR

_running: dict[str, Bucket] = {}


def use_bucket(request: pytest.FixtureRequest) -> None:
    """Make the server ready for one test."""
    _running["s3"] = request.getfixturevalue("bucket")


def address_of(home: Path) -> str:
    """The folder that the streams of a home have."""
    return f"s3://{BUCKET}/{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"


def stream_into_bucket(home: Path, mode: str = "shard", **options: Any) -> Stream2Local:
    options.pop("path", None)  # of a file on a disk
    address = address_of(home) if mode == "shard" else f"{address_of(home)}/0.parquet"
    return Stream2Local(COLLECTOR, address, mode, storage_options=_running["s3"].options, home=home, **options)


def bucket_rows(home: Path, mode: str = "shard") -> list[dict[str, Any]]:
    return _running["s3"].rows(address_of(home))


def bucket_tables(home: Path) -> list[pa.Table]:
    """The shards, in the order of their names."""
    bucket = _running["s3"]
    return [bucket.table(path) for path in bucket.parquet_files(address_of(home))]
