"""Commands on a project whose journals are in a cluster, from a machine that runs nothing."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from api2db import Collector, Stream2Sql
from api2db.app._cluster import ClusterHost
from api2db.app._stopping import Stop
from api2db.app.command_line import app
from api2db.cluster import close_clusters, parse_address
from api2db.errors import ConfigurationError
from api2db.journal import journal_store
from tests.cluster.journals import Machines, rows


@pytest.fixture
def elsewhere(machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home of a machine that uses the cluster, and runs nothing."""
    monkeypatch.setenv("API2DB_CLUSTER", machines.address)
    monkeypatch.setattr("api2db.journal._store.new_store", journal_store)  # put back afterwards
    return tmp_path


def printed(*arguments: str) -> str:
    said = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert said.exit_code in {0, 3}, said.output
    return said.output


def test_status_and_forget_work_from_any_machine(machines: Machines, elsewhere: Path) -> None:
    machine = machines.new()
    journal, _ = machine.attached()
    journal.append([rows(1, 2, 3)], cursor={"page": 1})
    journal.housekeeping.save_changes()
    home = ("--home", str(elsewhere))
    [collector] = json.loads(printed("status", "--json", *home))["collectors"]
    assert (collector["name"], collector["running"], collector["streams"][0]["rows_waiting"]) == ("flights", True, 3)
    cluster = json.loads(printed("cluster", "status", "--json", *home))
    assert cluster["healthy"] is True
    assert [each["pid"] for each in cluster["workers"]]
    [seen] = cluster["collectors"]
    assert (seen["collector"], seen["replicas"], seen["replicas_current"]) == ("flights", 3, 3)
    assert "flights" in printed("cluster", "status", *home)
    machine.close()
    assert "is forgotten" in printed("forget", "--yes", "sql", *home)
    assert json.loads(printed("status", "--json", *home))["collectors"] == []
    close_clusters()


def test_a_collector_that_writes_files_of_one_machine_needs_a_pin(elsewhere: Path) -> None:
    def polled() -> pd.DataFrame:
        return pd.DataFrame({"id": [1]})

    stream = Stream2Sql("local", "x.sqlite", "sqlite", home=elsewhere)
    host = ClusterHost([Collector("local", 1, polled, [stream])])
    stop = Stop()
    stop.request()
    with pytest.raises(ConfigurationError, match="pin="):
        host.watch(stop)
    ClusterHost([Collector("local", 1, polled, [stream], pin="here")]).watch(stop)
    close_clusters()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("redis://a", "has the form"),
        ("nats://user:secret@a", "which every process list shows"),
        ("nats://a/project?creds=AUTH/none.creds", "which is not a file"),
        ("nats://a/project?colour=red", "unknown: colour"),
        ("nats://a?replicas=9", "give 3 or 5"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained_without_its_secret(
    address: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        parse_address(address, tmp_path)
    assert "secret" not in str(raised.value)
