"""The server of the children that tests kill; they do the jobs of ``tests.kills.jobs``."""

from pathlib import Path

from api2db.torture import fork_server
from api2db.torture.fork_server import Child
from tests.faults.children import ROOT

__all__ = ["Child", "ForkServer"]


class ForkServer(fork_server.ForkServer):
    """A fork server of the tests' jobs."""

    def __init__(self, errors: Path) -> None:
        super().__init__("tests.kills.jobs", errors, ROOT)
