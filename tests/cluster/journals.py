"""Journals of the tests in the cluster of the suite, and what can go wrong between them and the servers."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api2db.cluster import Cluster, ClusterJournalStore, parse_address
from api2db.cluster._journal import ClusterJournal
from api2db.cluster._reader import ClusterReader
from api2db.errors import ClusterUnavailableError
from api2db.journal import Delivered, Entry, ReadLimit, StreamIdentity, StreamNo
from tests.servers.nats import NatsCluster

ALL_AT_ONCE = ReadLimit(1 << 30, 1 << 30)
SQL = StreamIdentity("sql", "sql.postgresql")
_projects = itertools.count(1)


def rows(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"id": list(ids)})


class Machine:
    """One process of a project, as far as the cluster can tell: it has a connection and a session of its own."""

    def __init__(self, address: str, home: Path) -> None:
        self.cluster = Cluster(parse_address(address, home))
        self.store = ClusterJournalStore(home, self.cluster)

    def journal(self, name: str = "flights") -> ClusterJournal:
        return self.store.open(name).journal

    def attached(self, name: str = "flights", identity: StreamIdentity = SQL) -> tuple[ClusterJournal, ClusterReader]:
        journal = self.journal(name)
        return journal, journal.attach(identity)[1]

    def vanish(self) -> None:
        """End as a killed process does: nothing is given back."""
        self.cluster.connection.close()
        self.cluster._ending.set()
        self.cluster.session._ending.set()
        self.cluster.open.clear()

    def close(self) -> None:
        for shared in list(self.cluster.open.values()):
            shared.journal.close()
        self.cluster.close()


class Machines:
    """The machines of one project."""

    def __init__(self, nats: NatsCluster, home: Path) -> None:
        self.address = nats.address(f"m{os.getpid()}-{next(_projects)}")
        self._home = home
        self._machines: list[Machine] = []

    def new(self) -> Machine:
        self._machines.append(Machine(self.address, self._home))
        return self._machines[-1]

    def close(self) -> None:
        for machine in self._machines:
            machine.close()


def ids(entries: list[Entry]) -> list[int]:
    return [each for entry in entries for each in entry.batch.column("id").to_pylist()]


def delivered(reader: ClusterReader) -> list[int]:
    """Deliver what waits, and say which rows those were."""
    found: list[int] = []
    while entries := reader.read(ALL_AT_ONCE, 0):
        found += ids(entries)
        reader.acknowledge(entries[-1].position, Delivered(frames=sum(entry.frame_end for entry in entries)))
    return found


@contextmanager
def answers_lost(machine: Machine, monkeypatch: pytest.MonkeyPatch, *, times: int, arrives: bool) -> Iterator[None]:
    """Lose the answers to publications, for a block.

    Args:
        times: How many.
        arrives: Whether the servers get what was sent.
    """
    left = [times]

    def losing(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            if not left[0]:
                return call(*args, **kwargs)
            left[0] -= 1
            if arrives:
                call(*args, **kwargs)
            raise ClusterUnavailableError("this answer was lost")

        return made

    with monkeypatch.context() as patch:
        jetstream = machine.cluster.jetstream
        patch.setattr(jetstream, "publish_together", losing(jetstream.publish_together))
        yield


__all__ = ["ALL_AT_ONCE", "SQL", "Machine", "Machines", "StreamNo", "answers_lost", "delivered", "ids", "rows"]
