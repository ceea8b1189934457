"""What exactly once rests on is taken away, one thing at a time: then the checker must say so, or it would never."""

from pathlib import Path

import pytest

from tests.kills.fork_server import ForkServer
from tests.kills.power import cut
from tests.kills.steps import Delivery


def is_doubled_by_a_kill(delivery: Delivery) -> bool:
    """Whether the checker finds rows twice after a kill at some step: between the load and its acknowledgement."""
    found = (delivery.killed_at(step) for step in reversed(delivery.steps()))
    return any(verdict is not None and verdict.doubled for verdict in found)


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_without_the_ledger_rows_are_doubled_and_the_checker_says_so(
    fork_server: ForkServer, tmp_path: Path, kind: str
) -> None:
    assert is_doubled_by_a_kill(Delivery(fork_server, tmp_path, kind, "ledger"))


def test_without_the_plan_shards_are_doubled_and_the_checker_says_so(fork_server: ForkServer, tmp_path: Path) -> None:
    assert is_doubled_by_a_kill(Delivery(fork_server, tmp_path, "shards", "plan"))


def test_without_the_fsync_a_power_cut_loses_rows_and_the_checker_says_so(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    found = cut(fork_server, tmp_path, without="fsync")
    assert any(verdict.lost for verdict in found.values()), found
