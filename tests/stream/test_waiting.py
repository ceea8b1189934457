"""Errors that are no fault of the rows: the stream waits, its status says why, and it continues once they are fixed."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Stream2Sql
from tests.faults.disks import small_disk
from tests.servers.processes import give_away, new_folder
from tests.servers.server import Server
from tests.stream.cases import frame
from tests.stream.eventually import eventually

WHO = "limited"


@pytest.fixture
def limited(server: Server) -> Iterator[tuple[Server, str]]:
    """A server with a database in which a user may do everything, but nothing elsewhere."""
    database = server.new_database()
    server.create_user(WHO, "secret")
    if server.kind == "postgresql":
        server.execute(f"ALTER DATABASE {database} OWNER TO {WHO}")
        server.execute("GRANT ALL ON SCHEMA public TO limited", database)
    else:
        server.execute(f"GRANT ALL ON {database}.* TO {WHO}@'%'")
    yield server, database
    if server.kind == "postgresql":
        server.execute(f"DROP DATABASE {database} WITH (FORCE)")
    server.execute(f"DROP {'ROLE ' + WHO if server.kind == 'postgresql' else 'USER ' + WHO + '@' + repr('%')}")


def stream_to(server: Server, database: str, home: Path, **options: Any) -> Stream2Sql:
    place: dict[str, Any] = {"host": server.host, "port": str(server.port), "username": WHO, "password": "secret"}
    return Stream2Sql("flights", database, server.kind, home=home, **place, **options)


def kill_connections(server: Server) -> None:
    asked = {"postgresql": f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{WHO}'"}
    listed = f"SELECT id FROM information_schema.processlist WHERE user = '{WHO}'"
    for (number,) in server.execute(asked.get(server.kind, listed)):
        if server.kind != "postgresql":
            server.execute(f"KILL {number}")


@contextmanager
def read_only(server: Server, database: str) -> Iterator[None]:
    """Make the server read-only, as if another had taken over from it."""
    if server.kind == "postgresql":
        server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        kill_connections(server)
        yield
        server.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        kill_connections(server)
    else:
        server.execute("SET GLOBAL read_only = 1")
        yield
        server.execute("SET GLOBAL read_only = 0")


@contextmanager
def without_a_grant(server: Server, database: str) -> Iterator[None]:
    if server.kind == "postgresql":
        server.execute(f"REVOKE INSERT ON flights FROM {WHO}", database)
        yield
        server.execute(f"GRANT INSERT ON flights TO {WHO}", database)
    else:
        server.execute(f"REVOKE INSERT ON {database}.* FROM {WHO}@'%'")
        kill_connections(server)
        yield
        server.execute(f"GRANT INSERT ON {database}.* TO {WHO}@'%'")


@contextmanager
def without_room_for_connections(server: Server, database: str) -> Iterator[None]:
    if server.kind == "postgresql":
        server.execute(f"ALTER ROLE {WHO} CONNECTION LIMIT 1")
    else:
        server.execute(f"ALTER USER {WHO}@'%' WITH MAX_USER_CONNECTIONS 1")
    kill_connections(server)
    theirs = eventually(lambda: _their_connection(server, database))
    with closing(theirs):
        yield


def _their_connection(server: Server, database: str) -> Any:
    try:
        return server.client(database, user=WHO, password="secret")
    except server.engine.failures():
        return None


@contextmanager
def locked_out(server: Server, database: str) -> Iterator[None]:
    lock, free = ("NOLOGIN", "LOGIN") if server.kind == "postgresql" else ("ACCOUNT LOCK", "ACCOUNT UNLOCK")
    who = f"ROLE {WHO}" if server.kind == "postgresql" else f"USER {WHO}@'%'"
    server.execute(f"ALTER {who} {lock}")
    kill_connections(server)
    yield
    server.execute(f"ALTER {who} {free}")


@contextmanager
def stopped(server: Server, database: str) -> Iterator[None]:
    server.stop()
    yield
    server.start()


TROUBLES: dict[str, tuple[Callable[[Server, str], Any], tuple[str, ...]]] = {
    "read-only": (read_only, ("read-only",)),
    "a missing grant": (without_a_grant, ("permission denied", "denied to user", "command denied")),
    "too many connections": (without_room_for_connections, ("too many connections", "max_user_connections")),
    "a locked account": (locked_out, ("not permitted to log in", "is locked")),
    "a server that is down": (stopped, ("refused",)),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_it_is_waited_for_told_and_over_once_mended(limited: tuple[Server, str], trouble: str, tmp_path: Path) -> None:
    server, database = limited
    begin, words = TROUBLES[trouble]
    with stream_to(server, database, tmp_path) as stream:
        stream.stream(frame(1))
        with begin(server, database):
            stream.q.put(frame(2))
            eventually(lambda: any(word in str(stream.status().last_error) for word in words))
        stream.check_failures()
        assert stream.flush(30), stream.status()
        status = stream.status()
    assert (status.rows_rejected, status.rows_delivered) == (0, 2)
    assert server.execute("SELECT id FROM flights ORDER BY id", database) == [(1,), (2,)]


OURS = re.findall(r"^CREATE TABLE [^;]*;", (Path(__file__).parents[2] / "docs/servers.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("keys", [[], ["id"]], ids=["append", "by key"])
def test_a_user_who_may_only_write_rows_writes_into_tables_that_others_have_made(
    limited: tuple[Server, str], keys: list[str], tmp_path: Path
) -> None:
    server, database = limited
    for statement in (*OURS, "CREATE TABLE flights (id BIGINT, text VARCHAR(9))"):
        server.execute(statement, database)
    if server.kind == "postgresql":
        server.execute(f"ALTER DATABASE {database} OWNER TO {server.user}")
        server.execute(f"REVOKE ALL ON SCHEMA public FROM {WHO}, PUBLIC", database)
        server.execute(f"GRANT USAGE ON SCHEMA public TO {WHO}", database)
        server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {WHO}", database)
    else:
        server.execute(f"REVOKE ALL ON {database}.* FROM {WHO}@'%'")
        server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES ON {database}.* TO {WHO}@'%'")
    with stream_to(server, database, tmp_path, keys=keys) as stream:
        stream.q.put(frame(1, 2))
        assert stream.flush(20), stream.status()
        assert stream.status().rows_rejected == 0
    assert server.execute("SELECT id FROM flights ORDER BY id", database) == [(1,), (2,)]


@pytest.fixture
def full_disk() -> Iterator[Path]:
    """A disk that a file fills almost completely; a server may write there."""
    folder = new_folder()
    with small_disk(folder / "disk", "12m") as disk:
        give_away(disk)
        yield disk
    shutil.rmtree(folder, ignore_errors=True)


def test_a_disk_of_the_server_that_is_full_is_waited_for_until_there_is_room(
    postgresql: Server, full_disk: Path, tmp_path: Path
) -> None:
    """The other servers keep everything on one disk, and exit when it is full."""
    server, database = postgresql, postgresql.new_database()
    server.execute(f"CREATE TABLESPACE small LOCATION '{full_disk}'")
    server.execute("CREATE TABLE flights (id BIGINT, text TEXT) TABLESPACE small", database)
    fill(full_disk)
    rows = pd.DataFrame({"id": range(4_000), "text": ["x" * 1_000] * 4_000})
    place: dict[str, Any] = {
        "host": server.host,
        "port": str(server.port),
        "username": server.user,
        "password": server.password,
    }
    with Stream2Sql("flights", database, "postgresql", home=tmp_path, **place) as stream:
        stream.q.put(rows)
        eventually(lambda: "No space left" in str(stream.status().last_error))
        (full_disk / "filler").unlink()
        stream.check_failures()
        assert stream.flush(30), stream.status()
        assert stream.status().rows_rejected == 0
    assert server.execute("SELECT count(*), count(DISTINCT id) FROM flights", database) == [(4_000, 4_000)]
    server.execute("DROP TABLE flights", database)
    server.execute("DROP TABLESPACE small")


def fill(disk: Path) -> None:
    """Fill the disk except for 2 MB."""
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(free - (2 << 20)))
