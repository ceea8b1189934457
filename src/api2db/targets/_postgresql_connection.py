"""A connection of psycopg that ends where its server is reached and does not answer."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from api2db.errors import MissingExtraError

__all__ = ["connection_class", "library"]

# As when a COMMIT waits for a standby. A COMMIT that we no longer wait for goes on, and the ledger tells of it; but a
# statement that works on a large table would end in vain, each time anew.
_ANSWER_S, _WORK_S = 60.0, 3600.0


def library() -> Any:
    """The module psycopg.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("psycopg", "postgresql") from error
    return psycopg


@cache
def connection_class() -> Any:
    """The class, made when it is first needed: its base is a library of an extra.

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
            """Let statements take as long as work on a large table may."""
            self.longest_s = _WORK_S
            try:
                yield
            finally:
                self.longest_s = None

        def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
            return super().wait(self._in_time(gen), *arguments, **options)

        def _in_time(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            """The driver goes on with it at least each tenth of a second, with nothing where nothing came."""
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
