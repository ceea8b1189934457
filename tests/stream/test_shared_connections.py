"""Many streams to one server share a few connections: each delivers its rows, in order, once."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Stream2Sql
from api2db.errors import ConfigurationError
from api2db.targets.sql import pool
from api2db.torture.proxy import Proxy
from tests.kills.here import running
from tests.servers.fixtures import engine
from tests.servers.server import Server, running_server
from tests.stream.eventually import eventually, sampled

FRAMES = 5
COUNT = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'api2db' AND datname = '{}'",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = '{}' AND id <> connection_id()",
}
NUMBERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE application_name = 'api2db' AND datname = '{}'",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = '{}' AND id <> connection_id()",
}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}


def of(server: Server, statements: dict[str, str]) -> str:
    return statements.get(server.kind, statements["mysql"])


def streams_to(server: Server, database: str, home: Path, number: int, **options: Any) -> list[Stream2Sql]:
    who: dict[str, Any] = {
        "host": server.host,
        "port": str(server.port),
        "username": server.user,
        "password": server.password,
    }
    return [Stream2Sql(f"s{n}", database, server.kind, home=home, **{**who, **options}) for n in range(number)]


def counted(server: Server, database: str) -> AbstractContextManager[list[int]]:
    """Collect the number of our connections at several moments."""
    return sampled(lambda: connections(server, database), 0.02)


def connections(server: Server, database: str) -> int:
    return int(server.execute(of(server, COUNT).format(database))[0][0])


def put_to_all(streams: Sequence[Stream2Sql], frames: range) -> None:
    for n in frames:
        for stream in streams:
            stream.q.put(pd.DataFrame({"n": [n]}))


def flush_all(streams: Sequence[Stream2Sql], timeout_s: float = 60) -> None:
    for stream in streams:
        assert stream.flush(timeout_s), stream.status()


def check(server: Server, database: str, streams: Sequence[Stream2Sql], frames: int) -> None:
    for stream in streams:
        found = [n for (n,) in server.execute(f"SELECT n FROM {stream.name} ORDER BY n", database)]
        assert found == list(range(frames)), stream.name


@pytest.mark.parametrize("many", [24, pytest.param(60, marks=pytest.mark.torture)])
def test_many_streams_share_eight_connections_which_close_when_nothing_is_to_be_done(
    server: Server, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(pool, "IDLE_S", 0.5)
    streams = streams_to(server, database, tmp_path, many)
    with running(*streams):
        with counted(server, database) as found:
            put_to_all(streams, range(FRAMES))
            flush_all(streams)
        assert 1 <= max(found) <= 8
        assert eventually(lambda: connections(server, database) == 0)
        put_to_all(streams, range(FRAMES, FRAMES + 2))
        flush_all(streams)
    assert eventually(lambda: connections(server, database) == 0), "behind the last stream none is left"
    check(server, database, streams, FRAMES + 2)


def test_how_many_they_share_is_an_option(server: Server, database: str, tmp_path: Path) -> None:
    streams = streams_to(server, database, tmp_path, 12, max_connections=2)
    with running(*streams), counted(server, database) as found:
        put_to_all(streams, range(10))
        flush_all(streams)
    assert max(found) <= 2
    check(server, database, streams, 10)


@pytest.mark.parametrize("number", [0, -1, True, "8", 1.5])
def test_a_number_of_connections_that_is_none_is_refused(number: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_connections must be a whole number of at least 1"):
        Stream2Sql("s", "db", "postgresql", "me", "secret", "localhost", max_connections=number)


def test_streams_of_another_user_do_not_share(server: Server, database: str, tmp_path: Path) -> None:
    """Otherwise a stream with a wrong password could use another's connection."""
    [right] = streams_to(server, database, tmp_path, 1)
    [wrong] = streams_to(server, database, tmp_path, 1, password="wrong", table="other")
    with running(right, wrong):
        right.q.put(pd.DataFrame({"n": [0]}))
        wrong.q.put(pd.DataFrame({"n": [0]}))
        assert right.flush(20), right.status()
        assert eventually(lambda: "can't be reached" in str(wrong.status().last_error))


@pytest.mark.parametrize("keys", [[], ["n"]], ids=["append", "by key"])
def test_connections_that_are_killed_while_streams_share_them_cost_nothing(
    server: Server, database: str, tmp_path: Path, keys: list[str]
) -> None:
    streams = streams_to(server, database, tmp_path, 10, keys=keys, max_connections=3)
    with running(*streams):
        for n in range(0, 12, 2):
            put_to_all(streams, range(n, n + 2))
            for (number,) in server.execute(of(server, NUMBERS).format(database)):
                kill(server, number)
        for stream in streams:
            stream.check_failures()
        flush_all(streams)
    check(server, database, streams, 12)


def kill(server: Server, number: int) -> None:
    try:
        server.execute(of(server, KILL).format(number))
    except Exception as error:  # noqa: BLE001 - it may have gone by itself
        assert "Unknown thread" in str(error)  # noqa: PT017 - what else it says is a fault of the test


def test_commits_whose_answers_are_lost_are_not_repeated_by_streams_that_share(
    server: Server, database: str, proxy: Proxy, tmp_path: Path
) -> None:
    options = {"port": str(proxy.port), "tls": "disable", "max_connections": 2}
    streams = streams_to(server, database, tmp_path, 6, **options)
    with running(*streams):
        put_to_all(streams, range(1))
        flush_all(streams)
        for n in range(1, 6):
            before = proxy.connections
            proxy.drop_answers(after=b"COMMIT", then_reset=True)
            put_to_all(streams, range(n, n + 1))
            eventually(lambda before=before: proxy.connections > before)  # type: ignore[misc]
            proxy.heal()
            flush_all(streams)
    check(server, database, streams, 6)


def test_what_a_trigger_leaves_in_the_session_of_one_stream_no_other_finds(postgresql: Server, tmp_path: Path) -> None:
    database = postgresql.new_database()
    streams = streams_to(postgresql, database, tmp_path, 2, max_connections=1)
    for stream in streams:
        postgresql.execute(f"CREATE TABLE {stream.name} (n BIGINT, lock INT, setting TEXT)", database)
    postgresql.execute(
        "CREATE FUNCTION leaves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.lock := (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid());"
        " NEW.setting := coalesce(current_setting('our.own', true), '');"
        " PERFORM pg_advisory_lock(7), set_config('our.own', 'left', false); RETURN NEW; END $$",
        database,
    )
    for stream in streams:
        trigger = f"CREATE TRIGGER leaves BEFORE INSERT ON {stream.name} FOR EACH ROW EXECUTE FUNCTION leaves()"
        postgresql.execute(trigger, database)
    with running(*streams):
        for n in range(3):
            for stream in streams:
                stream.q.put(pd.DataFrame({"n": [n]}))
                assert stream.flush(20), stream.status()
    for stream in streams:
        assert postgresql.execute(f"SELECT DISTINCT lock, setting FROM {stream.name}", database) == [(0, "")]


@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_a_session_of_mysql_is_as_ours_is_to_be_when_another_stream_takes_it(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    [one, two] = streams_to(server, server.new_database(), tmp_path, 2, max_connections=1)
    mine, other = one._place.database(), two._place.database()
    try:
        other.connect()
        with mine.transaction() as session:
            asked = "SELECT connection_id(), @@sql_mode, @@time_zone, @@wait_timeout, @@character_set_client, @left"
            before = session.rows(asked)
            session.run("SET @left = 1, SESSION sql_mode = '', time_zone = '+05:00', wait_timeout = 999")
            session.run("CREATE TEMPORARY TABLE left_there (n INT)")
            assert session.rows("SELECT GET_LOCK('left', 0)") == [(1,)]
        with other.transaction() as session:
            assert session.rows(asked) == before, "it is the same connection"
            assert session.rows("SELECT IS_USED_LOCK('left')") == [(None,)]
            assert not session.rows("SHOW TABLES LIKE 'left_there'")
            assert session.rows("SELECT 'Ł', length('Ł'), @@session.autocommit") == [("Ł", 2, 1)]
    finally:
        mine.close()
        other.close()


def test_a_stream_that_waits_for_a_connection_stops_at_once(server: Server, database: str, tmp_path: Path) -> None:
    [busy, waiting] = streams_to(server, database, tmp_path, 2, max_connections=1)
    with busy._place.database().transaction():
        waiting.start()
        waiting.q.put(pd.DataFrame({"n": [0]}))
        time.sleep(0.2)
        begun = time.monotonic()
        waiting.stop()
        assert time.monotonic() - begun < 2
        assert not waiting.lock.locked()
    with running(waiting):
        assert waiting.flush(20), waiting.status()
    check(server, database, [waiting], 1)


@pytest.fixture(params=["postgresql", "mariadb"])
def small(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that allows few connections."""
    options = {"postgresql": ("-c", "max_connections=10"), "mariadb": ("--max-connections=10",)}
    with running_server(engine(request.param), options=options[request.param]) as server:
        yield server


def test_a_server_whose_connections_others_use_up_is_waited_for_and_the_message_names_the_option(
    small: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = small.new_database()
    streams = streams_to(small, database, tmp_path, 20)
    with running(*streams):
        with ExitStack() as others:
            while client := one_more(small, database):
                others.enter_context(closing(client))
            put_to_all(streams, range(3))
            said = str(eventually(lambda: streams[0].status().last_error))
            assert "max_connections" in said
            assert "processes" in said
        for stream in streams:
            stream.check_failures()
        flush_all(streams)
    check(small, database, streams, 3)


def test_where_a_server_gives_fewer_connections_than_the_streams_may_share_they_go_on_with_these(
    small: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = small.new_database()
    streams = streams_to(small, database, tmp_path, 20)
    with ExitStack() as others:
        clients = []
        while client := one_more(small, database):
            clients.append(client)
        clients.pop().close()
        for client in clients:
            others.enter_context(closing(client))
        with running(*streams):
            put_to_all(streams, range(3))
            flush_all(streams)
    assert "accepts no more than 1 connections, which the streams share" in caplog.text
    check(small, database, streams, 3)


def one_more(server: Server, database: str) -> Any:
    try:
        return server.client(database)
    except server.engine.failures():
        return None
