"""A disk that fails or is full: nothing is acknowledged that is not there, and it goes on by itself when mended."""

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from api2db.errors import JournalError, JournalWriteError
from api2db.journal import Delivered, ReadLimit
from api2db.journal._journal import SegmentedJournal
from api2db.journal._scan import Record
from tests.faults.children import Child, acknowledged
from tests.faults.disks import small_disk
from tests.faults.system_calls import traced
from tests.journal.conftest import Opener
from tests.journal.tools import (
    LIMIT,
    OTHER,
    STREAM,
    delivered_from,
    drain,
    frame,
    numbers,
    random_frame,
    segments,
    take,
)

CHILD = "tests.journal.child"


class FailingSync:
    """fdatasync as a disk that fails so many times, and then says that all is well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures = 0
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, fd: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingSync:
    return FailingSync(monkeypatch)


def check_child(home: Path, log: Path, output: str, count: int) -> None:
    unknown = {int(line.split()[1].rstrip(":")) for line in output.splitlines() if line.startswith("unknown")}
    known = acknowledged(log)
    found = delivered_from(home)
    assert found == sorted(set(found)), "in order, and once"
    assert set(known) <= set(found), "what was acknowledged is there"
    assert set(found) <= set(known) | unknown, "nothing else is"
    assert sorted(set(known) | unknown) == list(range(count))


@pytest.mark.parametrize(
    ("durability", "step"), [("full", 2), ("full", 4), ("full", 6), ("full", 8), ("process", 4), ("process", 5)]
)
def test_whichever_fsync_fails_what_was_acknowledged_is_there(tmp_path: Path, durability: str, step: int) -> None:
    options = json.dumps({"durability": durability, "segment_bytes": 2500})
    done = traced(
        CHILD,
        [str(tmp_path), str(tmp_path / "log"), "0", "12", options],
        tmp_path / "strace",
        calls="fdatasync",
        inject=[f"fdatasync:error=EIO:when={step}"],
    )
    if done.returncode and not acknowledged(tmp_path / "log"):
        assert "JournalError" in done.errors or "JournalWriteError" in done.errors, "it says so, and does not start"
    else:
        assert done.injected == 1
        check_child(tmp_path, tmp_path / "log", done.output, 12)


def test_after_a_failed_fsync_the_rows_are_written_anew_and_the_put_succeeds(opened: Opener, disk: FailingSync) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    disk.failures = 1
    journal.append([frame(1)], cursor={"n": 1})
    assert len(segments(journal.folder)) == 2
    assert drain(log) == [0, 1]
    journal.append([frame(2)])
    journal.close()
    for path in journal.folder.glob("state.sqlite*"):
        path.unlink()
    journal = opened()
    _, log = journal.attach(STREAM)
    assert drain(log) == [1, 2], "the first was delivered, and its segment is gone"
    assert journal.cursor() == {"n": 1}


def test_where_writing_anew_fails_too_the_put_is_unknown_and_the_next_one_goes_on(
    opened: Opener, disk: FailingSync
) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    disk.failures = 2
    with pytest.raises(JournalWriteError, match="unknown"):
        journal.append([frame(1)])
    assert isinstance(JournalWriteError("x"), OSError)
    journal.append([frame(2)])
    assert drain(log) == [0, 2]
    journal.close()
    assert delivered_from(journal.home) == []


def test_durability_process_keeps_what_it_promised_while_the_disk_fails(opened: Opener, disk: FailingSync) -> None:
    journal = opened(durability="process")
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    assert take(log)
    for number in range(1, 4):
        journal.append([frame(number)])
    disk.failures = 2
    with pytest.raises(JournalWriteError, match="synced"):
        journal.sync()
    journal.append([frame(4)])
    assert log.backlog().frames == 4
    journal.append([frame(5)])
    assert drain(log) == [1, 2, 3, 4, 5]
    assert log.backlog().frames == 0


def test_entries_in_hand_while_a_rescue_moves_what_follows_can_be_acknowledged(
    opened: Opener, disk: FailingSync
) -> None:
    journal = opened(durability="process")
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    entries = log.read(LIMIT, 0)
    journal.append([frame(1)])
    disk.failures = 1
    journal.sync()
    log.acknowledge(entries[-1].position, Delivered(rows=1))
    assert log.backlog().frames == 1
    assert drain(log) == [1]
    assert log.backlog().frames == 0


def test_what_is_read_ahead_after_a_rescue_is_not_what_the_worker_has(opened: Opener, disk: FailingSync) -> None:
    journal = opened(durability="process")
    _, log = journal.attach(STREAM)
    limit = ReadLimit(rows=2, size_bytes=1 << 20)
    journal.append([frame(number) for number in range(5)])
    in_hand = log.read(limit, 0)
    journal.append([frame(5)])
    disk.failures = 1
    journal.sync()
    assert numbers(log.read(limit, after=in_hand[-1].position)) == [2, 3]
    log.acknowledge(in_hand[-1].position, Delivered(rows=2))
    assert numbers(in_hand) == [0, 1]
    assert drain(log, limit) == [2, 3, 4, 5]


@pytest.mark.timeout(30)
def test_a_reader_of_a_failing_disk_waits_and_then_goes_on(
    opened: Opener, disk: FailingSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api2db.journal import _reader

    monkeypatch.setattr(_reader, "_PAUSE_S", 0.001)
    journal = opened(durability="process")
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    disk.failures = 6
    assert drain(log) == []
    while not (entries := take(log, timeout_s=1)):
        pass
    assert entries[0].batch.num_rows == 1


def test_streams_that_wait_for_a_failing_disk_do_not_wake_each_other(opened: Opener, disk: FailingSync) -> None:
    journal = opened(durability="process")
    logs = [journal.attach(identity)[1] for identity in (STREAM, OTHER)]
    disk.failures = enough = 100_000
    journal.append([frame(0)])
    readers = [threading.Thread(target=log.read, args=(LIMIT, 1)) for log in logs]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    tried, disk.failures = enough - disk.failures, 0
    assert tried < 20
    assert [drain(log) for log in logs] == [[0], [0]]


def test_nothing_is_read_ahead_of_a_disk_that_fails(opened: Opener, disk: FailingSync) -> None:
    journal = opened(durability="process")
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    in_hand = log.read(LIMIT, 0)
    journal.append([frame(1)])
    disk.failures = 1_000
    with pytest.raises(JournalWriteError):
        log.read(LIMIT, after=in_hand[-1].position)
    disk.failures = 0
    log.acknowledge(in_hand[-1].position, Delivered(rows=1))
    assert drain(log) == [1]


@pytest.mark.parametrize("rows", [2, 1000])
@pytest.mark.parametrize("durability", ["full", "process"])
def test_where_the_dead_segment_can_not_be_cut_copies_are_known_by_their_numbers(
    opened: Opener, disk: FailingSync, monkeypatch: pytest.MonkeyPatch, durability: str, rows: int
) -> None:
    journal = opened(durability=durability)
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    journal.sync()

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.failures = 1
    monkeypatch.setattr(os, "ftruncate", refuse)
    journal.append([frame(1)])
    journal.sync()
    monkeypatch.undo()
    journal.append([frame(2)])
    journal.close()
    for path in journal.folder.glob("state.sqlite*"):
        path.unlink()
    again = opened()
    _, log = again.attach(STREAM)
    assert log.backlog().frames == 3
    limit = ReadLimit(rows, size_bytes=1 << 20)
    in_hand = log.read(limit, 0)
    log.read(limit, after=in_hand[-1].position)
    log.acknowledge(in_hand[-1].position, Delivered(rows=len(in_hand)))
    assert numbers(in_hand) + drain(log, limit) == [0, 1, 2]


def test_a_journal_that_can_not_be_synced_at_its_end_is_given_up_all_the_same(
    opened: Opener, disk: FailingSync, tmp_path: Path
) -> None:
    journal = opened(durability="process")
    _, _ = journal.attach(STREAM)
    journal.append([frame(0)])
    disk.failures = 1000
    with pytest.raises(JournalWriteError):
        journal.close()
    disk.failures = 0
    assert delivered_from(tmp_path) == [0], "the kernel still had it"


@pytest.mark.parametrize("size_bytes", [20, 40_000])
def test_rows_whose_schema_can_not_be_read_for_now_are_not_taken_for_damaged(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(number, 1, size_bytes) for number in range(2)])

    def without_descriptors(_: Record) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(journal.core.segment_set, "schemas", without_descriptors)
        with pytest.raises(OSError, match="open files"):
            log.read(LIMIT, 0)
    assert drain(log) == [0, 1]


def test_a_write_that_fails_leaves_nothing_of_its_put(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    real = os.writev

    def half(fd: int, buffers: list[bytes]) -> int:
        if len(bytes(buffers[0])) == 64:
            real(fd, [bytes(buffers[0])[:30]])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "writev", half)
    with pytest.raises(JournalWriteError, match="free disk space"):
        journal.append([frame(1), frame(2)], cursor={"n": 2})
    monkeypatch.undo()
    journal.append([frame(3)])
    assert drain(log) == [0, 3]
    assert journal.cursor() == {}


def test_a_write_that_the_kernel_takes_in_pieces_is_whole(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, buffers: real(fd, [b"".join(map(bytes, buffers))[:100]]))
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(number) for number in range(5)])
    assert drain(log) == [0, 1, 2, 3, 4]


def test_a_put_of_more_pieces_than_one_call_takes_is_whole(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(number) for number in range(3000)])
    assert drain(log) == list(range(3000))


def test_at_a_file_size_limit_puts_are_refused_and_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    options = json.dumps({"size_bytes": 2000, "limit": 40_000})
    with Child(CHILD, [str(tmp_path), str(tmp_path / "log"), "0", "60", options]) as child:
        code, output, errors = child.wait()
    assert code == 0, errors
    check_child(tmp_path, tmp_path / "log", output, 60)
    assert len(acknowledged(tmp_path / "log")) > 30


@pytest.fixture
def full_home(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "3m") as place:
        yield place


def fill(place: Path) -> Path:
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def put_until_full(journal: SegmentedJournal, first: int = 0) -> int:
    for number in range(first, first + 10_000):
        try:
            journal.append([random_frame(number, 1, 10_000)])
        except JournalWriteError:
            return number
    pytest.fail("the disk is not full")


def count(log: object, limit: object = LIMIT) -> list[int]:
    found: list[int] = []
    while entries := take(log):  # type: ignore[arg-type]
        found += [number for entry in entries for number in entry.batch["n"].to_pylist()]
    return found


def test_on_a_full_disk_puts_are_refused_and_it_goes_on_by_itself_when_there_is_room(
    opened: Opener, full_home: Path
) -> None:
    journal = opened(full_home)
    _, log = journal.attach(STREAM)
    filler = fill(full_home)
    os.truncate(filler, filler.stat().st_size - 200_000)
    put = put_until_full(journal)
    assert put > 5
    with pytest.raises(JournalWriteError):
        journal.append([random_frame(put, 1, 10_000)])
    filler.unlink()
    journal.append([random_frame(put, 1, 10_000)])
    assert count(log) == list(range(put + 1))


def test_on_a_full_disk_delivered_segments_go_and_that_makes_the_room(opened: Opener, full_home: Path) -> None:
    journal = opened(full_home, segment_bytes=100_000)
    _, log = journal.attach(STREAM)
    _, other = journal.attach(OTHER)
    first = put_until_full(journal)
    assert count(log) == list(range(first))
    assert count(other) == list(range(first))
    second = put_until_full(journal, first)
    assert second > first + 5
    assert count(log) == list(range(first, second))


def test_a_full_disk_of_one_delivered_segment_is_emptied_and_loses_no_state(opened: Opener, full_home: Path) -> None:
    journal = opened(full_home)
    _, log = journal.attach(STREAM)
    journal.append([frame(0)], cursor={"n": 1})
    first = put_until_full(journal)
    while take(log):
        pass
    assert len(segments(journal.folder)) == 1
    journal.append([random_frame(first, 1, 10_000)])
    assert count(log) == [first]
    journal.close()
    again = opened(full_home)
    assert again.cursor() == {"n": 1}
    assert again.core.segment_set.damaged == 0, "what was let go is not missed"


def test_a_small_disk_takes_rows_without_end_where_each_is_delivered_before_the_next(
    opened: Opener, full_home: Path
) -> None:
    journal = opened(full_home)
    _, log = journal.attach(STREAM)
    for number in range(800):  # 8 MB of rows, and as much of positions, on a disk of 3 MB
        journal.append([random_frame(number, 1, 10_000)], cursor={"n": number})
        assert count(log) == [number]
    assert len(segments(journal.folder)) == 1
    journal.close()
    again = opened(full_home)
    assert again.cursor() == {"n": 799}
    assert again.core.segment_set.damaged == 0, "what was let go is not missed"


def test_a_full_disk_leaves_room_for_the_notes_of_what_is_being_delivered(opened: Opener, full_home: Path) -> None:
    journal = opened(full_home)
    _, log = journal.attach(STREAM)
    number = 0
    while journal.folder.joinpath("state.sqlite-wal").stat().st_size < 1_000_000:
        log.save("plan", {"number": number, "text": "x" * 10_000})
        number += 1
    put = put_until_full(journal)
    fill(full_home)
    with suppress(JournalWriteError):
        log.save("plan", {"text": "y" * 10_000})
    log.save("plan", {"text": "z" * 10_000})
    assert log.checkpoint("plan") == {"text": "z" * 10_000}
    assert count(log) == list(range(put))


def test_a_journal_whose_rows_are_all_delivered_is_opened_on_a_full_disk(opened: Opener, full_home: Path) -> None:
    journal = opened(full_home)
    _, log = journal.attach(STREAM)
    put = put_until_full(journal)
    assert count(log) == list(range(put))
    journal.close()
    fill(full_home)
    again = opened(full_home)
    _, log = again.attach(STREAM)
    again.append([random_frame(put, 1, 10_000)])
    assert count(log) == [put]


def test_a_full_disk_is_not_taken_for_damage_when_a_journal_is_opened(opened: Opener, full_home: Path) -> None:
    journal = opened(full_home)
    journal.attach(STREAM)
    journal.append([frame(0)])
    key = journal.readers[1].key
    journal.close()
    filler = fill(full_home)
    with suppress(JournalWriteError):
        opened(full_home).close()
    assert not (journal.folder / "damaged").exists()
    filler.unlink()
    journal = opened(full_home)
    _, log = journal.attach(STREAM)
    assert log.key == key
    assert drain(log) == [0]


def test_a_journal_that_can_not_be_opened_leaves_no_lock_behind(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api2db.journal import _epochs

    def refuse(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(_epochs, "sync_folder", refuse)
        with pytest.raises(JournalError, match="can't be opened"):
            opened()
    opened()
