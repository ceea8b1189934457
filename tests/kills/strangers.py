"""A project and a copy of it that write into one target: what becomes of both, whatever the target is."""

import pytest

from api2db.errors import ForeignLedgerError, StreamDiedError
from api2db.journal._reader import SegmentedReader
from tests.kills.checker import Verdict, judge
from tests.kills.here import Puts, running, wait_until


def the_copy_is_stopped(original: Puts, copy: Puts) -> None:
    """Told why, with its rows kept; the original goes on."""
    with running(original.stream, copy.stream):
        original.put(1)
        assert original.stream.flush(30)
        copy.put(1)
        wait_until(lambda: not copy.stream.lock.locked())
        with pytest.raises(StreamDiedError, match="a copy of this project") as died:
            copy.put(1)
        assert isinstance(died.value.__cause__, ForeignLedgerError)
        assert copy.stream.status().frames_waiting == 1, "its rows are kept"
        original.put(3)
        assert original.stream.flush(30)
    assert original.verdict() == Verdict()


def rows_are_lost_without_the_epoch(original: Puts, copy: Puts, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the checker says so: what ``the_copy_is_stopped`` guards against is seen."""
    monkeypatch.setattr(SegmentedReader, "knows_epoch", lambda log, epoch: True)
    for number in range(101, 104):
        copy.acknowledged = [number - 1]
        copy.put(1)
    copy.deliver()
    assert judge([*original.found()], [*original.acknowledged, 101, 102, 103]).lost
