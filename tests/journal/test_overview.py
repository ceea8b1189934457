"""Looking at a journal: nothing is written, nothing is held; and asking its owner."""

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from api2db.errors import Api2dbError, JournalBusyError, MissingExtraError
from api2db.journal import Delivered, ReadLimit, StreamOverview, _housekeeping
from api2db.journal._control import ask, last_request_ns, serve_requests
from api2db.journal._overview import describe, journals_in, publish
from api2db.journal._record import Headers
from api2db.journal._segment import Segment
from api2db.journal._store import open_shared, overview
from tests.faults.children import Child
from tests.faults.system_calls import traced
from tests.journal.conftest import Opener
from tests.journal.tools import OTHER, STREAM, frame, take


def fingerprint(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that could tell that somebody has written."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
        if path.name not in {"status.json", ".status.json.tmp"} and path != folder
    }


def filled(opened: Opener, home: Path) -> Any:
    journal = opened(home, segment_bytes=2000)
    _, log = journal.attach(STREAM)
    journal.attach(OTHER)
    for number in range(10):
        journal.append([frame(number, rows=2)], cursor={"n": number})
    first = log.read(ReadLimit(7, 1 << 20), 0)
    log.acknowledge(first[-1].position, Delivered(frames=3, rows=7, rejected=1, rejected_bytes=9))
    log.save("parked", {"rows": 2, "size_bytes": 5})
    log.set_error("the target is down")
    return journal


def check(streams: list[StreamOverview], *, running: bool) -> None:
    one, two = streams
    assert (one.identity, one.stream_type, one.collector) == (STREAM.name, STREAM.stream_type, "flights")
    assert (one.frames_waiting, one.rows_waiting, one.rows_delivered) == (7, 13, 7)
    assert (one.rows_parked, one.rows_rejected, one.last_error) == (2, 1, "the target is down")
    assert (two.frames_waiting, two.rows_waiting) == (10, 20)
    assert one.oldest_ns is not None
    assert two.oldest_ns is not None
    assert two.oldest_ns < one.oldest_ns
    assert two.lag_s > 0
    assert (one.running, two.running) == (running, running)


def test_the_overview_of_a_closed_journal_counts_and_writes_nothing(opened: Opener, tmp_path: Path) -> None:
    journal = filled(opened, tmp_path)
    journal.close()
    before = fingerprint(tmp_path)
    check(overview(journal.folder), running=False)
    assert fingerprint(tmp_path) == before


def test_the_overview_of_a_killed_journal_counts_and_writes_nothing(opened: Opener, tmp_path: Path) -> None:
    journal = filled(opened, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b/STORE/journal/flights/state.sqlite-wal").stat().st_size
    before = fingerprint(tmp_path / "b")
    check(overview(tmp_path / "b/STORE/journal/flights"), running=False)
    assert fingerprint(tmp_path / "b") == before
    assert journal.append([frame(1)])


def test_of_a_killed_journal_only_what_was_put_after_its_last_figures_is_counted(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(tmp_path / "a")
    _, log = journal.attach(STREAM)
    for number in range(10):
        journal.append([frame(number, rows=2)])
    publish(journal.core, describe(journal.core))
    log.acknowledge(log.read(ReadLimit(6, 1 << 20), 0)[-1].position, Delivered(rows=6))
    journal.append([frame(10)])
    copy = shutil.copytree(tmp_path / "a", tmp_path / "b") / "STORE/journal/flights"
    counted: list[int] = []
    count = Segment.add_all

    def watched(segment: Segment, headers: Headers) -> None:
        counted.append(len(headers))
        count(segment, headers)

    monkeypatch.setattr(Segment, "add_all", watched)
    [stream] = overview(copy)
    assert (stream.frames_waiting, stream.rows_waiting, sum(counted)) == (8, 15, 1)
    os.truncate(next(copy.glob("*.segment")), journal.core.segment_set.segments[1].begin)
    assert overview(copy)[0].frames_waiting == 0, "figures of bytes that are gone are not believed"


def test_the_overview_of_a_live_journal_is_what_its_owner_says(tmp_path: Path) -> None:
    handle = open_shared(tmp_path, "flights")
    filled(lambda home, **_: handle.journal, tmp_path)
    deadline = time.monotonic() + 30
    while True:
        try:
            check(overview(handle.journal.folder), running=True)
            break
        except (AssertionError, ValueError):
            assert time.monotonic() < deadline
    before = fingerprint(tmp_path)
    overview(handle.journal.folder)
    assert fingerprint(tmp_path) == before
    handle.release()


def test_a_reader_opens_nothing_of_a_live_journal_for_writing_and_takes_no_lock(tmp_path: Path) -> None:
    arguments = [str(tmp_path), str(tmp_path / "log"), "0", "1000000"]
    with Child("tests.journal.child", arguments) as child:
        child.wait_for_line()
        child.wait_for(tmp_path / "log", 3)
        folder = tmp_path / "STORE/journal/flights"
        done = traced(
            "tests.journal.looker", [str(folder)], tmp_path / "strace", calls="openat,fcntl,unlink,rename,flock,mkdir"
        )
    assert done.returncode == 0, done.errors
    assert "flights" in done.output
    opened = [call for call in done.calls if str(folder) in call]
    assert any("openat" in call for call in opened)
    assert [call for call in opened if "O_RDONLY" not in call and "_GET" not in call] == []


def test_a_damaged_state_is_looked_past(opened: Opener, tmp_path: Path) -> None:
    journal = filled(opened, tmp_path)
    journal.appender.needs_new_segment = True
    journal.append([frame(10, rows=2)])
    journal.close()
    for harm in (lambda path: path.write_bytes(b"garbage" * 1000), Path.unlink):
        harm(journal.folder / "state.sqlite")
        one, two = overview(journal.folder)
        assert (one.frames_waiting, two.frames_waiting) == (8, 11)


@pytest.mark.parametrize("bad", ["none", "another type", "unsealed", "cut", "a changed digit", "all cut", "a list"])
def test_a_damaged_report_of_a_killed_owner_does_not_change_the_counts(
    opened: Opener, tmp_path: Path, bad: str
) -> None:
    journal = opened(tmp_path / "a")
    journal.attach(STREAM)
    for number in range(10):
        journal.append([frame(number, rows=2)])
    publish(journal.core, describe(journal.core))
    copy = shutil.copytree(tmp_path / "a", tmp_path / "b") / "STORE/journal/flights"
    report = copy / "status.json"
    figures = json.loads(report.read_text())
    sealed = figures["newest_segment"]
    changed = sealed.replace("[10, 20,", "[10, 21,")
    assert changed != sealed
    newest = {"none": None, "another type": [1], "unsealed": {"number": 1}, "cut": sealed[:40]}.get(bad, changed)
    text = json.dumps({**figures, "newest_segment": newest})
    report.write_text({"all cut": text[:50], "a list": "[]"}.get(bad, text))
    [stream] = overview(copy)
    assert (stream.frames_waiting, stream.rows_waiting) == (10, 20)


def test_a_put_that_a_kill_cut_short_is_not_counted(opened: Opener, tmp_path: Path) -> None:
    journal = opened(tmp_path / "a")
    journal.attach(STREAM)
    journal.append([frame(1)])
    journal.append([frame(2), frame(3)])
    copy = shutil.copytree(tmp_path / "a", tmp_path / "b") / "STORE/journal/flights"
    path = next(copy.glob("*.segment"))
    (copy / "synced").unlink()
    os.truncate(path, path.stat().st_size - 1)
    assert overview(copy)[0].frames_waiting == 1


def test_journals_are_found_by_name(opened: Opener, tmp_path: Path) -> None:
    assert journals_in(tmp_path) == []
    for name in ("b", "a"):
        opened(tmp_path, name).close()
    assert [folder.name for folder in journals_in(tmp_path)] == ["a", "b"]


def test_the_owner_answers_what_commands_ask(tmp_path: Path) -> None:
    handle = open_shared(tmp_path, "flights")
    folder = handle.journal.folder

    def refuse(arguments: Mapping[str, Any]) -> None:
        raise Api2dbError("the stream is running; stop it first")

    handle.journal.on_request("double", lambda arguments: 2 * arguments["n"])
    handle.journal.on_request("refuse", refuse)
    handle.journal.on_request("break", lambda arguments: 1 / 0)

    def lack(arguments: Mapping[str, Any]) -> None:
        raise MissingExtraError("pgpq", "postgresql")

    handle.journal.on_request("lack", lack)
    handle.journal.on_request("odd", lambda arguments: object())
    assert ask(folder, "double", {"n": 21}) == 42
    with pytest.raises(Api2dbError, match="stop it first"):
        ask(folder, "refuse", {})
    with pytest.raises(Api2dbError, match="division"):
        ask(folder, "break", {})
    with pytest.raises(Api2dbError, match="JSON"):
        ask(folder, "odd", {})
    with pytest.raises(MissingExtraError, match=r"^pgpq is not installed; install it with: "):
        ask(folder, "lack", {})
    with pytest.raises(Api2dbError, match="not running"):
        ask(folder, "unknown", {})
    assert ask(folder, "double", {"n": 1}) == 2, "the owner goes on after each"
    assert list((folder / "control").iterdir()) == []
    handle.release()


def test_a_request_that_nobody_answers_times_out_and_is_not_answered_later(opened: Opener, tmp_path: Path) -> None:
    journal = opened()
    done: list[object] = []
    with pytest.raises(JournalBusyError, match="does not answer"):
        ask(journal.folder, "forget", {}, timeout_s=0.05)
    assert list((journal.folder / "control").iterdir()) == []
    serve_requests(journal.folder, {"forget": done.append})
    assert done == []


def test_a_request_left_by_a_command_that_was_killed_is_thrown_away(opened: Opener) -> None:
    journal = opened()
    control = journal.folder / "control"
    control.mkdir()
    (control / "1.json").write_text('{"verb": "forget", "arguments": {}, "until": 5}')
    (control / "2.json").write_text("half a requ")
    for taken_away in ("3.json", "4.answer"):  # between the look into the control and the look at the file
        (control / taken_away).symlink_to(control / "gone")
    done: list[object] = []
    serve_requests(journal.folder, {"forget": done.append})
    assert done == []
    assert not list(control.glob("*.json"))


def test_housekeeping_goes_on_while_frames_are_put_and_freed(tmp_path: Path) -> None:
    handle = open_shared(tmp_path, "flights", "process")
    _, log = handle.journal.attach(STREAM)
    handle.journal.appender.segment_bytes = 1500
    stop = threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                log.backlog()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(100):
        handle.journal.append([frame(number)])
        if number % 5 == 0:
            take(log)
    stop.set()
    thread.join()
    assert failures == []
    handle.release()


class Glances:
    """Counts how often a housekeeper has looked whether anybody asks for something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        look = last_request_ns

        def counting(journals: Path) -> int | None:
            self.count += 1
            return look(journals)

        monkeypatch.setattr(_housekeeping, "last_request_ns", counting)
        monkeypatch.setattr(_housekeeping, "_GLANCE_S", 0.01)
        monkeypatch.setattr(_housekeeping, "_ROUND_S", 3600.0)

    def wait(self) -> None:
        seen = self.count
        eventually(lambda: self.count > seen + 50)


def eventually(condition: Any) -> None:
    deadline, pause = time.monotonic() + 30, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for never came"
        pause.wait(0.005)


def test_journals_at_rest_write_nothing_and_are_looked_after_by_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glances = Glances(monkeypatch)
    before = threading.active_count()
    handles = [open_shared(tmp_path, f"c{number}") for number in range(10)]
    for handle in handles:
        handle.journal.attach(STREAM)
    eventually(lambda: all(looked(handle.journal) for handle in handles))
    assert threading.active_count() <= before + 2, "the housekeeper, and the thread that makes the main thread's calls"
    glances.wait()  # what had been said before the streams came is published as well
    files = times_below(tmp_path)
    glances.wait()
    assert times_below(tmp_path) == files
    for handle in handles:
        handle.release()


def times_below(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def looked(journal: Any) -> bool:
    """Whether all that the housekeeper knows of is published."""
    published = (journal.folder / "status.json").exists()
    return published and any(stream.running for stream in overview(journal.folder))


def test_figures_that_have_changed_are_published_after_a_long_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glances = Glances(monkeypatch)
    handle = open_shared(tmp_path, "flights")
    _, log = handle.journal.attach(STREAM)
    eventually(lambda: looked(handle.journal))
    glances.wait()
    handle.journal.append([frame(1)])
    eventually(lambda: overview(handle.journal.folder)[0].frames_waiting == 1)
    glances.wait()
    log.set_error("the target is down")
    eventually(lambda: overview(handle.journal.folder)[0].last_error == "the target is down")
    glances.wait()
    take(log)
    eventually(lambda: overview(handle.journal.folder)[0].frames_waiting == 0)
    handle.release()


def test_the_owner_answers_by_the_bell_and_not_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    glances = Glances(monkeypatch)
    handles = [open_shared(tmp_path, name) for name in ("one", "two")]
    handles[0].journal.on_request("name", lambda _: "one")
    handles[1].journal.on_request("name", lambda _: "two")
    glances.wait()
    for _ in range(3):
        assert [ask(handle.journal.folder, "name", {}, 5.0) for handle in handles] == ["one", "two"]
    for handle in handles:
        handle.release()


def test_an_owner_that_publishes_nothing_is_not_taken_for_the_one_before_it(opened: Opener, tmp_path: Path) -> None:
    journal = filled(opened, tmp_path)
    journal.close()
    (journal.folder / "status.json").write_text(f'{{"at": {time.time()}, "streams": []}}')
    again = opened(tmp_path)
    assert [stream.frames_waiting for stream in overview(again.folder)] == [7, 10]
