"""One owner; a forked child is none; and the shared use of one journal within a process."""

import errno
import math
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from api2db.errors import ConfigurationError, JournalBusyError, JournalError
from api2db.journal import _housekeeping, _lock, _rows
from api2db.journal._journal import SegmentedJournal
from api2db.journal._lock import is_owned
from api2db.journal._store import open_shared, overview
from tests.faults.children import Child, in_fork
from tests.journal.conftest import Opener
from tests.journal.tools import LIMIT, STREAM, delivered_from, drain, frame, segments
from tests.stream.eventually import eventually

CHILD = "tests.journal.child"


pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_second_process_is_refused_and_told_which_one_owns_the_journal(tmp_path: Path) -> None:
    with Child(CHILD, [str(tmp_path), str(tmp_path / "log"), "0", "1000000"]) as child:
        assert child.wait_for_line() == "ready"
        with pytest.raises(JournalBusyError, match=rf"\b{child.pid}\b"):
            SegmentedJournal(tmp_path, "flights")
        assert is_owned(tmp_path / "STORE/journal/flights")
        child.wait_for(tmp_path / "log", 1)
    assert not is_owned(tmp_path / "STORE/journal/flights")
    assert delivered_from(tmp_path) != []


def test_a_second_opening_in_one_process_is_refused_under_whatever_name(opened: Opener, tmp_path: Path) -> None:
    journal = opened(tmp_path / "home")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    with pytest.raises(JournalBusyError, match=str(os.getpid())):
        SegmentedJournal(tmp_path / "link", "flights")
    journal.append([frame(1)])


@pytest.mark.parametrize("look", [is_owned, overview])
def test_to_look_at_an_own_journal_does_not_let_its_lock_go(
    opened: Opener, tmp_path: Path, look: Callable[[Path], object]
) -> None:
    journal = opened(tmp_path / "home")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    look(tmp_path / "link/STORE/journal/flights")
    look(journal.folder)
    with Child(CHILD, [str(tmp_path / "home"), str(tmp_path / "log"), "0", "1"]) as child:
        code, _, errors = child.wait()
    assert code != 0
    assert "JournalBusyError" in errors


def test_a_forked_child_refuses_and_its_end_leaves_the_parents_lock(tmp_path: Path) -> None:
    handle = open_shared(tmp_path, "flights")
    journal = handle.journal
    _, log = journal.attach(STREAM)
    journal.append([frame(1)])
    for work in (
        lambda: journal.append([frame(2)]),
        lambda: journal.attach(STREAM),
        lambda: log.read((1, 1), 0),  # type: ignore[arg-type]
        lambda: log.acknowledge(log.position, log.delivered),
        lambda: log.save("plan", {}),
        lambda: open_shared(tmp_path, "flights"),
        lambda: SegmentedJournal(tmp_path, "flights"),
    ):
        said = in_fork(work)
        assert said.startswith("JournalBusyError"), said
        assert str(os.getpid()) in said

    def give_up() -> None:
        journal.close()
        handle.release()

    assert in_fork(give_up) == "nothing was raised"
    with Child(CHILD, [str(tmp_path), str(tmp_path / "log"), "0", "1"]) as child:
        assert "JournalBusyError" in child.wait()[2]
    journal.append([frame(3)])
    assert drain(log) == [1, 3]
    handle.release()
    assert delivered_from(tmp_path) == []


def test_a_forked_child_that_ends_in_the_ordinary_way_harms_nothing(tmp_path: Path) -> None:
    handle = open_shared(tmp_path, "flights")
    _, log = handle.journal.attach(STREAM)
    handle.journal.append([frame(1)])
    pid = os.fork()
    if pid == 0:
        del log, handle
        import gc

        gc.collect()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    handle.journal.append([frame(2)])
    assert drain(log) == [1, 2]
    log.save("plan", {"a": 1})
    handle.release()


def test_the_last_of_a_journals_users_closes_it(tmp_path: Path) -> None:
    one, two = open_shared(tmp_path, "flights"), open_shared(tmp_path / ".", "flights")
    assert one.journal is two.journal
    with pytest.raises(ConfigurationError, match="durability"):
        open_shared(tmp_path, "flights", "process")
    one.release()
    one.release()
    two.journal.append([frame(1)])
    two.release()
    assert not is_owned(tmp_path / "STORE/journal/flights")
    with pytest.raises(JournalError, match="closed"):
        two.journal.append([frame(2)])
    open_shared(tmp_path, "flights", "process").release()


def test_sharing_and_releasing_from_many_threads_leaves_nothing_open(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for at in range(10):
                handle = open_shared(tmp_path, "flights")
                handle.journal.append([frame(10 * number + at)])
                handle.release()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not is_owned(tmp_path / "STORE/journal/flights")
    assert [thread.name for thread in threading.enumerate() if "journal" in thread.name] == []


def test_a_read_that_waits_ends_when_the_journal_is_closed(opened: Opener, tmp_path: Path) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    errors: list[Exception] = []

    def read() -> None:
        try:
            log.read(LIMIT)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    journal.close()
    thread.join(30)
    assert "closed" in str(errors[0])


def refused(home: Path) -> str:
    """What a second process says that wants to own the journal, and to put into it."""
    with Child(CHILD, [str(home), str(home / "log"), "0", "1"]) as child:
        code, _, errors = child.wait()
    assert code != 0, "it got in"
    return errors


def copy_folder(journal: SegmentedJournal) -> None:
    shutil.copytree(journal.folder, journal.home / "backup")


def open_and_close(journal: SegmentedJournal) -> None:
    (journal.folder / "owner.lock").read_bytes()


@pytest.mark.parametrize("work", [copy_folder, open_and_close])
def test_code_of_the_same_process_that_reads_the_lock_does_not_let_it_go(
    opened: Opener, tmp_path: Path, work: Callable[[SegmentedJournal], None]
) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(1)])
    work(journal)
    assert is_owned(journal.folder)
    assert "JournalBusyError" in refused(tmp_path)
    with pytest.raises(JournalBusyError, match=str(os.getpid())):
        SegmentedJournal(tmp_path, "flights")
    journal.append([frame(2)])
    assert drain(log) == [1, 2]


def test_a_forked_child_that_outlives_its_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    said, say = os.pipe()
    wait, release = os.pipe()
    owner = os.fork()
    if owner == 0:
        journal = SegmentedJournal(tmp_path, "flights")
        journal.append([frame(1)])
        if os.fork() == 0:
            os.close(release)
            os.write(say, b".")
            os.read(wait, 1)  # until the test lets go of its end
        os._exit(0)
    os.close(wait)
    assert os.read(said, 1) == b"."
    os.waitpid(owner, 0)
    try:
        assert not is_owned(tmp_path / "STORE/journal/flights")
        SegmentedJournal(tmp_path, "flights").close()
    finally:
        os.close(release)
        os.close(said)
        os.close(say)


def remove(journal: SegmentedJournal) -> None:
    (journal.folder / "owner.lock").unlink()


def close_descriptors(journal: SegmentedJournal) -> None:
    lock = (journal.folder / "owner.lock").stat()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found = os.fstat(int(entry.name))
            if (found.st_dev, found.st_ino) == (lock.st_dev, lock.st_ino):
                os.close(int(entry.name))


@pytest.mark.parametrize("work", [remove, close_descriptors])
def test_where_the_lock_is_lost_nothing_more_is_acknowledged_or_deleted(
    opened: Opener, tmp_path: Path, work: Callable[[SegmentedJournal], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lock, "_LATELY_S", 0.0)
    journal = opened(segment_bytes=1)
    _, log = journal.attach(STREAM)
    journal.append([frame(1)])
    journal.append([frame(2)])
    entries = log.read(LIMIT, 0)
    work(journal)
    assert not is_owned(journal.folder)
    there = segments(journal.folder)
    for forbidden in (
        lambda: journal.append([frame(3)]),
        lambda: log.acknowledge(entries[-1].position, log.delivered),
        lambda: journal.forget(STREAM.name),
    ):
        with pytest.raises(JournalBusyError, match=r"lock .* is lost"):
            forbidden()
    journal.close()
    assert segments(journal.folder) == there
    assert delivered_from(tmp_path) == [1, 2]


@pytest.mark.parametrize("work", [remove, close_descriptors])
def test_a_put_just_after_the_lock_is_lost_is_not_acknowledged(
    opened: Opener, work: Callable[[SegmentedJournal], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lock, "_LATELY_S", math.inf)
    journal = opened()
    journal.append([frame(1)])
    work(journal)
    with pytest.raises(JournalBusyError, match=r"lock .* is lost"):
        journal.append([frame(2)])


def test_an_fsync_that_ends_after_the_lock_is_lost_leaves_the_files_of_a_new_owner_alone(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened()
    journal.append([frame(1)])
    synced, real = journal.folder / "synced", os.fdatasync

    def sync(fd: int) -> None:
        real(fd)
        remove(journal)
        synced.write_bytes(b"of the new owner")

    monkeypatch.setattr(os, "fdatasync", sync)
    with pytest.raises(JournalBusyError, match=r"lock .* is lost"):
        journal.append([frame(2)])
    assert synced.read_bytes() == b"of the new owner"


def test_nothing_is_written_if_the_lock_is_lost_while_a_frame_is_encoded(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lock, "_LATELY_S", 0.0)
    journal = opened()
    journal.append([frame(1)])
    size_bytes, real = segments(journal.folder)[-1].stat().st_size, _rows.frame_parts

    def encode(*arguments: Any) -> Iterator[Any]:
        remove(journal)
        return real(*arguments)

    monkeypatch.setattr(_rows, "frame_parts", encode)
    with pytest.raises(JournalBusyError, match=r"lock .* is lost"):
        journal.append([frame(2)])
    assert segments(journal.folder)[-1].stat().st_size == size_bytes


def test_housekeeping_that_fails_is_told_once_and_without_a_traceback_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[Path] = []
    failing = threading.Event()
    failing.set()

    def publish(folder: Path, _: object) -> None:
        tries.append(folder)
        if failing.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_housekeeping, "publish", publish)
    monkeypatch.setattr(_housekeeping, "_GLANCE_S", 0.001)
    monkeypatch.setattr(_housekeeping, "_PUBLISH_S", 0.0)
    handle = open_shared(tmp_path, "flights")
    eventually(lambda: len(tries) > 3)
    assert not (handle.journal.folder / "status.json").exists()
    failing.clear()
    stream_no, _ = handle.journal.attach(STREAM)
    eventually(lambda: overview(handle.journal.folder) != [])
    seen = len(tries)
    failing.set()
    handle.journal.detach(stream_no)
    eventually(lambda: len(tries) > seen + 3)
    handle.release()
    told = [record for record in caplog.records if "housekeeping" in record.message]
    assert [(record.levelname, bool(record.exc_info)) for record in told] == 2 * [("WARNING", False)]
    assert "No space left" in told[0].message
