"""One delivery is killed at each of its system calls; what follows finds the batches cut elsewhere; nothing shows."""

from pathlib import Path

import pytest

from tests.kills.fork_server import ForkServer
from tests.kills.steps import Delivery, sample

KINDS = ("duckdb", "sqlite", "shards", "update", "replace", "duckdb_replace", "sqlite_replace")
IN_THE_SUITE = 7


def kill_at_steps(delivery: Delivery, count: int | None) -> str:
    steps = delivery.steps()
    chosen = steps if count is None else sample(steps, count)
    found = {str(step): delivery.killed_at(step) for step in chosen}
    verdicts = {step: verdict for step, verdict in found.items() if verdict is not None}
    assert {step: verdict for step, verdict in verdicts.items() if not verdict.is_clean} == {}
    assert len(verdicts) >= max(4, len(chosen) - 2), "a delivery has more steps than these"
    return f"a delivery into {delivery.kind} killed at {len(verdicts)} of its {len(steps)} system calls"


@pytest.mark.parametrize("kind", KINDS)
def test_a_delivery_killed_at_a_step_is_finished_by_the_next_process(
    fork_server: ForkServer, tmp_path: Path, say: list[str], kind: str
) -> None:
    say.append(kill_at_steps(Delivery(fork_server, tmp_path, kind), IN_THE_SUITE))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_a_delivery_killed_at_every_step_is_finished_by_the_next_process(
    fork_server: ForkServer, tmp_path: Path, say: list[str], kind: str
) -> None:
    say.append(kill_at_steps(Delivery(fork_server, tmp_path, kind), None))
