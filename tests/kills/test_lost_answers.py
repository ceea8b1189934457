"""Calls that fail before what they do, or behind it: only the ledger or the plan knows which, and they are believed."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api2db.delivery import _worker as worker
from api2db.errors import ConnectionBrokenError, JournalWriteError, TargetUnavailableError
from api2db.journal._reader import SegmentedReader
from api2db.targets.files import ShardTarget, SingleFileTarget
from api2db.targets.sql import SqlTarget
from tests.kills.checker import Verdict, judge, judge_newest, set_aside
from tests.kills.here import Puts, running, wait_until

pytestmark = pytest.mark.usefixtures("_short_pauses")

KINDS = ("duckdb", "sqlite", "duckdb_replace", "sqlite_replace", "shards", "update", "replace")
OFTEN, SELDOM = 0.5, 0.2


def check(puts: Puts) -> None:
    if "replace" in puts.kind:
        assert judge_newest(puts.found(), puts.acknowledged) == Verdict()
        return
    aside = set_aside(puts.home.path, puts.stream.stream_type)
    assert judge(puts.found(), puts.acknowledged, aside) == Verdict()
    assert not aside, "no row was refused for itself"


@pytest.mark.parametrize("error", [TargetUnavailableError, ConnectionBrokenError])
@pytest.mark.parametrize("dialect", ["duckdb", "sqlite"])
def test_a_commit_whose_answer_is_lost_is_neither_repeated_nor_taken_for_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str, error: type[Exception]
) -> None:
    puts = Puts(tmp_path, dialect)
    real = SqlTarget.load

    def load(*arguments: Any) -> None:
        real(*arguments)
        raise error("the answer is lost")

    monkeypatch.setattr(SqlTarget, "load", load)
    with running(puts.stream):
        for _ in range(12):
            puts.put(1, rows=1)
            assert puts.stream.flush(60)
    check(puts)


def test_a_stop_that_falls_between_a_failure_and_the_next_try_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = Puts(tmp_path, "sqlite")
    acknowledge, failed = SegmentedReader.acknowledge, worker.Worker._failed

    def acknowledged(*arguments: Any, **options: Any) -> None:
        acknowledge(*arguments, **options)
        raise JournalWriteError("planted behind")

    def stopped(self: worker.Worker, state: Any) -> None:
        self.stop()
        failed(self, state)
        self._batches.next(0)

    monkeypatch.setattr(SegmentedReader, "acknowledge", acknowledged)
    monkeypatch.setattr(worker.Worker, "_failed", stopped)
    puts.put(1)
    puts.stream.start()
    wait_until(lambda: not puts.stream.lock.locked(), 10)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_fails_at_any_call_before_or_behind_it_no_row_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    dice = random.Random(kind)
    for owner, names, error in (
        (SqlTarget, ("connect", "read_position", "prepare", "load"), TargetUnavailableError),
        (ShardTarget, ("connect", "acquire", "stage", "finish"), OSError),
        (SingleFileTarget, ("connect", "acquire", "stage", "finish"), OSError),
        (SegmentedReader, ("acknowledge", "save", "seek"), JournalWriteError),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, failing(getattr(owner, name), error, dice))
    puts = Puts(tmp_path, kind)
    with running(puts.stream):
        for _ in range(25):
            puts.put(2)
            if dice.random() < OFTEN:
                assert puts.stream.flush(60), puts.stream.status()
        assert puts.stream.flush(60), puts.stream.status()
    check(puts)


def failing(real: Callable[..., Any], error: type[Exception], dice: random.Random) -> Callable[..., Any]:
    """The same call, which fails now and then, before or behind what it does."""

    def fails(*arguments: Any, **options: Any) -> Any:
        fate = dice.random()
        if fate < SELDOM / 2:
            raise error("planted before")
        result = real(*arguments, **options)
        if fate < SELDOM:
            raise error("planted behind")
        return result

    return fails
