"""The servers do what the tests that use them take for granted."""

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pymysql
import pytest
from sqlalchemy import URL

from api2db.torture.proxy import Proxy
from tests.servers import fixtures
from tests.servers.fixtures import engine
from tests.servers.processes import runs
from tests.servers.server import PASSWORD, Server, given_server, running_server
from tests.servers.tls import Authority, make_authority

LOST = (psycopg.OperationalError, pymysql.err.OperationalError)


@pytest.fixture
def through_proxy(server: Server, database: str, proxy: Proxy) -> Iterator[Any]:
    server.execute("CREATE TABLE things (n INTEGER)", database)
    client = _through(server, proxy, database)
    yield client
    client.close()


def _through(server: Server, proxy: Proxy, database: str) -> Any:
    options = {} if server.kind == "postgresql" else {"read_timeout": 2, "ssl_disabled": True}
    return given_server(server.engine, _url(server, proxy.port)).client(database, **options)


def _url(server: Server, port: int) -> str:
    url = URL.create(server.kind, server.user, server.password, server.host, port)
    return url.render_as_string(hide_password=False)


def _things(server: Server, database: str) -> list[tuple[Any, ...]]:
    return server.execute("SELECT n FROM things", database)


def test_a_server_answers_and_has_a_password_that_a_url_would_misread(server: Server) -> None:
    assert server.execute("SELECT 1") == [(1,)]
    assert all(odd in server.password for odd in "@:/%")
    assert server.password not in repr(server)


def test_nobody_gets_in_without_the_password(server: Server) -> None:
    with pytest.raises(LOST, match=r"(?i)denied|authentication failed"):
        server.client(password="wrong").close()


def test_a_servers_passwords_are_kept_as_its_present_version_keeps_them(server: Server) -> None:
    columns = {
        "postgresql": "SELECT left(rolpassword, 13) FROM pg_authid WHERE rolname = 'tester'",
        "mariadb": "SELECT plugin FROM mysql.user WHERE user = 'tester'",
        "mysql": "SELECT plugin FROM mysql.user WHERE user = 'tester'",
    }
    kept = {"postgresql": "SCRAM-SHA-256", "mariadb": "mysql_native_password", "mysql": "caching_sha2_password"}
    assert server.execute(columns[server.kind]) == [(kept[server.kind],)]


def test_a_server_runs_without_rights_in_a_folder_closed_to_others(server: Server) -> None:
    if server.local is None:
        pytest.skip("somebody else's server")
    assert 0 not in psutil.Process(server.pid).uids()
    assert stat.S_IMODE(server.local.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.local.folder / "data").stat().st_mode) == 0o700


def test_text_is_utf8_beyond_the_basic_plane(server: Server, database: str) -> None:
    server.execute("CREATE TABLE words (word VARCHAR(9))", database)
    server.execute("INSERT INTO words VALUES ('🐘')", database)
    assert server.execute("SELECT word FROM words", database) == [("🐘",)]


def test_a_killed_server_is_gone_at_once_and_comes_back_with_what_was_committed(server: Server, database: str) -> None:
    server.execute("CREATE TABLE things (n INTEGER)", database)
    server.execute("INSERT INTO things VALUES (1)", database)
    with closing(server.client(database)) as client, client.cursor() as cursor:
        processes = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        assert not list(filter(runs, processes))
        with pytest.raises(LOST):
            cursor.execute("SELECT 1")
    with pytest.raises(LOST):
        server.client()
    server.start()
    assert _things(server, database) == [(1,)]


def test_a_restarted_server_keeps_its_port_and_data(server: Server, database: str) -> None:
    server.execute("CREATE TABLE things (n INTEGER)", database)
    port, process = server.port, server.pid
    server.restart()
    assert (server.port, _things(server, database)) == (port, [])
    assert server.pid != process


@pytest.mark.parametrize("part", ["first, which leaves it dead", "second, which finds it alive"])
def test_a_test_may_leave_a_server_dead(server: Server, part: str) -> None:
    assert server.execute("SELECT 1") == [(1,)]
    server.kill()


def test_a_frozen_server_answers_when_it_thaws(server: Server) -> None:
    options: dict[str, Any] = {"connect_timeout": 2} if server.kind == "postgresql" else {"read_timeout": 2}
    with server.frozen(), pytest.raises(LOST):
        server.client(**options).close()
    assert server.execute("SELECT 1") == [(1,)]


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(RuntimeError, match=r"did not start(.|\n)*no_such_option"),
        running_server(engine("postgresql"), options=("--no_such_option=1",)),
    ):
        pass


def test_a_given_server_is_not_ours_to_kill(server: Server) -> None:
    given = given_server(server.engine, _url(server, server.port))
    assert given.password == PASSWORD
    assert given.execute("SELECT 1") == [(1,)]
    with pytest.raises(pytest.skip.Exception, match="not ours"):
        given.kill()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "mysql"])
def test_a_missing_server_skips_and_says_how_to_get_it_and_in_ci_only_mysql_may(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixtures, "find", lambda *_: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=rf"NOT TESTED on {kind}.*(get|install)"):
        engine(kind)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.skip.Exception if kind == "mysql" else pytest.fail.Exception):
        engine(kind)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "mysql"])
def test_a_server_with_tls_shows_a_certificate_that_its_authority_vouches_for(
    kind: Any, authority: Authority, tmp_path: Path
) -> None:
    stranger = make_authority(tmp_path / "stranger")
    with running_server(engine(kind), authority=authority) as server:
        with closing(server.client(**_verifying(server, authority))) as client:
            assert _encrypted(server, client)
        with pytest.raises(LOST, match=r"(?i)certificate verify failed"):
            server.client(**_verifying(server, stranger)).close()


def _verifying(server: Server, authority: Authority) -> dict[str, Any]:
    path = os.fspath(authority.certificate)
    if server.kind == "postgresql":
        return {"sslmode": "verify-full", "sslrootcert": path}
    return {"ssl_ca": path, "ssl_verify_cert": True, "ssl_verify_identity": True}


def _encrypted(server: Server, client: Any) -> bool:
    with client.cursor() as cursor:
        if server.kind == "postgresql":
            cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        else:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        return bool(cursor.fetchone()[-1])


def test_a_proxy_forwards_and_counts(through_proxy: Any, proxy: Proxy) -> None:
    with through_proxy.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert proxy.connections == 1
    assert min(proxy.bytes_to_server, proxy.bytes_to_client) > 0


def test_a_proxy_resets_what_is_connected_and_takes_new_connections(
    server: Server, database: str, proxy: Proxy, through_proxy: Any
) -> None:
    proxy.reset()
    with pytest.raises(LOST), through_proxy.cursor() as cursor:
        cursor.execute("SELECT 1")
    _through(server, proxy, database).close()


def test_a_proxy_that_refuses_lets_nobody_in_until_healed(server: Server, database: str, proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(LOST):
        _through(server, proxy, database)
    proxy.heal()
    _through(server, proxy, database).close()


def test_a_proxy_resets_in_the_middle_of_a_load(
    server: Server, database: str, proxy: Proxy, through_proxy: Any
) -> None:
    proxy.reset_after(100_000)
    values = ",".join(f"({number})" for number in range(100_000))
    with pytest.raises(LOST), through_proxy.cursor() as cursor:
        cursor.execute(f"INSERT INTO things VALUES {values}")
    assert _things(server, database) == []
    assert proxy.bytes_to_server < 600_000


def test_the_answer_to_a_commit_is_lost_and_the_commit_stands(
    server: Server, database: str, proxy: Proxy, through_proxy: Any
) -> None:
    proxy.drop_answers(after=b"COMMIT", then_reset=True)
    with through_proxy.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO things VALUES (1)")
        with pytest.raises(LOST):
            cursor.execute("COMMIT")
    assert _things(server, database) == [(1,)]


def test_answers_dropped_for_good_leave_the_client_waiting(
    server: Server, database: str, proxy: Proxy, through_proxy: Any
) -> None:
    if server.kind == "postgresql":
        pytest.skip("its driver waits without a limit")
    proxy.drop_answers()
    with pytest.raises(LOST, match="timed out"), through_proxy.cursor() as cursor:
        cursor.execute("INSERT INTO things VALUES (1)")
    assert _things(server, database) == [(1,)]
    proxy.heal()
    _through(server, proxy, database).close()


def test_a_paused_proxy_forwards_what_it_held_back_when_resumed(through_proxy: Any, proxy: Proxy) -> None:
    proxy.pause()
    before = proxy.bytes_to_server
    answers: list[Any] = []

    def ask() -> None:
        with through_proxy.cursor() as cursor:
            cursor.execute("SELECT 1")
            answers.append(cursor.fetchone())

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(0.2)
    assert asking.is_alive()
    assert proxy.bytes_to_server == before
    proxy.resume()
    asking.join(5)
    assert answers == [(1,)]


def test_a_throttled_proxy_is_slow(server: Server, database: str, proxy: Proxy, through_proxy: Any) -> None:
    proxy.throttle(200)
    text = "x" * 100_000
    began = time.monotonic()
    with through_proxy.cursor() as cursor:
        cursor.execute(f"SELECT length('{text}')")
        assert cursor.fetchone() == (100_000,)
    assert 0.4 < time.monotonic() - began < 5
