"""Processes that load by SQLAlchemy are killed at any moment; readers of other make find each row once."""

from pathlib import Path

import pytest

from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.kills.on_servers import HomeOf, There
from tests.kills.test_random_kills import kill_often
from tests.servers.server import Server

LONGEST_S = 2.5  # to import SQLAlchemy and to connect takes long
ROUNDS = [2, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(3600)])]


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_whenever_a_process_is_killed_each_row_is_in_the_file_once(
    fork_server: ForkServer, tmp_path: Path, say: list[str]
) -> None:
    say.append(f"SQLite by URL: {kill_often(fork_server, Home(tmp_path, ('sqlite_by_url',)), 200, LONGEST_S)}")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_whenever_a_process_is_killed_each_row_is_on_the_server_once(
    fork_server: ForkServer, tmp_path: Path, postgresql: Server, say: list[str], rounds: int
) -> None:
    there = There(postgresql)
    options = {
        "db_name": there.database,
        "url": f"postgresql+psycopg://{postgresql.user}@{postgresql.host}:{postgresql.port}",
        "password": postgresql.password,
    }
    home = HomeOf(tmp_path, ("postgresql_by_url",), options=options, there=there)
    fork_server.run("produce", home.project, frames=3)
    there.keep_order()
    say.append(f"PostgreSQL by URL: {kill_often(fork_server, home, rounds, LONGEST_S)}")
