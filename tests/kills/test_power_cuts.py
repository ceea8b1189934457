"""The power is cut while all targets are busy: what was acknowledged is in them once, when a process runs again."""

from pathlib import Path

import pytest

from tests.kills.checker import Verdict
from tests.kills.fork_server import ForkServer
from tests.kills.power import cut


def test_a_power_cut_loses_nothing_that_was_acknowledged(fork_server: ForkServer, tmp_path: Path) -> None:
    found = cut(fork_server, tmp_path)
    assert found == dict.fromkeys(found, Verdict())


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_thirty_power_cuts_lose_nothing_that_was_acknowledged(fork_server: ForkServer, tmp_path: Path) -> None:
    for number in range(30):
        found = cut(fork_server, tmp_path / str(number))
        assert found == dict.fromkeys(found, Verdict())
