"""Homes and streams whose target is a database on a real server, reached directly or by way of a proxy."""

import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api2db.targets.mysql import _database as mysql
from api2db.targets.postgresql import _database as postgresql
from api2db.torture.proxy import Proxy
from tests.kills.checker import Row
from tests.kills.fork_server import ForkServer
from tests.kills.here import Puts
from tests.kills.homes import Home
from tests.kills.marks import AFTER
from tests.servers.server import Server

# A column that the server itself fills, so that the checker sees in which order rows went in.
ORDERED = {
    "postgresql": "ALTER TABLE flights ADD COLUMN place BIGSERIAL",
    "mysql": "ALTER TABLE flights ADD COLUMN place BIGINT NOT NULL AUTO_INCREMENT UNIQUE",
    "mariadb": "ALTER TABLE flights ADD COLUMN place BIGINT NOT NULL AUTO_INCREMENT UNIQUE",
}


@dataclass
class There:
    """A new database on a server."""

    server: Server
    proxy: Proxy | None = None
    order: str = "place"
    database: str = field(init=False)

    def __post_init__(self) -> None:
        self.database = self.server.new_database()

    @property
    def kind(self) -> str:
        return self.server.kind

    def options(self, **more: Any) -> dict[str, Any]:
        """Where a stream writes, as its constructor has it; a proxy sees what it forwards."""
        port = self.proxy.port if self.proxy else self.server.port
        user, password = self.server.user, self.server.password
        place = {"db_name": self.database, "host": self.server.host, "port": str(port)}
        seen = {"tls": "disable"} if self.proxy else {}
        return {**place, **seen, "username": user, "password": password, **more}

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.execute(statement, self.database)

    def rows(self) -> list[Row]:
        """What the table holds, in the order in which it went in."""
        with closing(self.server.client(self.database)) as client, client.cursor() as cursor:
            cursor.execute(f"SELECT * FROM flights ORDER BY {self.order}")
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]

    def keep_order(self) -> None:
        if self.order == "place":
            self.execute(ORDERED[self.kind])


@dataclass(frozen=True)
class HomeOf(Home):
    """A project whose one stream writes to a server."""

    there: There | None = None

    def rows(self, kind: str) -> list[Any]:
        assert self.there is not None
        return self.there.rows()

    def loads(self) -> int:
        """How many loads have been committed."""
        marks = self.logs / "marks"
        return sum(line.endswith(AFTER) for line in marks.read_text().splitlines()) if marks.exists() else 0

    def wait_for_loads(self, more: int, timeout_s: float = 90) -> None:
        """Return once so many more loads have been committed."""
        wanted, deadline = self.loads() + more, time.monotonic() + timeout_s
        while self.loads() < wanted:
            assert time.monotonic() < deadline, "nothing is delivered any more"
            time.sleep(0.002)


def home_on(there: There, place: Path, fork_server: ForkServer, **options: Any) -> HomeOf:
    """A project that has delivered a few frames."""
    home = HomeOf(place, (there.kind,), options=there.options(**options), there=there)
    fork_server.run("produce", home.project, frames=3)
    there.keep_order()
    return home


class PutsThere(Puts):
    """A stream of the test's own process into a table on a server; a few frames are there already."""

    def __init__(self, place: Path, there: There, *, begun: bool = True, **options: Any) -> None:
        self.there = there
        home = HomeOf(place, (there.kind,), there=there)
        self.begin(home, there.kind, there.options(**options))
        if begun:
            self.put(3)
            self.deliver()
            there.keep_order()


def shorten(lock: str = "1", idle: str = "3") -> None:
    """Servers that give up sooner, so that a test need not wait as long as a user would."""
    begin, session = postgresql._BEGIN, mysql._SESSION
    postgresql._BEGIN, postgresql._IDLE_S = begin.replace("'10s'", f"'{lock}s'"), int(idle)
    mysql._SESSION = session.replace("_timeout = 10", f"_timeout = {lock}").replace("= 30", f"= {idle}")
    mysql._IDLE_S = int(idle) - 1
