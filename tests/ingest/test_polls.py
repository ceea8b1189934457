"""Polls: what is journalled, with which state, and what becomes of polls that fail, hang or are late."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db import Stream2Local
from api2db.errors import ConfigurationError, JournalWriteError, PollError
from api2db.ingest import Collector, Runner, read_polls, read_status
from api2db.ingest._poll import Poll
from tests.ingest.tiny import TinyStream, rows_in, stopping, wait_until
from tests.journals.rejected import rejected_tables

pytestmark = pytest.mark.every_journal(nats=["test_pages_before_a_failure_stay_with_the_state_that_belongs_to_them"])
NEVER = 3600.0


class Bench:
    """One home, one collector at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @contextmanager
    def running(
        self, target: Callable[..., Any], seconds: float = NEVER, *, polling: bool = False, **options: Any
    ) -> Iterator[Runner]:
        options.setdefault("streams", [TinyStream("cities", home=self.home)])
        runner = Runner(Collector("cities", seconds, target, **options))
        with stopping(runner):
            runner.start(polling=polling)
            yield runner

    def poll(self, target: Callable[..., Any], **options: Any) -> None:
        with self.running(target, **options) as runner:
            try:
                runner.poll_once()
            finally:
                assert runner.flush(10)

    def state(self) -> dict[str, Any]:
        seen: list[dict[str, Any]] = []

        def look(state: dict[str, Any]) -> None:
            seen.append(dict(state))

        self.poll(look)
        return seen[0]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return rows_in(self.home, "cities")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


ROWS = [{"id": 1}, {"id": 2}]


def test_a_poll_that_is_the_only_one_is_not_said_to_be_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise OSError("no route")

    with pytest.raises(PollError):
        bench.poll(broken)
    assert "it is not tried again in this run" in caplog.text
    assert "tried again in 3600 s" not in caplog.text


@pytest.mark.parametrize("transform", [None, lambda frame: frame.assign(seen=True)], ids=["plain", "transformed"])
@pytest.mark.parametrize("kind", [list, pd.DataFrame])
def test_a_polled_row_with_half_a_surrogate_pair_is_set_aside_and_its_neighbours_go_in(
    bench: Bench, kind: Callable[..., Any], transform: Any
) -> None:
    stream = Stream2Local("cities", home=bench.home)
    cells = pd.Series(["x", "\ud800", "y"], dtype=object)
    rows = [{"id": number, "t": text} for number, text in enumerate(cells)]
    page = rows if kind is list else pd.DataFrame({"id": range(3), "t": cells})
    bench.poll(lambda: page, streams=[stream], transform=transform)
    [shard] = (bench.home / "STORE" / "cities" / "parquet").iterdir()
    assert pd.read_parquet(shard)["id"].tolist() == [0, 2]
    [rejected] = rejected_tables(bench.home)
    assert rejected.column("t").to_pylist() == ["\\ud800"]


@pytest.mark.parametrize(
    "frame",
    [
        lambda: ROWS,
        lambda: pd.DataFrame(ROWS),
        lambda: pa.Table.from_pylist(ROWS),
        lambda: iter([ROWS[:1], None, pd.DataFrame(ROWS[1:])]),
    ],
    ids=["dicts", "dataframe", "arrow", "pages"],
)
def test_a_poll_may_give_any_kind_of_frame(bench: Bench, frame: Callable[[], Any]) -> None:
    bench.poll(frame)
    assert bench.rows == ROWS


def test_a_page_is_journalled_whole_with_the_state_after_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit between the rows that no target takes and the others would leave these behind the cursor."""
    monkeypatch.setattr("api2db.ingest._poll.GROUP_BYTES", 0)
    committed: list[int] = []
    real = Poll._append

    def append(poll: Poll, pages: list[Any], cursor: dict[str, Any] | None) -> None:
        committed.append(len(pages))
        real(poll, pages, cursor)

    monkeypatch.setattr(Poll, "_append", append)
    bench.poll(lambda: [{"id": 1, "t": "x"}, {"id": 2, "t": "\ud800"}])
    assert committed == [2]


NOTHINGS: dict[str, Any] = {"None": None, "list": [], "frame": pd.DataFrame({"id": []}), "iterator": iter([])}


@pytest.mark.parametrize("nothing", NOTHINGS.values(), ids=NOTHINGS)
def test_nothing_new_is_no_row_and_no_failure(bench: Bench, nothing: Any) -> None:
    with bench.running(lambda: nothing) as runner:
        runner.poll_once()
        assert (runner.status.polls, runner.status.failed, runner.status.rows) == (1, 0, 0)
    assert bench.rows == []


def test_nested_cells_survive_without_a_transform_and_with_one(bench: Bench) -> None:
    nested = [{"id": 1, "place": {"lat": 1.5, "tags": ["a", "b"]}, "none": None}]
    bench.poll(lambda: nested)
    bench.poll(lambda: nested, transform=lambda frame: frame.assign(id=frame["id"] + 1))
    assert [row["place"] for row in bench.rows] == [nested[0]["place"]] * 2
    assert [row["id"] for row in bench.rows] == [1, 2]


def test_dicts_do_not_pass_through_pandas(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real, in_polls = pd.DataFrame.__init__, []

    def init(frame: pd.DataFrame, *arguments: Any, **options: Any) -> None:
        if threading.current_thread().name.startswith("api2db-poll"):
            in_polls.append(arguments)
        real(frame, *arguments, **options)

    monkeypatch.setattr(pd.DataFrame, "__init__", init)
    with bench.running(lambda: [{"id": 2**62 + 1}, {"id": None}]) as runner:
        runner.poll_once()
        assert runner.flush(10)
    assert in_polls == []
    assert bench.rows[0] == {"id": 2**62 + 1}


def test_a_transform_that_gives_no_dataframe_fails_the_poll(bench: Bench) -> None:
    with pytest.raises(PollError, match="transform returned a list"):
        bench.poll(lambda: ROWS, transform=lambda frame: frame.to_dict("records"))


def test_a_generator_that_changes_its_dataframe_after_the_yield_changes_no_row(bench: Bench) -> None:
    def pages() -> Iterator[pd.DataFrame]:
        values = pd.DataFrame({"id": [0]})
        for number in range(5):
            values.iloc[0, 0] = number
            yield values

    bench.poll(pages)
    assert [row["id"] for row in bench.rows] == [0, 1, 2, 3, 4]


def test_the_state_of_a_poll_is_given_to_the_next_one_and_outlives_the_runner(bench: Bench) -> None:
    def poll(state: dict[str, Any]) -> list[dict[str, Any]]:
        state["after"] = state.get("after", 0) + 1
        return [{"id": state["after"]}]

    for _ in range(3):
        bench.poll(poll)
    assert bench.rows == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert bench.state() == {"after": 3}


def test_the_state_after_the_last_page_is_committed_without_rows(bench: Bench) -> None:
    def pages(state: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        state["page"] = 1
        yield ROWS
        state["complete"] = True

    bench.poll(pages)
    assert bench.state() == {"page": 1, "complete": True}


def test_pages_before_a_failure_stay_with_the_state_that_belongs_to_them(bench: Bench) -> None:
    def pages(state: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        for page in range(state.get("page", 0), 5):
            if page == 3 and "page" in state and not state.get("again"):
                state["page"] = 99
                raise OSError("the API broke")
            state["page"] = page + 1
            yield [{"id": page}]

    with pytest.raises(PollError, match="the API broke"):
        bench.poll(pages)
    assert bench.rows == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert bench.state() == {"page": 3}


def test_a_page_that_is_no_frame_fails_the_poll_and_takes_its_state_with_it(bench: Bench) -> None:
    def pages(state: dict[str, Any]) -> Iterator[Any]:
        state["page"] = 1
        yield [{"id": 1}]
        state["page"] = 2
        yield "not a frame"

    with pytest.raises(PollError, match="str is not a frame"):
        bench.poll(pages)
    assert bench.rows == [{"id": 1}]
    assert bench.state() == {"page": 1}


def test_a_state_that_json_cannot_hold_fails_the_poll(bench: Bench) -> None:
    def poll(state: dict[str, Any]) -> list[dict[str, Any]]:
        state["at"] = object()
        return ROWS

    with pytest.raises(PollError, match="state holds what JSON can't"):
        bench.poll(poll)
    assert bench.rows == []
    assert bench.state() == {}


def test_a_page_is_delivered_while_the_import_function_waits_for_the_next_one(bench: Bench) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def pages() -> Iterator[list[dict[str, Any]]]:
        yield [{"id": 1}]
        asked.set()
        assert go_on.wait(20)
        yield [{"id": 2}]

    with bench.running(pages, polling=True) as runner:
        assert asked.wait(10)
        wait_until(lambda: bench.rows == [{"id": 1}])
        assert runner.status.rows == 0
        go_on.set()
        wait_until(lambda: bench.rows == [{"id": 1}, {"id": 2}])


def test_small_pages_are_journalled_together_and_large_ones_in_groups(bench: Bench) -> None:
    with bench.running(lambda: iter([[{"id": 1}]] * 50)) as runner:
        assert runner._handle is not None
        groups: list[int] = []
        append = runner._handle.journal.append

        def counting(frames: Any, **options: Any) -> int:
            groups.append(len(frames))
            return append(frames, **options)

        runner._handle.journal.append = counting  # type: ignore[method-assign]
        runner.poll_once()
        small, groups[:] = list(groups), []
        object.__setattr__(runner.collector, "import_target", lambda: iter([[{"text": "x" * (1 << 20)}]] * 10))
        runner.poll_once()
    assert sum(small) == 50
    assert len(small) < 10
    assert len(groups) >= 2
    assert max(groups) <= 5


@pytest.mark.parametrize("size", [1, 5_000_000], ids=["at the end of the poll", "between two pages"])
def test_when_the_disk_refuses_rows_their_state_is_not_committed_either(bench: Bench, size: int) -> None:
    def pages(state: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        for page in range(2):
            state["page"] = page + 1
            yield [{"id": page, "text": "x" * size}]

    with bench.running(pages) as runner:
        assert runner._handle is not None
        append = runner._handle.journal.append

        def refusing(frames: list[pa.RecordBatch], **options: Any) -> int:
            if frames:
                raise JournalWriteError("no space left on device")
            return append(frames, **options)

        runner._handle.journal.append = refusing  # type: ignore[method-assign, assignment]
        with pytest.raises(PollError, match="no space left"):
            runner.poll_once()
    assert bench.rows == []
    assert bench.state() == {}


def test_a_failing_poll_is_logged_once_counted_and_tried_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def poll() -> list[dict[str, Any]]:
        tries.append(1)
        if len(tries) <= 3:
            raise OSError(f"no route to https://me:hunter2@example.org/rows?token=abc at {time.time()}")
        return ROWS

    with caplog.at_level(logging.INFO, "api2db"), bench.running(poll, 0.05, polling=True) as runner:
        wait_until(lambda: runner.status.polls >= 5)
        assert runner.status.failed == 3
        assert runner.status.last_error is None
        assert runner.flush(10)
    failures = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(failures) == 1
    assert "it is tried again in 0.05 s" in failures[0]
    assert "hunter2" not in caplog.text
    assert "abc" not in caplog.text
    assert "succeeds again after 3 failures" in caplog.text


def test_a_poll_that_calls_exit_does_not_stop_the_collector(bench: Bench) -> None:
    def poll() -> None:
        raise SystemExit(1)

    with bench.running(poll, 0.05, polling=True) as runner:
        wait_until(lambda: runner.status.failed >= 2)


def test_a_fault_of_ours_does_not_stop_the_collector_either(bench: Bench) -> None:
    with bench.running(lambda: ROWS, 0.1, polling=True) as runner:
        assert runner._handle is not None
        faults = iter([RuntimeError("can't start new thread")])
        cursor = runner._handle.journal.cursor

        def failing_once() -> dict[str, Any]:
            for fault in faults:
                raise fault
            return cursor()

        runner._handle.journal.cursor = failing_once  # type: ignore[method-assign]
        wait_until(lambda: runner.status.failed == 1)
        rows = runner.status.rows
        wait_until(lambda: runner.status.rows > rows)


def test_a_poll_still_running_at_the_next_tick_is_not_started_twice(bench: Bench) -> None:
    at_once, most, go_on = [0], [0], threading.Event()

    def poll() -> list[dict[str, Any]]:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        assert go_on.wait(20)
        at_once[0] -= 1
        return ROWS

    with bench.running(poll, 0.05, polling=True) as runner:
        wait_until(lambda: runner.status.late >= 3)
        assert runner.status.polls == 1
        go_on.set()
        wait_until(lambda: runner.status.polls >= 3)
    assert most == [1]


def test_what_a_poll_yields_after_its_timeout_is_dropped_and_no_second_one_runs_beside_it(bench: Bench) -> None:
    go_on = threading.Event()
    polls: list[dict[str, Any]] = []

    def pages(state: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        polls.append(dict(state))
        state["page"] = state.get("page", 0) + 1
        yield [{"id": "in time"}]
        if len(polls) == 1:
            assert go_on.wait(20)
            state["page"] = 99
            yield [{"id": "too late", "text": "x" * 5_000_000}]  # a group of its own

    with bench.running(pages, 0.05, polling=True, poll_timeout=0.3) as runner:
        wait_until(lambda: runner.status.failed == 1)
        late = runner.status.late
        wait_until(lambda: runner.status.late >= late + 3)
        assert len(polls) == 1
        assert "poll_timeout" in (runner.status.last_error or "")
        go_on.set()
        wait_until(lambda: len(polls) >= 3)
        assert runner.flush(10)
    assert polls[:3] == [{}, {"page": 1}, {"page": 2}]
    assert {row["id"] for row in bench.rows} == {"in time"}


def test_waiting_for_room_in_the_journal_does_not_count_as_the_polls_own_time(bench: Bench) -> None:
    stream = TinyStream("cities", home=bench.home, quota_bytes=9_000_000)
    page = [{"text": os.urandom(50_000).hex()} for _ in range(45)]  # a group of its own: more than 4 MB
    with bench.running(lambda: iter([page] * 4), poll_timeout=1.0, streams=[stream]) as runner:
        stream.open_gate.clear()
        opener = threading.Timer(2.0, stream.open_gate.set)
        opener.start()
        begin_s = time.monotonic()
        runner.poll_once()
        assert time.monotonic() - begin_s >= 1.9, "the journal had room, so this test tests nothing"
        assert runner.flush(30)
    assert len(bench.rows) == 4 * 45


def test_a_stopping_runner_gives_a_poll_that_runs_a_moment_to_end(bench: Bench) -> None:
    begun = threading.Event()
    stop_seen = threading.Event()

    def poll() -> list[dict[str, Any]]:
        begun.set()
        assert stop_seen.wait(20)
        return ROWS

    with bench.running(poll, 1, polling=True) as runner:
        assert begun.wait(10)
        runner.stop_polling()
        stop_seen.set()
        wait_until(lambda: runner.done)
        assert runner.flush(10)
    assert bench.rows == ROWS


def test_zero_seconds_disable_a_collector(bench: Bench) -> None:
    with bench.running(lambda: pytest.fail("polled"), 0, polling=True) as runner:
        assert runner.done
        runner.poll_once()
    assert not (bench.home / "STORE").exists()


def test_debug_shows_the_frame_and_its_schema_and_stores_nothing(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with bench.running(lambda: [{"id": 7, "place": {"lat": 1.5}}], 1, polling=True, debug=True) as runner:
        wait_until(lambda: runner.done)
        assert runner.status.polls == 1
    shown = capsys.readouterr().out
    assert "cities: 1 row (debug: not stored)" in shown
    assert "id: int64" in shown
    assert "place: JSON" in shown
    assert "{'lat': 1.5}" in shown
    assert list(bench.home.iterdir()) == []


def test_debug_shows_each_of_several_dataframes_of_one_shape(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [pd.DataFrame({"id": [number], "name": ["x"]}) for number in range(3)]
    with bench.running(lambda: iter(frames), 1, polling=True, debug=True) as runner:
        wait_until(lambda: runner.done)
    shown = capsys.readouterr().out
    assert shown.count("cities: 1 row (debug: not stored)\n   id name\n0 ") == 3
    assert shown.count("id: int64") == 3


def test_debug_shows_rows_that_would_be_rejected_with_the_reason(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with bench.running(lambda: [{"text": "good"}, {"text": "\ud800"}], 1, polling=True, debug=True) as runner:
        wait_until(lambda: runner.done)
        assert (runner.status.failed, runner.status.rows) == (0, 2)
    shown = capsys.readouterr().out
    assert "cities: 1 row (would be rejected)\nthe text in 'text' holds half of a surrogate pair" in shown
    assert "\\ud800" in shown
    assert "cities: 1 row (debug: not stored)\n   text\n0  good" in shown


def test_a_poll_under_debug_that_fails_is_not_said_to_be_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def poll() -> None:
        raise RuntimeError("no such city")

    with bench.running(poll, 1, polling=True, debug=True) as runner:
        wait_until(lambda: runner.done)
    assert "no such city" in caplog.text
    assert "is not tried again in this run" in caplog.text


@pytest.mark.disk_journal
def test_the_figures_of_a_collector_stand_beside_its_journal(bench: Bench) -> None:
    bench.poll(lambda: ROWS)
    status = read_status(bench.home, "cities")
    assert status is not None
    assert (status.polls, status.failed, status.late, status.rows) == (1, 0, 0, 2)
    path = bench.home / "STORE" / "journal" / "cities" / "collector.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["name"] == "cities"
    [poll] = read_polls(bench.home, "cities")
    assert (poll.at, poll.rows, poll.late, poll.error) == (status.polled_at, 2, 0, None)


@pytest.mark.disk_journal
def test_a_poll_that_failed_stands_among_the_last_ones_with_its_error(bench: Bench) -> None:
    def poll(state: dict[str, Any]) -> Any:
        state["n"] = state.get("n", 0) + 1
        yield ROWS
        if state["n"] == 1:
            raise RuntimeError("no such city")

    with bench.running(poll, 0.1, polling=True):
        wait_until(lambda: len(read_polls(bench.home, "cities")) >= 2)
    first, second = read_polls(bench.home, "cities")[:2]
    assert "no such city" in str(first.error)
    assert (first.rows, second.rows, second.error) == (2, 2, None)
    assert first.at + first.seconds <= second.at


def test_streams_may_come_from_a_callable(bench: Bench) -> None:
    bench.poll(lambda: ROWS, streams=lambda: [TinyStream("cities", home=bench.home)])
    assert bench.rows == ROWS


@pytest.mark.parametrize(
    ("streams", "says"),
    [
        (lambda home: [], "has no streams"),
        (lambda home: 5, "returned a int"),
        (lambda home: [TinyStream("towns", home=home)], "the collector's name"),
        (lambda home: [TinyStream("cities", home=home), TinyStream("cities", home=home / "x")], "different homes"),
        (
            lambda home: [TinyStream("cities", home=home), TinyStream("cities", home=home, durability="full")],
            "same durability",
        ),
    ],
)
def test_streams_that_cannot_be_used_are_named_at_the_start(bench: Bench, streams: Any, says: str) -> None:
    runner = Runner(Collector("cities", 1, lambda: ROWS, lambda: streams(bench.home)))
    with stopping(runner), pytest.raises(ConfigurationError, match=says):
        runner.start()


class Store:
    def __init__(self, seconds: float, *, fails: bool = False) -> None:
        self.seconds = seconds
        self.runs = 0
        self._fails = fails

    def store(self) -> None:
        self.runs += 1
        if self._fails:
            raise OSError("no bucket")


def test_stores_run_at_their_own_seconds_and_one_that_fails_does_not_stop_the_others(bench: Bench) -> None:
    failing, quick, never = Store(0.02, fails=True), Store(0.03), Store(0)
    with bench.running(lambda: None, polling=True, stores=lambda: [failing, quick, never]) as runner:
        wait_until(lambda: failing.runs >= 3 and quick.runs >= 3)
        wait_until(lambda: runner.status.stores_failed >= 3)
        wait_until(lambda: (read_status(bench.home, "cities") or runner.status).stores_failed >= 3)
    assert never.runs == 0
