"""A client that is frozen in the middle of a load holds its stream's row of the ledger for some seconds at most."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from api2db.targets.mysql import MysqlDatabase
from api2db.targets.port import LedgerRow, LedgerUpdate
from api2db.targets.postgresql import PostgresqlDatabase
from api2db.targets.server import Password
from api2db.targets.server import Server as Address
from api2db.targets.sql import SqlTarget
from tests.servers.server import Server
from tests.stream.eventually import eventually

FIRST, SECOND = LedgerRow("epoch", 1, 0), LedgerRow("epoch", 2, 0)
ROWS = pa.table({"id": range(10_000)})  # of several pieces, which are sent one after another
ROOT = Path(__file__).parents[2]
FROZEN = """
import json, os, signal, sys
from api2db.targets import mysql, postgresql
from tests.targets import test_frozen

given = json.load(sys.stdin)
package = {"postgresql": postgresql}.get(given["kind"], mysql)
if package is mysql:
    mysql._database._SESSION = mysql._database._SESSION.replace("net_read_timeout = 10", "net_read_timeout = 1")
real, pieces = package._session.encoded, []

def encoded(*arguments):
    pieces.append(arguments)
    if len(pieces) == 2:
        os.kill(os.getpid(), signal.SIGSTOP)
    return real(*arguments)

package._session.encoded = encoded
target = test_frozen.target_on(**given)
try:
    test_frozen.load(target, test_frozen.FIRST, test_frozen.SECOND)
finally:
    target.close()
"""


def target_on(kind: str, host: str, port: int, user: str, password: str, database: str) -> SqlTarget:
    address = Address(host, port, user, database, Password(lambda: password))
    made = PostgresqlDatabase(address) if kind == "postgresql" else MysqlDatabase(address)
    target = SqlTarget(made, "loaded", "append", "evolve")
    target.connect()
    return target


def load(target: SqlTarget, before: LedgerRow | None, after: LedgerRow) -> None:
    target.load(ROWS, target.prepare(ROWS.schema), LedgerUpdate("stream", before, after, ROWS.num_rows))


def test_a_load_whose_client_is_frozen_is_ended_and_another_client_loads_its_rows(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.targets.postgresql._database._SILENT_S", 0.2)
    given = {"kind": server.kind, "host": server.host, "port": server.port, "user": server.user}
    given |= {"password": server.password, "database": database}
    target = target_on(**given)  # type: ignore[arg-type]
    assert target.read_position("stream") is None
    load(target, None, FIRST)
    command, paths = [sys.executable, "-c", FROZEN], os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
    ) as client:
        try:
            assert client.stdin is not None
            client.stdin.write(json.dumps(given))
            client.stdin.close()
            client.stdin = None
            eventually(lambda: psutil.Process(client.pid).status() == psutil.STATUS_STOPPED, 60)
            assert target.read_position("stream") == FIRST
            load(target, FIRST, SECOND)
            client.send_signal(signal.SIGCONT)
            _, said = client.communicate(timeout=60)
        finally:
            client.kill()
    target.close()
    assert client.returncode == 1
    assert "the connection to" in said
    assert server.execute("SELECT count(*) FROM loaded", database) == [(2 * ROWS.num_rows,)]
