"""What exactly once rests on is taken away, one thing at a time: then the checker must say so, or it would never."""

from pathlib import Path

import pytest

from tests.kills.oracle import Verdict
from tests.kills.power import cut
from tests.kills.steps import Delivery
from tests.kills.zygote import Zygote


def verdicts(delivery: Delivery) -> list[Verdict]:
    """What the checker finds after kills in the second half of a delivery: there it is loaded, but not acknowledged."""
    steps = delivery.steps()
    found = [delivery.killed_at(step) for step in steps[len(steps) // 2 :: 2]]
    return [verdict for verdict in found if verdict is not None]


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_without_the_ledger_rows_are_doubled_and_the_checker_says_so(zygote: Zygote, tmp_path: Path, kind: str) -> None:
    assert any(verdict.doubled for verdict in verdicts(Delivery(zygote, tmp_path, kind, "ledger")))


def test_without_the_plan_shards_are_doubled_and_the_checker_says_so(zygote: Zygote, tmp_path: Path) -> None:
    assert any(verdict.doubled for verdict in verdicts(Delivery(zygote, tmp_path, "shards", "plan")))


def test_without_the_fsync_a_power_cut_loses_rows_and_the_checker_says_so(zygote: Zygote, tmp_path: Path) -> None:
    found = cut(zygote, tmp_path, without="fsync")
    assert any(verdict.lost for verdict in found.values()), found
