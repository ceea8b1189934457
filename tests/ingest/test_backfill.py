"""Backfills beside live polls: what is stored, who waits for whom, and what becomes of failures and cancellations."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from api2db.errors import ConfigurationError, JournalBusyError
from api2db.ingest import Collector, Runner, backfill
from api2db.ingest.backfill import ask_for_backfill, cancel_backfill
from api2db.ingest.status import BackfillStatus
from api2db.journal import journal_store
from tests.ingest.tiny import TinyStream, rows_in, stopping, wait_until

pytestmark = pytest.mark.every_journal
NEVER = 3600.0
WINDOW = ("0", "6", "1")


class History:
    """An import function whose live polls count, and whose history has one page a number, each a window."""

    def __init__(self) -> None:
        self.live: Callable[[], None] = lambda: None
        self.page: Callable[[int], None] = lambda number: None
        self.live_at: list[float] = []
        self.pages: list[int] = []
        self.states: list[dict[str, Any]] = []

    def __call__(self, state: dict[str, Any]) -> Iterator[Any]:
        self.states.append(dict(state))
        self.live_at.append(time.monotonic())
        self.live()
        state["polls"] = state.get("polls", 0) + 1
        yield [{"id": f"live {state['polls']}"}]

    def backfill(self, begin: str, end: str, step: str) -> "Numbers":
        if not (begin + end + step).isdecimal():
            raise ConfigurationError("give numbers")
        return Numbers(self, [begin, end, step])


class Numbers:
    def __init__(self, history: History, of: list[str]) -> None:
        self.history = history
        self.of = of
        self.total = int(of[1]) - int(of[0])

    def __call__(self, state: dict[str, Any]) -> Iterator[Any]:
        assert set(state) <= {"backfill"}
        for done in range(state["backfill"]["done"], self.total):
            self.history.pages.append(done)
            self.history.page(done)
            state["backfill"] = {"of": self.of, "done": done + 1}
            yield [{"id": done}]
        del state["backfill"]
        yield None


class Bench:
    """One home, and the runs of one collector."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.history = History()

    @contextmanager
    def running(self, seconds: float = NEVER, *, polling: bool = True) -> Iterator[Runner]:
        streams = [TinyStream("cities", home=self.home)]
        runner = Runner(Collector("cities", seconds, self.history, streams))
        with stopping(runner):
            runner.start(polling=polling)
            if polling:
                wait_until(lambda: runner.status.rows > 0)
            yield runner

    def ask(self, window: tuple[str, str, str] = WINDOW) -> tuple[int, int]:
        return ask_for_backfill(self.home, "cities", window)

    def state(self) -> dict[str, Any]:
        handle = journal_store(self.home).open("cities", "process")
        try:
            return handle.journal.cursor()
        finally:
            handle.release()

    @property
    def numbers(self) -> list[int]:
        return [row["id"] for row in rows_in(self.home, "cities") if isinstance(row["id"], int)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(backfill, "FIRST_PAUSE_S", 0.05)
    return Bench(tmp_path)


def progress(runner: Runner) -> BackfillStatus:
    assert runner.status.backfill is not None
    return runner.status.backfill


def test_history_is_journalled_beside_the_state_of_live_polls(bench: Bench) -> None:
    with bench.running(0.02) as runner:
        assert bench.ask() == (0, 6)
        wait_until(lambda: progress(runner).ended)
        assert progress(runner) == BackfillStatus("0", "6", "1", 6, 6, "done")
        polls = len(bench.history.live_at)
        wait_until(lambda: len(bench.history.live_at) > polls + 1)
        assert runner.flush(10)
    assert bench.numbers == list(range(6))
    assert all(set(state) <= {"polls"} for state in bench.history.states)
    counted = [state.get("polls", 0) for state in bench.history.states]
    assert counted == list(range(len(counted)))
    assert set(bench.state()) == {"polls"}


def test_a_request_is_stored_before_it_is_answered(bench: Bench) -> None:
    release = threading.Event()
    bench.history.page = lambda number: void(release.wait(10))
    with bench.running():
        bench.ask()
        assert bench.state()["backfill"]["of"] == list(WINDOW)
        release.set()


def test_a_call_that_hangs_holds_up_no_live_poll(bench: Bench) -> None:
    release = threading.Event()
    bench.history.page = lambda number: void(release.wait(10))
    with bench.running(0.05) as runner:
        bench.ask()
        wait_until(lambda: bench.history.pages)
        polls = len(bench.history.live_at)
        wait_until(lambda: len(bench.history.live_at) > polls + 5)
        assert bench.history.pages == [0], "it still hangs"
        release.set()
        wait_until(lambda: progress(runner).ended)
        assert runner.flush(10)
    assert bench.numbers == list(range(6))


def test_it_pauses_at_the_page_while_a_live_poll_is_under_way(bench: Bench) -> None:
    release, hangs = threading.Event(), threading.Event()
    bench.history.page = lambda number: time.sleep(0.05)

    def live() -> None:
        if hangs.is_set():
            release.wait(10)

    bench.history.live = live
    with bench.running(0.2) as runner:
        hangs.set()
        polls = len(bench.history.live_at)
        wait_until(lambda: len(bench.history.live_at) > polls)
        bench.ask(("0", "1000", "1"))
        time.sleep(0.3)
        assert bench.history.pages == []
        hangs.clear()
        release.set()
        wait_until(lambda: len(bench.history.pages) > 3)
        release.clear()
        hangs.set()
        polls = len(bench.history.live_at)
        wait_until(lambda: len(bench.history.live_at) > polls)
        pages = len(bench.history.pages)
        time.sleep(0.3)
        assert len(bench.history.pages) <= pages + 1
        assert progress(runner).ended is None
        release.set()


def test_a_failing_window_is_shown_and_tried_again_and_live_polls_go_on(bench: Bench) -> None:
    broken = threading.Event()
    broken.set()

    def page(number: int) -> None:
        if number == 3 and broken.is_set():
            raise OSError("no route")

    bench.history.page = page
    with bench.running(0.05) as runner:
        bench.ask()
        wait_until(lambda: bench.history.pages.count(3) >= 3)
        said = wait_until(lambda: progress(runner).error)
        assert "no route" in said
        assert "trying again in" in said
        assert progress(runner).done == 3
        assert runner.status.failed == 0
        polls = len(bench.history.live_at)
        wait_until(lambda: len(bench.history.live_at) > polls + 2)
        broken.clear()
        wait_until(lambda: progress(runner).ended)
        assert progress(runner).error is None
        assert runner.flush(10)
    assert bench.numbers == list(range(6))


def test_a_run_that_is_started_again_continues_at_the_page(bench: Bench) -> None:
    release = threading.Event()
    bench.history.page = lambda number: void(number == 3 and release.wait(10))
    with bench.running(0.05) as runner:
        bench.ask()
        wait_until(lambda: bench.history.pages[-1:] == [3])
        runner.stop_polling()
        release.set()
    release.clear()
    bench.history.page = lambda number: None
    with bench.running(0.05) as runner:
        wait_until(lambda: progress(runner).ended)
        assert runner.flush(10)
    assert sorted(set(bench.numbers)) == list(range(6))
    assert bench.history.pages.count(0) == bench.history.pages.count(2) == 1


def test_a_cancelled_backfill_loads_no_more(bench: Bench) -> None:
    release = threading.Event()
    bench.history.page = lambda number: void(number == 3 and release.wait(10))
    with bench.running(0.05) as runner:
        bench.ask()
        wait_until(lambda: progress(runner).done == 3)
        assert cancel_backfill(bench.home, "cities") == WINDOW
        assert progress(runner).ended == "cancelled"
        with pytest.raises(ConfigurationError, match="no backfill of cities is under way"):
            cancel_backfill(bench.home, "cities")
        bench.ask()
        assert bench.state()["backfill"]["done"] == 0, "the call that hangs belongs to the cancelled one"
        release.set()
        wait_until(lambda: progress(runner).ended)
        assert runner.flush(10)
    assert bench.numbers == [0, 1, 2, *range(6)]
    assert set(bench.state()) == {"polls"}


def test_a_cancelled_backfill_is_not_continued_by_another_run(bench: Bench) -> None:
    bench.history.page = lambda number: time.sleep(0.02)
    with bench.running() as runner:
        bench.ask(("0", "500", "1"))
        wait_until(lambda: progress(runner).done > 2)
    cancel_backfill(bench.home, "cities")
    pages = len(bench.history.pages)
    with bench.running(0.02) as runner:
        wait_until(lambda: runner.status.polls > 5)
        assert runner.status.backfill is None
    assert len(bench.history.pages) == pages


def test_what_cannot_be_backfilled_is_refused_and_nothing_is_stored(bench: Bench) -> None:
    with bench.running() as runner:
        with pytest.raises(ConfigurationError, match="give numbers"):
            bench.ask(("soon", "6", "1"))
        assert set(bench.state()) == {"polls"}
        assert runner.status.backfill is None
        bench.history.page = lambda number: time.sleep(0.05)
        bench.ask(("0", "100", "1"))
        with pytest.raises(ConfigurationError, match="another backfill of cities is under way, from 0 to 100"):
            bench.ask()
        wait_until(lambda: progress(runner).done)
        done, total = bench.ask(("0", "100", "1"))
        assert done > 0
        assert total == 100


def test_a_run_that_polls_once_takes_no_request(bench: Bench) -> None:
    with bench.running(polling=False), pytest.raises(JournalBusyError, match="polls once"):
        bench.ask()


def test_a_function_without_history_is_refused(tmp_path: Path) -> None:
    runner = Runner(Collector("cities", NEVER, lambda: None, [TinyStream("cities", home=tmp_path)]))
    with stopping(runner):
        runner.start()
        with pytest.raises(ConfigurationError, match="whose history can't be polled"):
            ask_for_backfill(tmp_path, "cities", WINDOW)


def void(_: object) -> None:
    """For lambdas that are called for what they do."""
