"""Progress bars of long commands, and what a terminal shows of a recovery."""

import io
import time
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from api2db import Stream2Local, progress
from api2db.app import _progress
from api2db.app._progress import progress_bar
from api2db.app._storing import compose_folder
from api2db.app.figures import CollectorFigures, Rates
from api2db.app.live import Drains, live_view, recovery_line
from api2db.journal import Recovery, journal_store
from api2db.journal._recovery import RecoveryProgress
from tests.ingest.tiny import TinyStream


@pytest.fixture
def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, legacy_windows=False)


def shown_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shards(home: Path, count: int) -> Path:
    with Stream2Local("cities", home=home) as stream:
        for number in range(count):
            stream.q.put(pd.DataFrame({"id": [number]}))
            assert stream.flush(20)
    return home / "STORE" / "cities" / "parquet"


def test_a_terminal_shows_how_far_a_step_is_with_rate_and_time_left(
    terminal: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("_SHORTEST_S", "_STEP_S"):
        monkeypatch.setattr(_progress, pause, 0)
    with progress_bar(terminal):
        assert list(progress.through("reading shards", range(4))) == [0, 1, 2, 3]
    shown = shown_on(terminal)
    assert "reading shards" in shown
    assert "4 of 4" in shown
    assert "/s" in shown


def test_short_work_and_other_outputs_show_nothing(terminal: Console) -> None:
    file = Console(file=io.StringIO(), width=100)
    for console in (terminal, file):
        with progress_bar(console) as show:
            show("rows put again", 1, 2)
            assert list(progress.through("reading shards", [1, 2])) == [1, 2]
        assert shown_on(console) == ""


def test_nobody_watches_outside_of_a_bar() -> None:
    items = [1, 2]
    assert progress.through("reading shards", items) is items
    progress.tell("writing rows")


def test_composing_tells_each_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, told = shards(tmp_path, 3), list[tuple[str, int, int]]()
    with progress.watched(lambda step, done, total: told.append((step, done, total))):
        assert compose_folder(folder, "parquet", tmp_path / "composed", None)
    assert [each for each in told if each[0] == "reading shards"] == [("reading shards", done, 3) for done in range(4)]
    assert ("writing 3 rows", 0, 0) in told
    assert ("removing shards", 3, 3) in told
    assert capsys.readouterr().out.startswith("3 shards, 3 rows")


def test_a_recovery_is_published_while_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TinyStream("alpha", home=tmp_path)
    stream.start()
    try:
        folder = tmp_path / "STORE" / "journal" / "alpha"
        monkeypatch.setattr("api2db.journal._recovery._SHORTEST_S", 0)
        with RecoveryProgress(folder, {3: 100, 7: 300}) as reached:
            reached.reached(7, 150)
            found = journal_store(tmp_path).overview("alpha")
            assert found.recovering is not None
            assert (found.recovering.done_bytes, found.recovering.total_bytes) == (250, 400)
        assert journal_store(tmp_path).overview("alpha").recovering is None
    finally:
        stream.stop()


def test_the_live_view_shows_a_recovery_with_the_time_left(terminal: Console) -> None:
    recovery = Recovery(1_500_000_000, 3_000_000_000, time.time() - 10)
    collector = CollectorFigures("alpha", running=True, status=None, streams=(), recovering=recovery)
    line = recovery_line(collector)
    assert line is not None
    assert line.startswith("alpha recovers its journal ██████████░░░░░░░░░░ 1,500 of 3,000 MB, 10 s left")
    terminal.print(live_view([collector], Rates(), Drains(), 24, 100))
    assert "recovers its journal" in shown_on(terminal)
