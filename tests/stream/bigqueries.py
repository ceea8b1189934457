"""The BigQuery that the suites write to: the tests' own server, an emulator, or Google's if a key file is named."""

import atexit
import functools
import json
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.oauth2 import service_account

from api2db import Stream2Bigquery
from api2db.targets.bigquery import _client
from tests.servers.bigquery import PROJECT, BigqueryServer
from tests.servers.bigquery.accounts import KeyCredentials
from tests.servers.emulators import EmulatorServer

DATASET = "flights_of_tests"
_running: list[BigqueryServer | EmulatorServer] = []


def use_bigquery(request: pytest.FixtureRequest) -> BigqueryServer:
    """Start our own server if needed and empty it, for one test."""
    server = request.getfixturevalue("bigquery")
    assert isinstance(server, BigqueryServer)
    _running[:] = [server]
    return server


def use_bqemulator(request: pytest.FixtureRequest) -> EmulatorServer:
    """Start the emulator if needed and empty it, for one test."""
    server = request.getfixturevalue("bqemulator")
    assert isinstance(server, EmulatorServer)
    _running[:] = [server]
    return server


def running_bigquery() -> BigqueryServer | EmulatorServer:
    """Return the server that is in use."""
    return _running[0]


def target_of_bigquery(server: BigqueryServer | EmulatorServer, table: str = "flights") -> dict[str, Any]:
    """Return the arguments of Stream2Bigquery that name a table."""
    return {
        "auth_path": "AUTH/not_read.json",
        "pid": PROJECT,
        "did": DATASET,
        "tid": table,
        "endpoint": server.url,
        "write_endpoint": server.write_address,
    }


def google_of(server: BigqueryServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let streams take the server for Google's own, and return their arguments: they have to sign in there."""
    real = _client._credentials
    monkeypatch.setattr(_client, "_credentials", lambda path: KeyCredentials(real(path)))
    monkeypatch.setattr(_client, "_rest_address", lambda _: server.url)
    monkeypatch.setattr(_client, "_channel", lambda _: grpc.insecure_channel(server.write_address))
    server.accounts.demanded = True
    return {**target_of_bigquery(server), "auth_path": str(_key_file(server)), "endpoint": None, "write_endpoint": None}


def bigquery_stream(home: Path, **options: Any) -> Stream2Bigquery:
    return Stream2Bigquery(**{"name": "flights", "home": home, **target_of_bigquery(running_bigquery()), **options})


def bigquery_rows(home: Path) -> list[dict[str, Any]]:
    return running_bigquery().rows(DATASET, "flights")


def bigquery_columns(table: str = "flights") -> dict[str, list[Any]]:
    """Return the rows of a table by column, read with Google's own client; empty if there is no table."""
    client = _client_of(running_bigquery().url)
    try:
        found = client.get_table(f"{PROJECT}.{DATASET}.{table}")
    except NotFound:
        return {}
    rows = list(client.list_rows(found))
    return {field.name: [row[place] for row in rows] for place, field in enumerate(found.schema)}


class LiveBigquery:
    """Google's own BigQuery, in a data set that is dropped at the end; the environment names the key file."""

    def __init__(self, key_file: str) -> None:
        self._key_file = key_file
        self._project = str(json.loads(Path(key_file).read_text())["project_id"])
        self._dataset = f"api2db_tests_{uuid.uuid4().hex[:12]}"
        self._table = ""

    def begin(self) -> None:
        """Use another table for the next test: Google takes minutes to forget a table that was dropped."""
        self._table = f"flights_{uuid.uuid4().hex[:12]}"

    def stream(self, home: Path, **options: Any) -> Stream2Bigquery:
        return Stream2Bigquery(
            "flights", self._key_file, self._project, self._dataset, self._table, home=home, **options
        )

    def rows(self, home: Path) -> list[dict[str, Any]]:
        """Sort by number: BigQuery's tables have no order."""
        try:
            found = self._client().query(f"SELECT * FROM `{self._project}.{self._dataset}.{self._table}`").result()
            return sorted((dict(row.items()) for row in found), key=lambda row: int(row["id"]))
        except NotFound:
            return []

    def end(self) -> None:
        self._client().delete_dataset(self._dataset, delete_contents=True, not_found_ok=True)

    @functools.cache  # noqa: B019 - one object a session
    def _client(self) -> Any:
        load: Any = service_account.Credentials.from_service_account_file
        return bigquery.Client(self._project, load(self._key_file))


@functools.cache
def live_bigquery() -> LiveBigquery:
    """Return what tests marked ``live`` write to.

    Raises:
        Skipped: The environment names no key file.
    """
    key_file = os.environ.get("API2DB_TEST_BIGQUERY_AUTH")
    if not key_file:
        pytest.skip("API2DB_TEST_BIGQUERY_AUTH names no key file")
    live = LiveBigquery(key_file)
    atexit.register(live.end)
    return live


@functools.cache
def _client_of(url: str) -> Any:
    nobody: Any = AnonymousCredentials  # it has no types
    return bigquery.Client(PROJECT, nobody(), client_options={"api_endpoint": url})


@functools.cache
def _keys() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="api2db-keys-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _key_file(server: BigqueryServer) -> Path:
    path = _keys() / f"{os.getpid()}-{server.rest.port}.json"
    return path if path.exists() else server.key_file(path)
