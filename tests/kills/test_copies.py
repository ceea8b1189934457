"""A project that was copied, and a database that was put back to an earlier state."""

import shutil
from pathlib import Path

import pytest

from api2db.errors import StreamDiedError
from tests.kills.checker import Verdict, judge
from tests.kills.here import Puts, running, wait_until
from tests.kills.strangers import rows_are_lost_without_the_epoch, the_copy_is_stopped

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
    the_copy_is_stopped(*stranger)


def test_without_the_epoch_a_copied_project_loses_rows_and_the_checker_says_so(
    stranger: tuple[Puts, Puts], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_are_lost_without_the_epoch(*stranger, monkeypatch)


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
    first = puts.stream._attachment.attach().position
    puts.stream.stop()
    earlier = puts.database.with_name("earlier")
    shutil.copyfile(puts.database, earlier)
    puts.put(5)
    puts.deliver()
    last = puts.stream._attachment.attach().position
    puts.stream.stop()
    earlier.replace(puts.database)
    caplog.clear()
    with running(puts.stream):
        puts.put(5)
        assert puts.stream.flush(30)
        said = str(puts.stream.status().last_error)
    assert f"is at {tuple(first)}, but everything up to {tuple(last)} was delivered" in said
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
