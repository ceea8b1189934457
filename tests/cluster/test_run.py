"""Runs on several machines: the work is spread, and goes on when a worker is lost; no row is lost or doubled."""

from pathlib import Path

import pytest

from api2db.cluster import ClusterJournalStore
from tests.cluster.journals import Machines
from tests.cluster.projects import Project, project_in, wait_until
from tests.servers.server import Server

NAMES = ("alpha", "beta", "gamma", "delta")


def owners(store: ClusterJournalStore) -> dict[str, int]:
    """How many collectors each machine runs."""
    claims = store.claims()
    found: dict[str, int] = {}
    for name in NAMES:
        owner = claims.owner_of(name)
        if owner is not None:
            found[owner.machine] = found.get(owner.machine, 0) + 1
    return found


def go_on(project: Project) -> None:
    """Wait until every collector has delivered more."""
    before = project.counts()
    wait_until(lambda: all(count > before[name] for name, count in project.counts().items()), "rows")


def test_the_work_of_a_machine_that_is_killed_goes_on_at_another(
    machines: Machines, postgresql: Server, tmp_path: Path
) -> None:
    store = machines.new().store
    with project_in(tmp_path, postgresql, machines.address, NAMES[:2]) as project:
        first, second = project.start("m1"), project.start("m2")
        wait_until(lambda: owners(store) == {"m1": 1, "m2": 1}, "two share")
        go_on(project)
        first.kill()
        wait_until(lambda: owners(store) == {"m2": 2}, "the other takes over")
        go_on(project)
        assert second.stop() == 0
        assert owners(store) == {}
        project.check()


@pytest.mark.torture
def test_machines_share_the_work_and_take_over_that_of_one_that_dies_or_freezes(
    machines: Machines, postgresql: Server, tmp_path: Path
) -> None:
    store = machines.new().store
    with project_in(tmp_path, postgresql, machines.address, NAMES) as project:
        first = project.start("m1")
        wait_until(lambda: owners(store) == {"m1": 4}, "one machine has all")
        second = project.start("m2")
        wait_until(lambda: owners(store) == {"m1": 2, "m2": 2}, "two share")
        go_on(project)
        first.kill()
        wait_until(lambda: owners(store) == {"m2": 4}, "the other takes over")
        go_on(project)
        first = project.start("m1")
        wait_until(lambda: owners(store) == {"m1": 2, "m2": 2}, "work moves back")
        second.pause()
        wait_until(lambda: owners(store) == {"m1": 4}, "a frozen worker loses its work")
        go_on(project)
        second.go_on()
        wait_until(lambda: owners(store) == {"m1": 2, "m2": 2}, "it lets go, and takes part again")
        go_on(project)
        assert first.stop() == 0
        assert second.stop() == 0
        assert owners(store) == {}
        project.check()
        assert "lets go" in project.machines[1].log.read_text()
