"""On which kind of journal a test runs: ``pytest --journal memory`` runs on journals in memory what can be.

Tests marked ``every_journal`` run on both kinds in the ordinary suite. Where the mark names ``cases``, those of other
target cases run on the disk alone. Those marked ``disk_journal`` are about the
files of a journal, about other processes or about a crash: they run on the disk alone.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.journals.memory import MemoryJournalStore, forget_all
from tests.stream.cases import TargetCase

KINDS = ("disk", "memory")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--journal", choices=KINDS, default=KINDS[0], help="the kind of journal that streams have")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_on_every = metafunc.definition.get_closest_marker("every_journal") is not None
    needs_disk = metafunc.definition.get_closest_marker("disk_journal") is not None
    if is_on_every and not needs_disk and metafunc.config.getoption("--journal") == KINDS[0]:
        metafunc.parametrize("journal_kind", KINDS, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _is_one_too_many(item)]


def _is_one_too_many(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("every_journal")
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    if mark is None or "cases" not in mark.kwargs or params.get("journal_kind") != "memory":
        return False
    return not any(isinstance(each, TargetCase) and each.name in mark.kwargs["cases"] for each in params.values())


@pytest.fixture(autouse=True)
def journal_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    kind = str(getattr(request, "param", request.config.getoption("--journal")))
    if kind == "memory":
        if request.node.get_closest_marker("disk_journal") is not None:
            pytest.skip("needs a journal on disk")
        monkeypatch.setattr("api2db.journal._store.new_store", MemoryJournalStore)
    yield kind
    forget_all()
