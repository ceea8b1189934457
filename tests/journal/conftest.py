from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api2db.journal._journal import SegmentedJournal

Opener = Callable[..., SegmentedJournal]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Opens journals, and closes what a test leaves open."""
    journals: list[SegmentedJournal] = []

    def open_journal(home: Path = tmp_path, name: str = "flights", **options: Any) -> SegmentedJournal:
        journals.append(SegmentedJournal(home, name, **options))
        return journals[-1]

    yield open_journal
    for journal in journals:
        journal.close()
