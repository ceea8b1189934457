"""What is committed with rows or with an acknowledgement: the collector's state, removals, notes."""

import os
import shutil
from pathlib import Path

import pytest

from api2db.errors import ConfigurationError, JournalWriteError
from api2db.journal import Delivered, ReadLimit, StreamNo
from api2db.journal._journal import SegmentedJournal
from api2db.journal._overview import journal_folder
from api2db.journal._removal import finish_removals
from api2db.journal._state import State
from tests.journal.conftest import Opener
from tests.journal.tools import LIMIT, STREAM, drain, frame, segments, take


def test_the_collectors_state_is_committed_with_its_rows(opened: Opener) -> None:
    journal = opened()
    assert journal.cursor() == {}
    journal.append([frame(1)], cursor={"page": 1})
    journal.append([frame(2)])
    journal.append([], cursor={"page": 2})
    assert journal.cursor() == {"page": 2}
    journal.close()
    assert opened().cursor() == {"page": 2}


def test_a_state_that_is_no_json_is_refused_before_anything_is_stored(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    with pytest.raises(ConfigurationError, match="JSON"):
        journal.append([frame(1)], cursor={"when": object()})
    assert drain(log) == []


def test_the_state_outlives_the_segments_that_held_it(opened: Opener) -> None:
    journal = opened(segment_bytes=800)
    _, log = journal.attach(STREAM)
    journal.append([frame(0)], cursor={"page": 7})
    for number in range(1, 10):
        journal.append([frame(number)])
        drain(log)
    assert len(segments(journal.folder)) == 1
    journal.close()
    journal = opened()
    assert journal.cursor() == {"page": 7}
    journal.close()
    (journal.folder / "state.sqlite").unlink()
    assert opened().cursor() == {"page": 7}


def test_a_file_whose_rows_are_put_again_goes_with_that_put(opened: Opener, tmp_path: Path) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    journal.append([frame(0)])
    entry = log.read(LIMIT, 0)[-1]
    rejected = tmp_path / "rejected.parquet"
    rejected.write_bytes(b"x" * 100)
    log.acknowledge(entry.position, Delivered(rejected=3, rejected_bytes=150))
    journal.append([frame(1, rows=2)], stream_no=stream_no, removes="rejected.parquet")
    assert not rejected.exists()
    assert (log.delivered.rejected, log.delivered.rejected_bytes) == (1, 50)
    journal.close()
    assert opened().core.state.streams()[0].delivered.rejected_bytes == 50


def test_the_state_of_a_power_cut_is_never_ahead_of_the_rows_that_are_left(opened: Opener, tmp_path: Path) -> None:
    journal = opened(durability="process", segment_bytes=800)
    _, log = journal.attach(STREAM)
    for number in (1, 2):
        journal.append([frame(number, size_bytes=800)], cursor={"page": number})
    delivered = log.read(LIMIT, 0)[-1].position
    journal.append([frame(3)], cursor={"page": 3})
    log.acknowledge(delivered, Delivered(rows=2))
    copy = tmp_path / "copy"
    shutil.copytree(journal.folder, journal_folder(copy, "flights"))
    _, newest = segments(journal_folder(copy, "flights"))
    os.truncate(newest, journal.core.segment_set.segments[int(newest.stem)].begin)
    after = opened(copy)
    assert drain(after.attach(STREAM)[1]) == []
    assert after.cursor() == {"page": 2}


def reopen_walking(opened: Opener, journal: SegmentedJournal) -> None:
    """Open a journal again as behind a kill: nothing is remembered of what its segments hold."""
    journal.close()
    for state in journal.folder.glob("state.sqlite*"):
        state.unlink()
    opened()


def test_a_removal_that_a_crash_cut_short_is_finished_at_the_next_open(opened: Opener, tmp_path: Path) -> None:
    journal = opened()
    rejected, still_there = tmp_path / "rejected.parquet", tmp_path / "still there"
    rejected.touch()
    still_there.hardlink_to(rejected)
    journal.append([frame(1)], removes="rejected.parquet")
    still_there.rename(rejected)
    reopen_walking(opened, journal)
    assert not rejected.exists()


def set_aside(journal: SegmentedJournal, home: Path) -> StreamNo:
    """Reject two rows, and have them in a file."""
    stream_no, log = journal.attach(STREAM)
    journal.append([frame(0, rows=2)])
    (home / "rejected.parquet").write_bytes(b"x" * 100)
    log.acknowledge(log.read(LIMIT, 0)[-1].position, Delivered(rejected=2, rejected_bytes=100))
    return stream_no


def counts(journal: SegmentedJournal) -> tuple[int, int]:
    """The rows and bytes that count as rejected, in the state file and in memory."""
    [row] = journal.core.state.streams()
    assert row.delivered == journal.core.streams[row.stream_no].delivered
    return row.delivered.rejected, row.delivered.rejected_bytes


@pytest.mark.parametrize("cut", ["api2db.journal._journal.remove", "api2db.journal._removal._finish"])
def test_rows_of_a_removal_that_a_crash_cut_short_no_longer_count(
    cut: str, opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    journal = opened(home)
    stream_no = set_aside(journal, home)
    with monkeypatch.context() as patched:
        patched.setattr(cut, lambda *_: None)
        journal.append([frame(1)], stream_no=stream_no, removes="rejected.parquet")
        assert counts(journal) == (2, 100)
        shutil.copytree(home, copy)
    for _ in range(2):
        journal = opened(copy)
        assert not (copy / "rejected.parquet").exists()
        assert counts(journal) == (1, 0)
        journal.close()


def test_rows_of_a_file_that_is_gone_no_longer_count_once_the_state_can_be_written(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise JournalWriteError("no space left")

    journal = opened()
    stream_no = set_aside(journal, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(State, "finish_removal", refuse)
        journal.drop_rejected(stream_no, "rejected.parquet", 2)
    assert not (tmp_path / "rejected.parquet").exists()
    assert counts(journal) == (2, 100)
    finish_removals(journal.core)
    assert counts(journal) == (0, 0)
    assert not journal.core.removals


def test_rows_that_a_rebuilt_state_does_not_know_are_not_counted_down(opened: Opener, tmp_path: Path) -> None:
    journal = opened()
    stream_no = set_aside(journal, tmp_path)
    journal.close()
    for state in journal.folder.glob("state.sqlite*"):
        state.unlink()
    journal = opened()
    journal.drop_rejected(stream_no, "rejected.parquet", 2)
    assert counts(journal) == (0, 0)


def test_a_file_that_has_taken_the_name_of_a_removed_one_stays(opened: Opener, tmp_path: Path) -> None:
    journal = opened()
    rejected = tmp_path / "rejected.parquet"
    rejected.write_bytes(b"of one stream")
    journal.append([frame(1)], removes="rejected.parquet")
    rejected.write_bytes(b"of another")
    reopen_walking(opened, journal)
    assert rejected.read_bytes() == b"of another"


def test_a_file_goes_only_once_its_rows_are_fsynced_also_for_durability_process(opened: Opener, tmp_path: Path) -> None:
    journal = opened(durability="process")
    (tmp_path / "rejected.parquet").touch()
    journal.append([frame(1)], removes="rejected.parquet")
    assert not journal.appender._unsynced
    assert not (tmp_path / "rejected.parquet").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "STORE/../../outside"])
def test_a_removal_can_not_leave_the_home(opened: Opener, tmp_path: Path, name: str) -> None:
    journal = opened(tmp_path / "home")
    (tmp_path / "outside").touch()
    with pytest.raises(ConfigurationError, match="not below"):
        journal.append([frame(1)], removes=name)
    assert (tmp_path / "outside").exists()


def test_notes_are_kept_and_dropped_in_the_transaction_of_the_position(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(1), frame(2)])
    log.save("plan", {"first": 1, "names": ["a"]})
    log.save("parked", {"rows": 4, "size_bytes": 1000})
    journal.close()
    journal = opened()
    _, log = journal.attach(STREAM)
    assert log.checkpoint("plan") == {"first": 1, "names": ["a"]}
    assert log.stream.stored_bytes == log.backlog().size_bytes + 1000
    first = log.read(ReadLimit(1, 1), 0)
    log.acknowledge(first[0].position, Delivered(rows=1), clear=["plan", "parked"])
    assert log.checkpoint("plan") is log.checkpoint("parked") is None
    assert log.stream.stored_bytes == log.backlog().size_bytes
    journal.close()
    journal = opened()
    _, log = journal.attach(STREAM)
    assert log.checkpoint("plan") is None
    assert drain(log) == [2]


def test_what_was_delivered_is_summed_up_across_openings(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(1), frame(2)])
    take(log, ReadLimit(1, 1))
    log.set_error("the target is down")
    journal.close()
    journal = opened()
    _, log = journal.attach(STREAM)
    assert log.stream.current_row().error == "the target is down"
    take(log)
    row = log.stream.current_row()
    assert (row.delivered.rows, row.error) == (2, None)


def test_trouble_is_over_for_whoever_sees_its_rows_delivered_and_a_warning_stays(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    log.add_warning("a range is unsettled")
    for trouble in ("the target is down", "the target is down"):
        journal.append([frame(1)])
        log.set_error(trouble)
        assert log.stream.current_row().error == trouble
        take(log)
        assert log.stream.current_row().error == "a range is unsettled"


def test_whoever_says_what_is_wrong_says_no_secret(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    log.set_error("stopped: password=canary is wrong")
    assert journal.core.state.streams()[0].error == "stopped: password=*** is wrong"
    log.add_warning("look at https://me:canary@there/")
    assert log.stream.row.error == "look at https://***@there/"


def test_the_stream_keeps_its_key_and_knows_its_epochs(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    key, epoch, name = log.key, log.epoch, log.journal_id
    journal.close()
    journal = opened()
    _, log = journal.attach(STREAM)
    assert (log.key, log.journal_id) == (key, name)
    assert log.epoch != epoch
    assert log.knows_epoch(epoch)
    assert log.knows_epoch(log.epoch)
    assert not log.knows_epoch("0123456789abcdef")
