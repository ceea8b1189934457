"""The database servers that benchmarks start."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.engines import Kind, find
from tests.servers.install import CASES, root_of_mysql
from tests.servers.server import Server, running_server


@contextmanager
def running(kind: Kind) -> Iterator[Server | None]:
    """Run a server during the block; None, with a message, if its kind is not installed."""
    engine = find(kind, root_of_mysql())
    if engine is None:
        print(f"no {kind} is here: {CASES[kind]}")
        yield None
        return
    with running_server(engine) as server:
        yield server
