"""A forked child must not use the streams of its parent, and gets an error at once."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest

from api2db.journal._journal import SegmentedJournal
from api2db.stream.stream2local import Stream2Local
from tests.faults.children import in_fork

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
FRAME = pd.DataFrame({"n": [1]})


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream2Local]:
    stream = Stream2Local("flights", home=tmp_path)
    stream.start()
    stream.q.put(FRAME)
    yield stream
    stream.stop()


def enter(stream: Stream2Local) -> None:
    with stream:
        pass


@pytest.mark.disk_journal
@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.q.put(FRAME),
        lambda stream: stream.q.qsize(),
        lambda stream: stream.q.empty(),
        lambda stream: stream.q.full(),
        lambda stream: stream.q.join(),
        lambda stream: stream.start(),
        lambda stream: stream.stream_start(),
        lambda stream: stream.stream(FRAME),
        lambda stream: stream.flush(1),
        lambda stream: stream.status(),
        lambda stream: stream.check_failures(),
        lambda stream: stream.stop(1),
        enter,
    ],
    ids=[
        "put",
        "qsize",
        "empty",
        "full",
        "join",
        "start",
        "stream_start",
        "stream",
        "flush",
        "status",
        "check_failures",
        "stop",
        "with",
    ],
)
def test_a_forked_child_is_refused_at_once_whatever_locks_its_parents_threads_held(
    stream: Stream2Local, use: Callable[[Stream2Local], object]
) -> None:
    assert stream._attachment.handle is not None
    with ExitStack() as held:
        held.enter_context(stream._attachment.lock)
        held.enter_context(stream._attachment.handle.journal.core.changed)  # type: ignore[attr-defined]
        said = in_fork(lambda: use(stream))
    assert said.startswith("JournalBusyError"), said
    assert str(os.getpid()) in said
    assert stream.flush(20)


@pytest.mark.disk_journal
def test_a_child_that_is_forked_while_the_stream_stops_is_refused(
    stream: Stream2Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, closing, forked = SegmentedJournal.close, threading.Event(), threading.Event()

    def close(journal: SegmentedJournal) -> None:
        closing.set()
        assert forked.wait(30)
        real(journal)

    monkeypatch.setattr(SegmentedJournal, "close", close)
    stopping = threading.Thread(target=stream.stop)
    stopping.start()
    try:
        assert closing.wait(20)
        assert in_fork(lambda: stream.q.put(FRAME)).startswith("JournalBusyError")
    finally:
        forked.set()
        stopping.join(20)


def test_a_forked_child_that_ends_within_the_block_ends_as_it_wants(stream: Stream2Local) -> None:
    def end() -> None:
        with ExitStack() as within:
            within.push(stream)
            sys.exit(3)

    assert in_fork(end) == "SystemExit: 3"


def test_a_stream_that_was_not_started_may_be_started_in_a_forked_child(tmp_path: Path) -> None:
    stream = Stream2Local("flights", home=tmp_path)

    def work() -> None:
        with stream:
            stream.q.put(FRAME)

    assert in_fork(work) == "nothing was raised"
    assert len(list((tmp_path / "STORE" / "flights" / "parquet").iterdir())) == 1
