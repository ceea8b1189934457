"""A network falls silent: it is noticed in time, told, and each row is there once when it is back."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from api2db.targets.mysql import _connection as mysql_connection
from api2db.targets.postgresql import _connection as postgresql_connection
from tests.kills.checker import Verdict
from tests.kills.here import running, wait_until
from tests.kills.on_servers import PutsThere, There
from tests.servers.server import Server
from tests.servers.wire import Wire, wire_to

SOON = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2, "tcp_user_timeout": 2_000}
SOON_TOO = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 2_000}
LONGEST_S = 30


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with wire_to(server.host, server.port) as wire:
        yield wire


@contextmanager
def locked(there: There) -> Iterator[None]:
    """Whoever loads waits for an answer."""
    lock = "LOCK TABLE flights IN ACCESS EXCLUSIVE MODE" if there.kind == "postgresql" else "LOCK TABLES flights WRITE"
    with closing(there.server.client(there.database, autocommit=False)) as client, client.cursor() as cursor:
        cursor.execute(lock)
        yield


@pytest.mark.parametrize("limits", ["shortened", pytest.param("real", marks=pytest.mark.torture)])
@pytest.mark.parametrize("awaited", [False, True], ids=["while nothing is awaited", "while an answer is awaited"])
def test_a_silent_network_is_noticed_and_costs_nothing(
    tmp_path: Path, server: Server, wire: Wire, awaited: Any, limits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limits == "shortened":
        monkeypatch.setattr(postgresql_connection, "_KEEP_ALIVE", SOON)
        monkeypatch.setattr(mysql_connection, "_KEEP_ALIVE", SOON_TOO)
    there = There(server)
    puts = PutsThere(tmp_path, there, host=wire.host, port=str(wire.port))
    with running(puts.stream):
        puts.put(1)
        assert puts.stream.flush(30)
        with locked(there) if awaited else nullcontext():
            if awaited:
                puts.put(2)
                wait_until(lambda: _somebody_waits(there), 20)
            wire.pull()
            began = time.monotonic()
            puts.put(2)
            wait_until(lambda: "broke" in str(puts.stream.status().last_error), LONGEST_S)
            assert limits == "real" or time.monotonic() - began < 9, "sooner than any lock or answer ends by itself"
        wire.plug()
        puts.stream.check_failures()
        assert puts.stream.flush(60), puts.stream.status()
    assert puts.verdict() == Verdict()


def _somebody_waits(there: There) -> bool:
    asked = {"postgresql": "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"}
    others = "SELECT 1 FROM information_schema.processlist WHERE db = '{}' AND state LIKE '%metadata lock%'"
    return bool(there.server.execute(asked.get(there.kind, others).format(there.database)))


def test_on_the_socket_stand_the_real_limits(mariadb: Server, tmp_path: Path) -> None:
    import socket

    libpq = dict(zip(SOON_TOO, postgresql_connection._KEEP_ALIVE.values(), strict=True))
    for limits in (mysql_connection._KEEP_ALIVE, libpq):
        waited = limits["TCP_KEEPIDLE"] + limits["TCP_KEEPINTVL"] * limits["TCP_KEEPCNT"]
        assert max(waited, limits["TCP_USER_TIMEOUT"] / 1000) < LONGEST_S
    with closing(mysql_connection._kept_alive((mariadb.host, mariadb.port))) as found:
        for option, value in mysql_connection._KEEP_ALIVE.items():
            assert found.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value
