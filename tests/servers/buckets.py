"""S3 as moto plays it, with a hook at each request, and readers that are not api2db's: pyarrow's own, and boto3."""

import io
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSelector, S3FileSystem

BUCKET = "lake"
KEY_ID, SECRET = "planted-id", "planted-secret"
_numbers = itertools.count()


class Bucket:
    """A server with one bucket, in a thread of this process.

    Attributes:
        requests: What was asked for since ``watched`` began: method and path with the query.
    """

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        who = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
        self.client: Any = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **who)
        self.client.create_bucket(Bucket=BUCKET)
        self.files = S3FileSystem(
            access_key=KEY_ID, secret_key=SECRET, endpoint_override=f"{host}:{port}", scheme="http", region="us-east-1"
        )
        self.requests: list[str] = []
        self._at_request: Callable[[int, str], None] | None = None
        self._lock = threading.Lock()
        self._is_denied = False
        made: Any = self._server._server
        self._real: Callable[..., Iterable[bytes]] = made.app
        made.app = self._answer

    @property
    def options(self) -> dict[str, str]:
        """What a stream needs to reach it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def new_address(self) -> str:
        """The address of a folder that nobody has used."""
        return f"s3://{BUCKET}/folder {next(_numbers)}"

    def close(self) -> None:
        self._server.stop()

    def keys(self, address: str) -> list[str]:
        """The names of all objects below an address, hidden ones too."""
        prefix = f"{_key(address)}/"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"].removeprefix(prefix) for page in pages for found in page.get("Contents", [])]

    def read(self, address: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=_key(address))["Body"].read()
        return content

    def write(self, address: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=_key(address), Body=content)

    def shards(self, address: str, fmt: str = "parquet") -> list[str]:
        """The names of the files right there, sorted as numbers."""
        names = [name for name in self.keys(address) if "/" not in name and name.endswith(f".{fmt}")]
        return sorted(names, key=lambda name: int(name.partition(".")[0].partition("_")[0]))

    def rows(self, *addresses: str) -> list[dict[str, Any]]:
        """The rows of the Parquet files at any depth, as pyarrow reads them from S3, in the order of their names."""
        return [row for path in self.parquet_files(*addresses) for row in self.table(path).to_pylist()]

    def parquet_files(self, *addresses: str) -> list[str]:
        """The paths of the Parquet files at any depth, in the order of their names."""
        found = [
            info.path
            for address in addresses
            for info in self.files.get_file_info(
                FileSelector(f"{BUCKET}/{_key(address)}", recursive=True, allow_not_found=True)
            )
            if info.is_file and info.base_name.endswith(".parquet")
        ]
        return sorted(found, key=_place)

    def table(self, path: str) -> pa.Table:
        with self.files.open_input_file(path) as file:
            return pq.ParquetFile(file).read()

    def consume(self, address: str, to: str) -> None:
        """Take all shards away, as another project may: none of those that a plan names."""
        shards = self.shards(address)  # first these, then the plans
        plans = [name for name in self.keys(address) if name.startswith(".api2db/plans/")]
        announced: set[str] = set()
        for plan in plans:
            with suppress(self.client.exceptions.NoSuchKey):
                announced.update(json.loads(self.read(f"{address}/{plan}")))
        for name in shards:
            if name not in announced:
                self.write(f"{to}/{name}", self.read(f"{address}/{name}"))
                self.client.delete_object(Bucket=BUCKET, Key=f"{_key(address)}/{name}")

    def uploads(self) -> list[str]:
        """The uploads in parts that were not completed."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [upload["Key"] for upload in found]

    @contextmanager
    def watched(self, at_request: Callable[[int, str], None] | None = None) -> Iterator[list[str]]:
        """Note the requests within the block.

        Args:
            at_request: Called before each request is carried out, with its number from 1 and what it is.
        """
        self.requests, self._at_request = [], at_request
        try:
            yield self.requests
        finally:
            self._at_request = None

    @contextmanager
    def denied(self) -> Iterator[None]:
        """Within the block, nobody has a right to anything."""
        self._is_denied = True
        try:
            yield
        finally:
            self._is_denied = False

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        what = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        with self._lock:
            self.requests.append(what)
            number, at_request = len(self.requests), self._at_request
        if self._is_denied:
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"]
        if at_request is None:
            return self._real(environ, start)
        # First the body: who is killed with it under way has not sent it.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            at_request(number, what)
        except Lost:
            start("500 Lost", [])
            return []
        return self._real(environ, start)


class Lost(Exception):  # noqa: N818 - what a hook raises so that a request is not carried out
    """The request is not carried out."""


def killing(pid: int, number: int, *, is_lost: bool) -> Callable[[int, str], None]:
    """A hook that kills a process at a request, which is lost or carried out all the same."""

    def at_request(count: int, _what: str) -> None:
        if count == number:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if count == number and is_lost:
            raise Lost

    return at_request


def _place(path: str) -> tuple[int, str]:
    name = path.rpartition("/")[2].partition(".")[0]
    return int(name.partition("_")[0]), path


def _key(address: str) -> str:
    return address.removeprefix(f"s3://{BUCKET}/")
