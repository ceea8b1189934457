"""What a disk may do to a journal while nobody looks; and what is delivered nevertheless."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from api2db.errors import JournalError
from api2db.journal import Delivered, ReadLimit, _repair
from api2db.journal._journal import SegmentedJournal
from api2db.journal._overview import journal_folder
from api2db.journal._record import HEADER_BYTES, Flag, RecordKind
from api2db.journal._repair import look_at
from api2db.journal._scan import Record, scan
from api2db.journal._segment import FORMAT, pack_preamble
from api2db.journal._synced import keep_synced, read_synced
from tests.journal.conftest import Opener
from tests.journal.tools import LIMIT, STREAM, delivered_from, drain, frame, numbers, segments, take


def records(path: Path) -> list[Record]:
    segment = look_at(int(path.stem), path)
    assert segment is not None
    return [found for found in scan(segment, segment.begin, segment.end) if isinstance(found, Record)]


def rows(path: Path) -> list[Record]:
    return [record for record in records(path) if record.header.kind == RecordKind.ROWS]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([old ^ 0x10]))


def crashed(opened: Opener, home: Path, place: Path) -> Path:
    """A copy of the home as it stands: what a kill would leave."""
    return Path(shutil.copytree(home, place, dirs_exist_ok=True))


def put(opened: Opener, home: Path, count: int, **options: object) -> SegmentedJournal:
    journal = opened(home, **options)
    journal.attach(STREAM)
    for number in range(count):
        journal.append([frame(number)])
    return journal


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("part", ["header", "payload"])
def test_a_damaged_record_in_the_middle_is_set_aside_and_counted_and_the_rest_is_delivered(
    opened: Opener, tmp_path: Path, part: str, *, close: bool
) -> None:
    journal = put(opened, tmp_path / "a", 10)
    if close:
        journal.close()
    home = crashed(opened, tmp_path / "a", tmp_path / "b")
    path = segments(home / "STORE/journal/flights")[0]
    fourth = rows(path)[4]
    row = path.read_bytes().index(b"xxxx", fourth.start)
    flip(path, fourth.start + 20 if part == "header" else row)
    damaged = path.read_bytes()[fourth.start : fourth.end]
    journal = opened(home)
    _, log = journal.attach(STREAM)
    assert drain(log) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert journal.core.segment_set.damaged == 1
    assert [file.read_bytes() for file in (journal.folder / "damaged").iterdir()] == [damaged]
    assert log.backlog().frames == 0
    assert log.wait_for(log.mark(), 0)


def test_a_zeroed_page_costs_the_records_on_it(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path, 60)
    journal.close()
    path = segments(journal.folder)[0]
    hit = [record for record in rows(path) if record.start < 8192 and record.end > 4096]
    overwrite(path, 4096, b"\0" * 4096)
    found = delivered_from(tmp_path)
    lost = {rows_.header.sequence for rows_ in hit}
    assert len(found) == 60 - len(lost)
    assert found == sorted(found)


def test_a_damaged_beginning_of_a_segment_costs_no_record(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path, 10, segment_bytes=2500)
    journal.close()
    for path in segments(journal.folder):
        flip(path, 3)
        flip(path, 40)
    assert delivered_from(tmp_path) == list(range(10))


def _flip_schemas(path: Path, count: int) -> None:
    schemas = [record for record in records(path) if record.header.kind == RecordKind.SCHEMA]
    for schema in schemas[:count]:
        flip(path, schema.start + HEADER_BYTES + 8)


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_schema_costs_nothing_where_a_copy_is_left(opened: Opener, tmp_path: Path, damaged: int) -> None:
    journal = opened(tmp_path)
    _, log = journal.attach(STREAM)
    for number in range(4):
        journal.append([pa.record_batch({"other": [number]})])
        journal.append([frame(number)])
    journal.close()
    _flip_schemas(segments(journal.folder)[0], damaged)
    journal = opened(tmp_path)
    _, log = journal.attach(STREAM)
    names = [entry.batch.schema.names[0] for entry in take(log)]
    assert names == ["other", "n"] * 4 if damaged == 1 else ["n"] * 4
    assert journal.core.segment_set.damaged == (0 if damaged == 1 else 4), "what needs it is set aside"


def test_large_frames_carry_their_own_schema(opened: Opener, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.attach(STREAM)
    for number, size_bytes in enumerate([20, 40_000]):
        journal.append([frame(number, 1, size_bytes)])
    journal.close()
    _flip_schemas(segments(journal.folder)[0], 2)
    assert delivered_from(tmp_path) == [1]


def test_a_lost_page_costs_the_frames_on_it_for_a_later_copy_of_the_schema_is_found(
    opened: Opener, tmp_path: Path
) -> None:
    journal = opened(tmp_path, durability="process")
    journal.attach(STREAM)
    for start in range(0, 5000, 500):
        journal.append([frame(number, size_bytes=30) for number in range(start, start + 500)])
    journal.close()
    path = segments(journal.folder)[0]
    _flip_schemas(path, 2)
    assert delivered_from(tmp_path) == list(range(5000))


@pytest.mark.parametrize("every", [23, pytest.param(3, marks=pytest.mark.torture)])
@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_whichever_byte_of_a_segment_is_flipped_one_frame_is_lost_at_most_and_it_is_reported(
    opened: Opener, tmp_path: Path, every: int, *, close: bool
) -> None:
    journal = put(opened, tmp_path / "a", 5)
    if close:
        journal.close()
    home = crashed(opened, tmp_path / "a", tmp_path / "b")
    content = segments(home / "STORE/journal/flights")[0].read_bytes()
    for at in range(0, len(content), every):
        shutil.rmtree(home)
        crashed(opened, tmp_path / "a", home)
        flip(segments(home / "STORE/journal/flights")[0], at)
        found, kept = _kept_after(home)
        assert len(found) >= 4, f"byte {at}"
        assert len(found) + kept >= 5, f"byte {at}"


def test_a_stream_with_nothing_but_damage_waits_instead_of_spinning(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path, 3)
    journal.close()
    path = segments(journal.folder)[0]
    for record in rows(path):
        flip(path, record.start + 9)
    journal = opened(tmp_path)
    _, log = journal.attach(STREAM)
    assert log.read(LIMIT, 0.05) == []
    assert log.backlog().frames == 0
    assert log.wait_for(log.mark(), 0)
    journal.append([frame(7)])
    assert drain(log) == [7]


def test_rows_of_a_frame_already_delivered_in_part_are_not_taken_from_the_next_when_it_is_damaged(
    opened: Opener, tmp_path: Path
) -> None:
    journal = opened(tmp_path)
    _, log = journal.attach(STREAM)
    journal.append([frame(0, rows=10)])
    journal.append([frame(1, rows=10)])
    take(log, ReadLimit(4, 1 << 20))
    journal.close()
    path = segments(journal.folder)[0]
    flip(path, rows(path)[0].start + 9)
    assert delivered_from(tmp_path) == [1] * 10


def test_when_the_newest_frame_is_damaged_the_one_before_it_is_the_newest(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path, 3)
    journal.close()
    path = segments(journal.folder)[0]
    flip(path, rows(path)[2].start + HEADER_BYTES + 9)
    journal = opened(tmp_path)
    _, log = journal.attach(STREAM)
    entries, superseded = log.newest()
    assert (numbers(entries), superseded.frames) == ([1], 1)
    log.acknowledge(entries[-1].position, Delivered(rows=1))
    assert log.newest()[0] == []
    assert log.backlog().frames == 0


def test_a_torn_tail_is_cut_at_every_byte(opened: Opener, tmp_path: Path) -> None:
    journal = opened(tmp_path / "a")
    journal.attach(STREAM)
    journal.append([frame(0)])
    before = read_synced(journal.folder)
    journal.append([frame(1), frame(2)], cursor={"n": 2})
    keep_synced(journal.folder, before)
    path = segments(journal.folder)[0]
    first_end = rows(path)[0].end
    whole = path.stat().st_size
    for size in range(first_end, whole + 1, 7):
        home = crashed(opened, tmp_path / "a", tmp_path / f"{size}")
        os.truncate(segments(home / "STORE/journal/flights")[0], size)
        again = opened(home)
        _, log = again.attach(STREAM)
        is_whole = size == whole
        assert drain(log) == ([0, 1, 2] if is_whole else [0]), "all of a put is visible, or nothing"
        assert again.cursor() == ({"n": 2} if is_whole else {})
        assert again.core.segment_set.damaged == 0, "what a kill leaves is no damage"
        again.append([frame(9)])
        assert drain(log) == [9]
        again.close()
        shutil.rmtree(home)


def test_of_a_put_that_reached_the_disk_with_a_hole_nothing_is_visible(opened: Opener, tmp_path: Path) -> None:
    journal = opened(tmp_path / "a")
    journal.attach(STREAM)
    journal.append([frame(0)])
    before = read_synced(journal.folder)
    journal.append([frame(number) for number in range(1, 6)], cursor={"n": 5})
    keep_synced(journal.folder, before)
    path = segments(journal.folder)[0]
    for hole in (rows(path)[1], rows(path)[3], records(path)[-1]):
        home = crashed(opened, tmp_path / "a", tmp_path / f"{hole.start}")
        damaged = segments(home / "STORE/journal/flights")[0]
        overwrite(damaged, hole.start + HEADER_BYTES, b"\0" * (hole.end - hole.start - HEADER_BYTES))
        again = opened(home)
        assert drain(again.attach(STREAM)[1]) == [0]
        assert again.cursor() == {}
        assert again.core.segment_set.damaged == 1, "it may have been acknowledged: it is kept, and said"
        assert len(list((again.folder / "damaged").iterdir())) == 1


@pytest.mark.parametrize("size", [0, 5, 30, 200])
def test_a_segment_whose_making_was_cut_short_is_as_if_it_had_not_been(
    opened: Opener, tmp_path: Path, size: int
) -> None:
    journal = put(opened, tmp_path, 3)
    journal.close()
    torn = journal.folder / "0000000002.segment"
    torn.write_bytes(segments(journal.folder)[0].read_bytes()[:size])
    again = opened(tmp_path)
    _, log = again.attach(STREAM)
    again.append([frame(3)])
    assert drain(log) == [0, 1, 2, 3]
    assert again.core.segment_set.damaged == 0


def test_a_segment_of_a_newer_version_is_refused_clearly_and_left_alone(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path, 1)
    journal.close()
    newer = journal.folder / "0000000009.segment"
    newer.write_bytes(pack_preamble({"format": FORMAT + 1, "epoch": "?"}))
    with pytest.raises(JournalError, match="newer version"):
        opened(tmp_path)
    assert newer.exists()
    newer.unlink()
    assert delivered_from(tmp_path) == [0]


def test_a_journal_of_an_earlier_alpha_is_refused_with_what_to_do_and_left_as_it_is(
    opened: Opener, tmp_path: Path
) -> None:
    folder = journal_folder(tmp_path, "flights")
    folder.mkdir(parents=True)
    older = folder / "0000000001.segment"
    older.write_bytes(pack_preamble({"format": FORMAT - 1, "epoch": "?"}))
    with pytest.raises(JournalError, match=r"earlier alpha of api2db.*deliver\s+what waits"):
        opened(tmp_path)
    assert not (folder / "state.sqlite").exists()


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _zero(path: Path) -> None:
    overwrite(path, 4096, b"\0" * 4096)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


@pytest.mark.parametrize("harm", [Path.unlink, _truncate, _zero, _empty, _garbage], ids=lambda harm: harm.__name__)
def test_a_damaged_state_file_is_rebuilt_from_the_newest_segment(
    opened: Opener, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    journal = put(opened, tmp_path, 10, segment_bytes=2500)
    log = journal.readers[1]
    take(log, ReadLimit(3, 1 << 20))
    key, epoch, name = log.key, log.epoch, log.journal_id
    journal.append([frame(10)], cursor={"n": 10})
    journal.appender.needs_new_segment = True
    journal.append([frame(11)])
    journal.close()
    harm(journal.folder / "state.sqlite")
    journal = opened(tmp_path)
    _, log = journal.attach(STREAM)
    assert (log.key, log.journal_id, journal.cursor()) == (key, name, {"n": 10})
    assert log.knows_epoch(epoch)
    assert log.checkpoint("rebuilt") == {"from": list(log.position)}
    assert drain(log) == list(range(3, 12))


def test_wherever_a_byte_of_the_state_is_flipped_no_position_is_believed_that_was_not_written(
    opened: Opener, tmp_path: Path
) -> None:
    journal = put(opened, tmp_path / "a", 6, segment_bytes=1500)
    log = journal.readers[1]
    take(log, ReadLimit(2, 1 << 20))
    log.save("plan", {"first": 1, "names": ["shard"]})
    journal.append([frame(6)], cursor={"n": 6})
    journal.close()
    state = journal.folder / "state.sqlite"
    content = state.read_bytes()
    interesting = [at for at in range(len(content)) if content[at]]
    for at in interesting[:: max(1, len(interesting) // 70)]:
        home = Path(shutil.copytree(tmp_path / "a", tmp_path / "b"))
        flip(home / "STORE/journal/flights/state.sqlite", at)
        again = opened(home)
        _, log = again.attach(STREAM)
        assert log.checkpoint("plan") in ({"first": 1, "names": ["shard"]}, None)
        assert again.cursor() == {"n": 6}
        found = drain(log)
        assert found in (list(range(2, 7)), list(range(7))), f"byte {at}"
        again.close()
        shutil.rmtree(home)


def test_a_position_and_a_note_that_were_altered_are_not_believed(opened: Opener, tmp_path: Path) -> None:
    import sqlite3

    for statement in (
        "UPDATE streams SET sequence = sequence + 1000000",
        "UPDATE streams SET skip = 1",
        "UPDATE streams SET key = 'other'",
        "UPDATE checkpoints SET body = replace(body, 'shard', 'shirt')",
        "UPDATE segments SET summary = replace(summary, 'end', 'eng')",
        "ALTER TABLE streams DROP COLUMN skip",
    ):
        journal = put(opened, tmp_path / statement[-6:], 3, segment_bytes=1000)
        journal.readers[1].save("plan", {"names": ["shard"]})
        journal.close()
        with sqlite3.connect(journal.folder / "state.sqlite") as connection:
            connection.execute(statement)
        connection.close()
        assert delivered_from(tmp_path / statement[-6:]) == [0, 1, 2], statement


@pytest.mark.parametrize("harm", [Path.unlink, _empty, _garbage], ids=lambda harm: harm.__name__)
def test_numbers_are_not_given_twice_though_the_opens_are_lost(
    opened: Opener, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    journal = opened(tmp_path)
    last = journal.append([frame(1)])
    epoch = journal.core.epoch
    journal.close()
    harm(journal.folder / "epochs")
    journal = opened(tmp_path)
    assert journal.append([frame(2)]) >> 32 > last >> 32
    assert epoch in journal.core.epochs
    journal.close()
    harm(journal.folder / "epochs")
    (journal.folder / "state.sqlite").unlink()
    assert opened(tmp_path).append([frame(2)]) >> 32 > 2


def test_numbers_are_not_given_twice_though_nothing_is_left_but_records(opened: Opener, tmp_path: Path) -> None:
    for _ in range(2):
        opened(tmp_path).close()
    journal = put(opened, tmp_path, 1)
    last = journal.core.sequence
    journal.close()
    for path in (journal.folder / "epochs", journal.folder / "state.sqlite"):
        path.unlink()
    for path in segments(journal.folder):
        flip(path, 40)
    assert opened(tmp_path).append([frame(2)]) >> 32 > last >> 32


def test_a_damaged_line_of_the_opens_costs_that_line(opened: Opener, tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for _ in range(2):
        journal.close()
        journal = opened(tmp_path)
    journal.close()
    flip(journal.folder / "epochs", 3)
    assert opened(tmp_path).core.counter == 4


def test_numbers_are_never_given_twice_though_the_unsynced_tail_was_lost(opened: Opener, tmp_path: Path) -> None:
    given: set[int] = set()
    for number in range(4):
        journal = opened(tmp_path)
        begin = journal.core.segment_set.visible
        given_now = {journal.append([frame(number)]) for _ in range(5)}
        assert not given & given_now
        given |= given_now
        journal.close()
        path = segments(journal.folder)[-1]
        os.truncate(path, records(path)[0].start)
        assert begin <= journal.core.segment_set.visible


def test_a_copy_of_a_running_journal_opens_and_holds_what_was_acknowledged(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path / "a", 10, segment_bytes=1500)
    take(journal.readers[1], ReadLimit(3, 1 << 20))
    copy = crashed(opened, tmp_path / "a", tmp_path / "b")
    state = journal.folder / "state.sqlite"
    for number in range(10, 20):
        journal.append([frame(number)])
    for path in state.parent.glob("state.sqlite*"):
        shutil.copy(path, copy / "STORE/journal/flights" / path.name)
    again = opened(copy)
    _, log = again.attach(STREAM)
    assert log.backlog().frames == 7
    assert drain(log) == list(range(3, 10)), "a newer state says nothing of older segments"
    journal.append([frame(20)])
    assert drain(journal.readers[1]) == list(range(3, 21))


def _kept_after(home: Path) -> tuple[list[int], int]:
    """What a journal delivers, and how much of it is set aside."""
    found = delivered_from(home)
    aside = home / "STORE/journal/flights/damaged"
    return found, len(list(aside.iterdir())) if aside.exists() else 0


def test_whichever_bit_of_a_segments_beginning_is_flipped_no_frame_is_lost(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path / "a", 5)
    path = segments(journal.folder)[0]
    content, begin = path.read_bytes(), records(path)[0].start
    home = crashed(opened, tmp_path / "a", tmp_path / "b")
    lengths = range(8 * len(b"api2db journal\n"), 8 * len(b"api2db journal\n12345678"))
    for bit in sorted({*lengths, *range(0, 8 * begin, 17)}):
        shutil.rmtree(home)
        crashed(opened, tmp_path / "a", home)
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        segments(home / "STORE/journal/flights")[0].write_bytes(changed)
        assert _kept_after(home) == ([0, 1, 2, 3, 4], 1), f"bit {bit}"


def _half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [Path.unlink, _half, _empty], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("which", [0, 1, -1])
def test_what_was_on_the_disk_and_is_gone_is_reported_once(
    opened: Opener, tmp_path: Path, harm: Callable[[Path], None], which: int, *, close: bool
) -> None:
    journal = put(opened, tmp_path / "a", 10, segment_bytes=2000)
    if close:
        journal.close()
    home = crashed(opened, tmp_path / "a", tmp_path / "b")
    path = segments(home / "STORE/journal/flights")[which]
    lost = [record.header.sequence for record in rows(path)]
    harm(path)
    again = opened(home)
    left = drain(again.attach(STREAM)[1])
    lost = lost[len(left) + len(lost) - 10 :]
    (word,) = (again.folder / "damaged").glob("*-missing-*")
    assert f"sequence numbers {lost[0]} to {lost[-1]};" in word.read_text()
    assert again.core.segment_set.damaged == 1 + (harm is _half), "the record that was cut through is damaged"
    again.close()
    shutil.rmtree(again.folder / "damaged")
    assert delivered_from(home) == []
    assert not (again.folder / "damaged").exists()


def test_of_a_put_that_was_on_the_disk_only_what_is_damaged_is_lost(opened: Opener, tmp_path: Path) -> None:
    journal = opened(tmp_path / "a")
    journal.attach(STREAM)
    journal.append([frame(number) for number in range(5)])
    home = crashed(opened, tmp_path / "a", tmp_path / "b")
    path = segments(home / "STORE/journal/flights")[0]
    flip(path, rows(path)[2].start + 9)
    assert _kept_after(home) == ([0, 1, 3, 4], 1)


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_segments_that_were_let_go_are_not_missed(opened: Opener, tmp_path: Path, *, close: bool) -> None:
    journal = put(opened, tmp_path / "a", 10, segment_bytes=1500)
    for _ in range(9):
        take(journal.readers[1], ReadLimit(1, 1 << 20))
        home = crashed(opened, tmp_path / "a", tmp_path / "b")
        again = opened(home)
        assert again.core.segment_set.damaged == 0
        again.close()
        shutil.rmtree(home)
    if close:
        journal.close()
    home = crashed(opened, tmp_path / "a", tmp_path / "b")
    assert _kept_after(home) == ([9], 0)
    assert _kept_after(home) == ([], 0)


def test_a_damaged_word_of_the_synced_end_is_not_believed(opened: Opener, tmp_path: Path) -> None:
    journal = put(opened, tmp_path / "a", 3)
    for at in range(24):
        home = crashed(opened, tmp_path / "a", tmp_path / "b")
        flip(home / "STORE/journal/flights/synced", at)
        assert _kept_after(home) == ([0, 1, 2], 0)
        shutil.rmtree(home)
    assert read_synced(journal.folder).end == segments(journal.folder)[0].stat().st_size


def test_groups_that_count_are_found_together_as_they_are_one_by_one(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(1)
    journal = put(opened, tmp_path, 0, durability="process")
    for number in range(12):
        journal.append([frame(number)] * dice.randrange(1, 4))
        if number in {2, 5}:
            journal.sync()
    [path] = segments(journal.folder)
    whole, ends = path.read_bytes(), [record.end for record in records(path)]
    copy = tmp_path / path.name
    for _ in range(150):
        content = bytearray(whole[: dice.choice([*ends, dice.randrange(ends[0], len(whole))])])
        for _ in range(dice.randrange(3)):
            content[dice.randrange(ends[0], len(content) + 1) - 1] ^= 255
        copy.write_bytes(content)
        synced_end = dice.choice([0, 0, *ends])
        together = counted(copy, synced_end)
        with monkeypatch.context() as patched:
            patched.setattr(_repair, "_counting_end", lambda *_: None)
            assert together == counted(copy, synced_end)


def counted(path: Path, synced_end: int) -> list[tuple[int, int, int, int]]:
    segment = look_at(int(path.stem), path)
    assert segment is not None
    runs = _repair.committed(segment, synced_end, is_newest=True)
    return [(run.start, run.end, len(run.records), len(run.damages)) for run in runs]


@pytest.mark.parametrize("times", [15, pytest.param(1000, marks=pytest.mark.torture)])
def test_whatever_a_disk_does_to_a_segment_exactly_what_it_left_is_delivered(
    opened: Opener, tmp_path: Path, times: int
) -> None:
    dice = random.Random(times)
    journal = put(opened, tmp_path / "a", 1, durability="process")
    given = [frame(0)]
    for number in range(1, 10):
        frames = [frame(number, dice.randrange(1, 4))] * dice.randrange(1, 4)
        given += frames
        journal.append(frames)
        if number in {3, 6}:
            journal.sync()
    [path] = segments(journal.folder)
    whole, (first, *others), durable = path.read_bytes(), rows(path), read_synced(journal.folder).end
    for _ in range(times):
        home = crashed(opened, tmp_path / "a", tmp_path / "b")
        content = damaged_by(dice, whole, first.end)
        segments(home / "STORE/journal/flights")[0].write_bytes(content)
        harmed = [at for at in range(first.end, len(whole)) if at >= len(content) or content[at] != whole[at]]
        tail_end = next((at for at in harmed if at >= durable), len(whole))
        is_there = [True, *(is_left(record, harmed, durable, tail_end, others) for record in others)]
        left = [put for put, there in zip(given, is_there, strict=True) if there]
        assert delivered_from(home) == [number for put in left for number in put["n"].to_pylist()]
        shutil.rmtree(home)


def damaged_by(dice: random.Random, content: bytes, begin: int) -> bytes:
    """Cut a segment short, or not, and flip or zero some bytes of it."""
    damaged = bytearray(content[: dice.choice([len(content), dice.randrange(begin, len(content))])])
    for _ in range(dice.randrange(4)):
        at, size = dice.randrange(begin, len(content)), dice.choice([1, 1, 8, 300])
        there = damaged[at : at + size]
        damaged[at : at + size] = bytes(len(there)) if dice.randrange(2) else bytes(byte ^ 16 for byte in there)
    return bytes(damaged)


def is_left(record: Record, harmed: list[int], durable: int, tail_end: int, others: list[Record]) -> bool:
    """Whether a record that was durable is unharmed, or the whole group of one that was not, and all before it."""
    if record.end <= durable:
        return not any(record.start <= at < record.end for at in harmed)
    group_end = next(other.end for other in others if other.end >= record.end and other.header.flags & Flag.LAST)
    return group_end <= tail_end
