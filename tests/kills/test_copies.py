"""A project that was copied, and a database that was put back to an earlier state."""

import shutil
from pathlib import Path

import pytest

from api2db.errors import ForeignLedgerError, StreamDiedError
from api2db.journal._lane import LaneLog
from tests.kills.here import Puts, running, wait_until
from tests.kills.oracle import Verdict, judge

DIALECTS = ("duckdb", "sqlite")


@pytest.fixture(params=DIALECTS)
def stranger(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Puts, Puts]:
    """A project whose database stands elsewhere, and a copy of it; the original has delivered meanwhile."""
    original = Puts(tmp_path / "original", request.param, tmp_path / "db")
    original.put(5)
    original.deliver()
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copy = Puts(tmp_path / "copy", request.param, tmp_path / "db")
    original.put(5)
    original.deliver()
    return original, copy


def test_a_copied_project_beside_the_original_is_stopped_and_told_why(stranger: tuple[Puts, Puts]) -> None:
    original, copy = stranger
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


def test_without_the_epoch_a_copied_project_loses_rows_and_the_checker_says_so(
    stranger: tuple[Puts, Puts], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copy = stranger
    monkeypatch.setattr(LaneLog, "knows_epoch", lambda log, epoch: True)
    for number in range(101, 104):
        copy.acknowledged = [number - 1]
        copy.put(1)
    copy.deliver()
    assert judge([*original.found()], [*original.acknowledged, 101, 102, 103]).lost


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_a_project_and_a_copy_made_while_it_ran_the_one_that_is_overtaken_is_told_why(
    tmp_path: Path, dialect: str
) -> None:
    original = Puts(tmp_path / "original", dialect, tmp_path / "db")
    with running(original.stream):
        original.put(5)
        assert original.stream.flush(30)
        shutil.copytree(tmp_path / "original", tmp_path / "copy")
        copy = Puts(tmp_path / "copy", dialect, tmp_path / "db")
        copy.acknowledged = [100]
        copy.put(3)
        copy.deliver()
        original.put(1)
        wait_until(lambda: not original.stream.lock.locked())
        with pytest.raises(StreamDiedError, match="a copy of this project"):
            original.put(1)
        assert original.stream.status().frames_waiting == 1, "its rows are kept"
    assert judge(original.found(), [*range(1, 6), *range(101, 104)]) == Verdict()


def test_a_journal_from_a_backup_is_stopped_and_told_why(stranger: tuple[Puts, Puts]) -> None:
    original, _ = stranger
    shutil.rmtree(original.home.path)
    shutil.copytree(original.home.place.parent / "copy" / "home", original.home.path)
    with running(original.stream):
        original.put(1)
        wait_until(lambda: not original.stream.lock.locked())
        with pytest.raises(StreamDiedError, match="restored from a backup"):
            original.put(1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_database_put_back_to_an_earlier_state_is_reported_with_its_range_and_delivery_goes_on(
    tmp_path: Path, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    puts = Puts(tmp_path, dialect)
    puts.put(5)
    puts.deliver()
    first = puts.stream._attached().position
    puts.stream.stop()
    earlier = puts.database.with_name("earlier")
    shutil.copyfile(puts.database, earlier)
    puts.put(5)
    puts.deliver()
    last = puts.stream._attached().position
    puts.stream.stop()
    earlier.replace(puts.database)
    caplog.clear()
    with running(puts.stream):
        puts.put(5)
        assert puts.stream.flush(30)
        said = str(puts.stream.status().last_error)
    assert f"stands at {tuple(first)}, before {tuple(last)}" in said
    assert said in caplog.text
    assert judge(puts.found(), [*range(1, 6), *range(11, 16)]) == Verdict()
    assert puts.verdict() == Verdict(lost=[*range(6, 11)])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_database_that_is_gone_is_reported_and_made_anew(
    tmp_path: Path, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    puts = Puts(tmp_path, dialect)
    puts.put(5)
    puts.deliver()
    puts.database.unlink()
    puts.put(2)
    puts.deliver()
    assert "restored to an earlier state or its ledger was dropped" in caplog.text
    assert puts.verdict() == Verdict(lost=[*range(1, 6)])
