"""How to connect with psycopg, and a connection that ends when the server no longer answers."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from api2db.errors import from_extra
from api2db.targets.server import Server

_CONNECT_S = 10
# A silence of 20 s ends the connection, also while it waits for an answer and sends nothing.
_KEEP_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 20_000}
# Seconds for an answer: a COMMIT may wait for a standby. After that the COMMIT continues on the server, and the ledger
# tells its outcome. Seconds for work: a statement on a large table that was given up would fail at each try.
_ANSWER_S = 60.0
_WORK_S = 3600.0


@cache
def library() -> Any:
    """The module psycopg.

    Raises:
        MissingExtraError: It is not installed.
    """
    with from_extra("psycopg", "postgresql"):
        import psycopg
    return psycopg


def postgresql_arguments(server: Server, database: str | None = None) -> dict[str, Any]:
    """The arguments of ``psycopg.connect`` for a server; asks for the password.

    Args:
        database: Another database than the server's.

    Raises:
        TargetUnavailableError: There is no password at the moment, or a file of TLS cannot be read.
    """
    tls = server.tls
    tls.require_files()
    authorities = tls.ca or ("system" if tls.mode == "verify-full" else None)
    return {
        "host": server.host,
        "port": server.port,
        "user": server.username,
        "password": server.password(),
        "dbname": database or server.database,
        "sslmode": tls.mode,
        "sslrootcert": authorities,
        "sslcert": tls.cert,
        "sslkey": tls.key or tls.cert,
        "connect_timeout": _CONNECT_S,
        "client_encoding": "utf8",
        "application_name": "api2db",
        **_KEEP_ALIVE,
    }


@cache
def connection_class() -> Any:
    """The class, created when it is first needed, because its base is in an extra.

    Raises:
        MissingExtraError: psycopg is not installed.
    """
    library()
    from psycopg import Connection, OperationalError

    class AnsweredConnection(Connection[Any]):
        """See the module."""

        longest_s: float | None = None

        @contextmanager
        def working(self) -> Iterator[None]:
            """Give statements of the block the time that work on a large table may take."""
            self.longest_s = _WORK_S
            try:
                yield
            finally:
                self.longest_s = None

        def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
            return super().wait(self._in_time(gen), *arguments, **options)

        def _in_time(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            """The driver resumes this at least ten times a second, with nothing if nothing came."""
            longest_s, heard_s = self.longest_s or _ANSWER_S, time.monotonic()
            try:
                wanted = next(generator)
                while True:
                    if ready := (yield wanted):
                        heard_s = time.monotonic()
                    elif time.monotonic() - heard_s > longest_s:
                        self.close()
                        raise OperationalError(_said(longest_s))
                    wanted = generator.send(ready)
            except StopIteration as ended:
                return ended.value

    return AnsweredConnection


def _said(longest_s: float) -> str:
    return f"no answer within {longest_s:.0f} s; where a COMMIT waits for a standby, look at synchronous_standby_names"
