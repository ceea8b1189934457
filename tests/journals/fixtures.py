"""On which kind of journal a test runs: ``pytest --journal memory`` or ``--journal nats`` runs on it what can be.

Tests marked ``every_journal`` run on disk and in memory in the ordinary suite. Where the mark names ``cases``, those of
other target cases run on the disk alone. With ``nats=[…]`` the named tests also run in a NATS cluster there. Those
marked ``disk_journal`` are about the files of a journal, about other processes or about a crash: they run on the disk
alone.
"""

import itertools
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api2db.cluster import close_clusters, cluster_store
from tests.journals.memory import MemoryJournalStore, forget_all
from tests.stream.cases import TargetCase

KINDS = ("disk", "memory", "nats")
_projects = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--journal", choices=KINDS, default=KINDS[0], help="the kind of journal that streams have")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_on_every = metafunc.definition.get_closest_marker("every_journal") is not None
    needs_disk = metafunc.definition.get_closest_marker("disk_journal") is not None
    if is_on_every and not needs_disk and metafunc.config.getoption("--journal") == KINDS[0]:
        metafunc.parametrize("journal_kind", KINDS if _is_for_nats(metafunc) else KINDS[:2], indirect=True)


def _is_for_nats(metafunc: pytest.Metafunc) -> bool:
    mark = metafunc.definition.get_closest_marker("every_journal")
    return mark is not None and metafunc.function.__name__ in mark.kwargs.get("nats", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _is_one_too_many(item)]


def _is_one_too_many(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("every_journal")
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    if mark is None or "cases" not in mark.kwargs or params.get("journal_kind", "disk") == "disk":
        return False
    return not any(isinstance(each, TargetCase) and each.name in mark.kwargs["cases"] for each in params.values())


@pytest.fixture(autouse=True)
def journal_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    kind = str(getattr(request, "param", request.config.getoption("--journal")))
    if kind != "disk" and request.node.get_closest_marker("disk_journal") is not None:
        pytest.skip("needs a journal on disk")
    if kind == "memory":
        monkeypatch.setattr("api2db.journal._store.new_store", MemoryJournalStore)
    if kind == "nats":
        yield from _in_cluster(request, monkeypatch)
        return
    yield kind
    forget_all()


def _in_cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A project for each home of the test, in the cluster of the suite."""
    nats, number = request.getfixturevalue("nats"), next(_projects)

    def store(home: Path) -> Any:
        return cluster_store(nats.address(f"t{os.getpid()}-{number}-{zlib.crc32(str(home).encode()):08x}"), home)

    monkeypatch.setattr("api2db.journal._store.new_store", store)
    yield "nats"
    close_clusters()
    nats.clear()
