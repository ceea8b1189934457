"""The servers of a test session, each started when the first test asks for it and stopped at the end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from api2db.torture.proxy import Proxy
from tests.faults.needs import NOT_TESTED, lack
from tests.servers.bigquery import BigqueryServer
from tests.servers.buckets import Bucket
from tests.servers.emulators import BQEMULATOR, EmulatorServer
from tests.servers.engines import Engine, Kind, MariaDB, MySQL, PostgreSQL, find
from tests.servers.install import CASES, environment_of, root_of_mysql
from tests.servers.omnisci import OmnisciServer
from tests.servers.server import Server, given_server, running_server
from tests.servers.tls import Authority, make_authority

KINDS: tuple[Kind, ...] = ("postgresql", "mariadb", "mysql")

_started: list[Server] = []


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with _server("postgresql") as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    with _server("mariadb") as server:
        yield server


@pytest.fixture(scope="session")
def mysql() -> Iterator[Server]:
    with _server("mysql") as server:
        yield server


@pytest.fixture(scope="session")
def running_omnisci() -> Iterator[OmnisciServer]:
    with OmnisciServer() as server:
        yield server


@pytest.fixture
def omnisci(running_omnisci: OmnisciServer) -> OmnisciServer:
    """A HeavyDB of the tests, without tables."""
    running_omnisci.clear()
    running_omnisci.handler.largest_bytes = 0
    return running_omnisci


@pytest.fixture(scope="session")
def bigquery_server() -> Iterator[BigqueryServer]:
    with BigqueryServer() as server:
        yield server


@pytest.fixture
def bigquery(bigquery_server: BigqueryServer) -> BigqueryServer:
    """A BigQuery of our own, empty."""
    bigquery_server.clear()
    return bigquery_server


@pytest.fixture(scope="session")
def running_bqemulator() -> Iterator[EmulatorServer]:
    environment = environment_of(BQEMULATOR)
    if not environment.exists():
        lack(f"{NOT_TESTED} on {BQEMULATOR.name}: there is none here; get it by python -m tests.servers.install")
    with EmulatorServer(BQEMULATOR, environment) as server:
        yield server


@pytest.fixture
def bqemulator(running_bqemulator: EmulatorServer) -> EmulatorServer:
    """An emulator of BigQuery that others wrote, empty."""
    running_bqemulator.clear()
    return running_bqemulator


@pytest.fixture(scope="session")
def bucket() -> Iterator[Bucket]:
    """S3 as moto plays it."""
    server = Bucket()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn."""
    return cast("Server", request.getfixturevalue(request.param))


@pytest.fixture(scope="session")
def encrypted_postgresql(authority: Authority) -> Iterator[Server]:
    with running_server(engine("postgresql"), authority=authority) as server:
        yield server


@pytest.fixture(scope="session")
def encrypted_mariadb(authority: Authority) -> Iterator[Server]:
    with running_server(engine("mariadb"), authority=authority) as server:
        yield server


@pytest.fixture(scope="session")
def encrypted_mysql(authority: Authority) -> Iterator[Server]:
    with running_server(engine("mysql"), authority=authority) as server:
        yield server


@pytest.fixture(scope="session", params=KINDS)
def encrypted_server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn, with a certificate for localhost and 127.0.0.1."""
    return cast("Server", request.getfixturevalue(f"encrypted_{request.param}"))


@pytest.fixture
def database(server: Server) -> str:
    """A new database on that server."""
    return server.new_database()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A network before that server, with switches."""
    with Proxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of servers and clients."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def _servers_left_running() -> Iterator[None]:
    """A test may leave a server dead: the next finds it alive."""
    yield
    for server in _started:
        if not server.running:
            server.start()


def engine(kind: Kind) -> Engine:
    """The programs of a kind of server; where there are none, the test is skipped, but in CI it fails.

    Only MySQL is skipped in CI, too: Debian unstable, where it comes from, changes from day to day.
    """
    found = find(kind, root_of_mysql())
    if found:
        return found
    reason = f"{NOT_TESTED} on {kind}: there is none here; get it by {CASES[kind]}"
    if kind == "mysql":
        pytest.skip(reason)
    lack(reason)
    raise AssertionError


@contextmanager
def _server(kind: Kind) -> Iterator[Server]:
    url = os.environ.get(f"API2DB_TEST_{kind.upper()}_URL")
    if url:
        yield given_server(_client_of(kind), url)
        return
    with running_server(engine(kind)) as server:
        _started.append(server)
        yield server
        _started.remove(server)


def _client_of(kind: Kind) -> Engine:
    """A kind of server whose programs are elsewhere."""
    nowhere = Path()
    engines: dict[Kind, Engine] = {
        "postgresql": PostgreSQL(nowhere),
        "mariadb": MariaDB(nowhere, nowhere),
        "mysql": MySQL(nowhere),
    }
    return engines[kind]
