"""A server as tests see it: they start it, kill it, start it again, and ask it."""

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from tests.servers.engines import Address, Engine, Kind
from tests.servers.processes import ServerProcess, free_port, give_away, new_folder
from tests.servers.tls import Authority, Certificate

USER = "tester"
PASSWORD = "p@ss:w/o%rd"  # every character that a URL would misread
READY_WITHIN_S = 60
ASK_EVERY_S = 0.05
LINES_OF_A_LOG = 20

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Local:
    """The folder of a server that the tests run themselves, and with what it is started."""

    folder: Path
    certificate: Certificate | None = None
    options: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        return self.folder / "log"


@dataclass
class Server:
    """A database server, and the user that may do everything on it."""

    engine: Engine
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    local: Local | None = None
    _process: ServerProcess | None = field(default=None, repr=False)

    @property
    def kind(self) -> Kind:
        return self.engine.kind

    @property
    def address(self) -> Address:
        return Address(self.host, self.port, self.user, self.password)

    @property
    def running(self) -> bool:
        return self.local is None or (self._process is not None and self._process.alive)

    @property
    def pid(self) -> int:
        """Of the process that listens.

        Raises:
            AssertionError: It doesn't run.
        """
        self._own()
        assert self._process is not None, f"{self.kind} does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it where it doesn't run; returns when it answers.

        Raises:
            RuntimeError: It ended, or did not answer in time, with the end of its log.
        """
        local = self._own()
        if self.running:
            return
        command = self.engine.command(local.folder, self.port, local.certificate)
        self._process = ServerProcess([*command, *local.options], local.folder, local.log)
        self._wait_until_ready()

    def kill(self) -> None:
        """Kill every process of it at once, as SIGKILL does; returns when they are gone."""
        self._own()
        if self._process is not None:
            self._process.kill()
            self._process = None

    def stop(self) -> None:
        """Stop it in order, whoever is connected."""
        self._own()
        if self._process is not None:
            self._process.end(self.engine.stop_signal)
            self._process = None

    def restart(self) -> None:
        """Stop it and start it again, on the same port with the same data."""
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes as SIGSTOP does, for the length of a block: connected, and silent."""
        self._own()
        with self._process.frozen() if self._process else nullcontext():
            yield

    def client(self, database: str | None = None, **options: Any) -> Any:
        """A raw connection (psycopg or PyMySQL) that commits each statement by itself, unless options say otherwise."""
        return self.engine.connect(self.address, database, options)

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own, and give its rows."""
        with closing(self.client(database)) as client, client.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def create_database(self, name: str) -> str:
        self.execute(self.engine.creation(name))
        return name

    def new_database(self) -> str:
        """Make an empty database, and give its name, which no other has."""
        return self.create_database(f"tests_{os.getpid()}_{next(_numbers)}")

    def create_user(self, user: str, password: str) -> Address:
        """Make a user that may log in and nothing else."""
        self.execute(self.engine.user_creation(user, password))
        return Address(self.host, self.port, user, password)

    def _own(self) -> Local:
        if self.local is None:
            pytest.skip(f"this {self.kind} was given by the environment: it is not ours to start, stop or kill")
        return self.local

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                self.client().close()
            except self.engine.failures() as error:
                self._give_up_if_hopeless(deadline, error)
                time.sleep(ASK_EVERY_S)
            else:
                return

    def _give_up_if_hopeless(self, deadline: float, error: Exception) -> None:
        assert self.local is not None
        if self.running and time.monotonic() < deadline:
            return
        log = self.local.log.read_text(errors="replace").splitlines()
        self.kill()
        raise RuntimeError("\n".join([f"{self.kind} did not start: {error}", *log[-LINES_OF_A_LOG:]])) from error


@contextmanager
def running_server(
    engine: Engine, *, authority: Authority | None = None, options: tuple[str, ...] = ()
) -> Iterator[Server]:
    """A new server of its own, removed with all it held.

    Args:
        authority: Signs a certificate for it: TLS is then offered.
        options: Further arguments of its command line.
    """
    folder = new_folder()
    certificate = _certificate(authority, folder) if authority else None
    server = Server(engine, "127.0.0.1", free_port(), USER, PASSWORD, Local(folder, certificate, options))
    try:
        engine.initialise(folder, USER, PASSWORD)
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def given_server(engine: Engine, url: str) -> Server:
    """A server that somebody else runs, from a URL as SQLAlchemy has it."""
    parts = make_url(url)
    assert parts.host, f"the URL of a {engine.kind} server names no host"
    port = parts.port or (5432 if engine.kind == "postgresql" else 3306)
    return Server(engine, parts.host, port, parts.username or "", str(parts.password or ""))


def _certificate(authority: Authority, folder: Path) -> Certificate:
    certificate = authority.issue(folder)
    for path in (certificate.certificate, certificate.key, certificate.authority):
        give_away(path)
    return certificate
