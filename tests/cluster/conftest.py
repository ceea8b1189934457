"""Machines of one project in the cluster of the suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.journals import Machines
from tests.servers.nats import NatsCluster


@pytest.fixture
def machines(nats: NatsCluster, tmp_path: Path) -> Iterator[Machines]:
    machines = Machines(nats, tmp_path)
    yield machines
    machines.close()
    nats.clear()
