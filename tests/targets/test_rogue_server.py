"""A server that a client of MySQL must not trust gets our own buffer, or nothing."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql
import pytest
from sqlalchemy.exc import DBAPIError

from api2db.errors import TargetUnavailableError
from api2db.stream import Stream2Sql
from api2db.targets.mysql import MysqlDatabase
from api2db.targets.mysql import _connection as mysql_connection
from api2db.targets.port import Column
from api2db.targets.server import Password, Server, Tls, TlsMode
from tests.servers.rogue import Rogue, running_rogue

CANARY = "canary-of-a-password"
COLUMNS = {"id": Column("id", pa.int64(), "bigint")}


@pytest.fixture
def rogue() -> Iterator[Rogue]:
    with running_rogue(Rogue()) as rogue:
        yield rogue


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("the secret of this machine")
    return path


def database(port: int, mode: TlsMode = "prefer") -> MysqlDatabase:
    return MysqlDatabase(Server("127.0.0.1", port, "me", "db", Password(lambda: CANARY), Tls(mode)))


def load(rogue: Rogue) -> None:
    with database(rogue.port).transaction() as session:
        session.insert("flights", pa.table({"id": [1, 2]}), COLUMNS)


@pytest.mark.parametrize("name", ["/etc/passwd", "its own", "api2db", ""])
def test_asked_for_whatever_file_in_a_load_it_gets_the_rows_and_nothing_else(
    name: str, rogue: Rogue, secret: Path
) -> None:
    rogue.wanted, rogue.at = str(secret) if name == "its own" else name, "LOAD DATA LOCAL"
    load(rogue)
    assert rogue.asked == 1
    assert b"".join(rogue.stolen) == b"1\n2\n"


@pytest.mark.parametrize("at", ["", "SET NAMES", "SET SESSION", "SELECT @@", "BEGIN", "SHOW", "COMMIT"])
def test_asked_for_a_file_in_answer_to_any_other_statement_it_gets_nothing(at: str, rogue: Rogue, secret: Path) -> None:
    rogue.wanted, rogue.at = str(secret), at
    with pytest.raises(TargetUnavailableError):
        load(rogue)
    assert rogue.asked, rogue.heard
    assert rogue.stolen == []


@pytest.mark.parametrize("at", ["", "SELECT"])
def test_by_way_of_con_it_gets_nothing_either(at: str, rogue: Rogue, secret: Path, tmp_path: Path) -> None:
    rogue.wanted, rogue.at = str(secret), at
    stream = Stream2Sql("flights", "db", "mysql", "me", CANARY, "127.0.0.1", port=str(rogue.port), home=tmp_path)
    engine = stream._place.engine()
    with pytest.raises((RuntimeError, DBAPIError)):
        engine.connect()
    assert rogue.asked
    assert rogue.stolen == []


@pytest.mark.parametrize("plugin", ["mysql_clear_password", "dialog"])
def test_it_is_never_shown_the_password_in_the_clear(plugin: str, rogue: Rogue) -> None:
    rogue.plugin = plugin
    with pytest.raises(TargetUnavailableError, match="only over TLS") as caught:
        database(rogue.port).connect()
    assert CANARY not in str(caught.value)
    assert rogue.shown == []


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_without_tls_it_is_not_even_told_who_asks_where_tls_is_required(mode: TlsMode, rogue: Rogue) -> None:
    with pytest.raises(TargetUnavailableError, match="SSL"):
        database(rogue.port, mode).connect()
    assert rogue.heard == []


def test_the_rogue_is_believed_by_a_client_that_trusts_it(rogue: Rogue, secret: Path) -> None:
    """Else the tests above would prove nothing."""
    rogue.wanted, rogue.at = str(secret), "INSERT"
    options: dict[str, Any] = {"user": "me", "password": CANARY, "local_infile": True, "autocommit": True}
    with pymysql.connect(host="127.0.0.1", port=rogue.port, **options) as client, client.cursor() as cursor:
        cursor.execute("INSERT INTO flights VALUES (1)")
    assert b"".join(rogue.stolen) == b"the secret of this machine"
    rogue.plugin = "mysql_clear_password"
    pymysql.connect(host="127.0.0.1", port=rogue.port, **options).close()
    assert rogue.shown == [CANARY.encode() + b"\0"]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x05\0\0\0hello",
        b"\x01\0\0\0\x0a",
        b"\x04\0\0\0\x0a9.\xff",
        b"\0" * 64,
    ],
    ids=str,
)
def test_what_is_no_server_of_mysql_is_unavailable(said: bytes) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(said)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(TargetUnavailableError, match="can't be reached"):
            database(server.server_address[1]).connect()
        server.shutdown()


def test_a_server_that_is_silent_to_whoever_connects_is_unavailable_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_connection, "_CONNECT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(TargetUnavailableError, match="can't be reached"):
            database(silent.getsockname()[1]).connect()
        assert time.monotonic() - began < 30
