"""Logins: any password works, and nobody ever sees one, whatever goes wrong."""

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from api2db import Stream2Sql
from api2db.errors import TargetUnavailableError
from tests.servers.server import Server
from tests.stream.cases import frame
from tests.stream.eventually import eventually

CANARY = "Canary:p@ss/w%20rd' \"\\ é名"
PIECES = (CANARY, "Canary", "p@ss/w", "p%40ss", "w%2520rd")
WHO = "keeper of secrets"


@pytest.fixture
def keeper(server: Server) -> Iterator[Server]:
    """A server with a user whose password has every character that something could misread."""
    quoted = server.engine.quote(WHO)
    with closing(server.client()) as client, client.cursor() as cursor:
        if server.kind == "postgresql":
            cursor.execute(f"DROP ROLE IF EXISTS {quoted}")
            cursor.execute("SET standard_conforming_strings = on")
            cursor.execute(f"CREATE ROLE {quoted} LOGIN CREATEDB PASSWORD '{CANARY.replace(chr(39), chr(39) * 2)}'")
        else:
            cursor.execute(f"DROP USER IF EXISTS '{WHO}'@'%'")
            cursor.execute("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
            password = CANARY.replace("'", "''")
            cursor.execute(f"CREATE USER '{WHO}'@'%' IDENTIFIED BY '{password}'")
            cursor.execute(f"GRANT ALL ON secrets.* TO '{WHO}'@'%'")
        yield server
        cursor.execute(f"DROP DATABASE IF EXISTS secrets{' WITH (FORCE)' if server.kind == 'postgresql' else ''}")
        cursor.execute(f"DROP ROLE {quoted}" if server.kind == "postgresql" else f"DROP USER '{WHO}'@'%'")


def stream_of(server: Server, home: Path, **options: Any) -> Stream2Sql:
    who: dict[str, Any] = {"username": WHO, "password": CANARY, "host": server.host, "port": str(server.port)}
    return Stream2Sql("flights", "secrets", server.kind, home=home, **{**who, **options})


def leaks(home: Path, caplog: pytest.LogCaptureFixture, *shown: str) -> list[str]:
    """Return where the password appears: output, log lines, files below the home, arguments of processes."""
    places = {"shown": "\n".join(shown), "log": caplog.text, "records": repr([vars(each) for each in caplog.records])}
    for path in home.rglob("*"):
        if path.is_file():
            places[str(path)] = path.read_bytes().decode(errors="replace")
    me = psutil.Process(os.getpid())
    places["arguments"] = repr([arguments(process) for process in (me, *me.children(recursive=True))])
    return [place for place, said in places.items() if any(piece in said for piece in PIECES)]


def arguments(process: psutil.Process) -> list[str]:
    """Return what others see of a process; nothing if it has ended meanwhile, as a server's backends do."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # also raised for a zombie
        return []


def shown_by(stream: Stream2Sql) -> list[str]:
    return [repr(stream), repr(vars(stream)), str(stream.status()), stream.log_str, stream.describe(), repr(stream.con)]


def test_any_password_works_for_the_stream_and_for_con(
    keeper: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stream = stream_of(keeper, tmp_path)
    assert (stream.connected, stream.con) == (False, None)
    assert stream.connect() is True
    assert stream.connected is True
    with stream:
        stream.stream(frame(1))
    assert stream.con is not None
    with stream.con.connect() as connection:
        assert connection.execute(text("SELECT id FROM flights")).fetchall() == [(1,)]
    stream.con.dispose()
    assert leaks(tmp_path, caplog, *shown_by(stream)) == []


@pytest.mark.parametrize("tls", ["disable", "prefer"])
def test_it_works_with_and_without_tls(keeper: Server, tls: str, tmp_path: Path) -> None:
    assert stream_of(keeper, tmp_path, tls=tls).connect() is True


WRONG: dict[str, dict[str, Any]] = {
    "password": {"password": f"{CANARY}!"},
    "user": {"username": "nobody"},
    "port": {"port": "1"},
    "host": {"host": "no.such.host.invalid"},
    "tls": {"tls": {"ca": "missing.pem"}},
    "database": {"db_name": "not granted"},
}


@pytest.mark.parametrize("what", WRONG)
def test_whatever_is_wrong_connect_says_no_and_the_log_why_and_nobody_sees_the_password(
    keeper: Server, what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if (keeper.kind, what) == ("postgresql", "database"):
        pytest.skip("whoever may make databases may make that one")
    caplog.set_level(logging.DEBUG)
    options = {"db_name": "secrets", **WRONG[what]}
    stream = Stream2Sql("flights", dialect=keeper.kind, home=tmp_path, **{**_who(keeper), **options})
    assert (stream.connect(), stream.connected, stream.con) == (False, False, None)
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "can't be reached" in warning
    with pytest.raises(TargetUnavailableError) as caught:
        stream._place.database().connect()
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    stream.start()
    stream.q.put(frame(1))
    assert eventually(lambda: stream.status().last_error)
    shown = [*shown_by(stream), *told.format(), *_con_fails(stream)]
    stream.stop()
    ours = [each for each in shown if "/tests/" not in each]  # a frame of this test has it among its locals
    assert leaks(tmp_path, caplog, *ours) == []


def _who(server: Server) -> dict[str, Any]:
    return {"username": WHO, "password": CANARY, "host": server.host, "port": str(server.port)}


def _con_fails(stream: Stream2Sql) -> list[str]:
    engine = stream._place.engine()
    with pytest.raises(Exception, match=r".") as caught:
        engine.connect()
    return traceback.format_exception(caught.value)


def test_a_password_that_is_changed_is_waited_for_and_delivery_goes_on_by_itself(
    keeper: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stream_of(keeper, tmp_path) as stream:
        stream.stream(frame(1))
        _set_password(keeper, "another")
        kill_connections(keeper)
        stream.q.put(frame(2))
        said = eventually(lambda: refused(stream))
        assert "denied" in said or "authentication failed" in said
        _set_password(keeper, CANARY.replace("'", "''"))
        assert stream.flush(20)
        assert stream.status().last_error is None
    assert keeper.execute("SELECT id FROM flights ORDER BY id", "secrets") == [(1,), (2,)]
    assert leaks(tmp_path, caplog) == []


def refused(stream: Stream2Sql) -> str:
    said = stream.status().last_error or ""
    return said if "can't be reached" in said else ""


def _set_password(server: Server, password: str) -> None:
    with closing(server.client()) as client, client.cursor() as cursor:
        if server.kind == "postgresql":
            cursor.execute(f"ALTER ROLE {server.engine.quote(WHO)} PASSWORD '{password}'")
        else:
            cursor.execute("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")
            cursor.execute(f"ALTER USER '{WHO}'@'%' IDENTIFIED BY '{password}'")


def kill_connections(server: Server) -> None:
    if server.kind == "postgresql":
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{WHO}'")
        return
    for (number,) in server.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{WHO}'"):
        server.execute(f"KILL {number}")
