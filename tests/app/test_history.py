"""The figures of the last 24 hours."""

from pathlib import Path

from api2db.app.history import HOURS, MINUTES, RINGS, History
from tests.app.test_figures import collector, stream

DAY_S = 86_400


def keys(history: History, now_s: float) -> dict[str, list[int]]:
    return {
        identity: [each.delivered for each in samples]
        for (_, identity), samples in history.read(MINUTES, now_s).items()
    }


def test_samples_survive_a_restart_of_the_process(tmp_path: Path) -> None:
    for second in range(0, 60, 5):
        History(tmp_path).add([collector(stream(rows_delivered=second))], 1_000.0 + second)
    assert keys(History(tmp_path), 1_060) == {"duckdb:x#cities": list(range(0, 60, 5))}
    assert (tmp_path / "CACHE" / "history.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_slot_has_one_sample_however_often_figures_are_added(tmp_path: Path) -> None:
    history = History(tmp_path)
    for second in range(20):
        history.add([collector(stream(rows_delivered=second))], 1_000.0 + second)
    assert keys(history, 1_020) == {"duckdb:x#cities": [0, 5, 10, 15]}


def test_the_file_does_not_grow_after_a_day(tmp_path: Path) -> None:
    history, file = History(tmp_path), tmp_path / "CACHE" / "history.sqlite"
    sizes = []
    for day in range(3):
        for step in range(0, DAY_S, HOURS.step_s):
            history.add([collector(stream(rows_delivered=step), stream(identity="other"))], float(day * DAY_S + step))
        sizes.append(file.stat().st_size)
    assert sizes[1] == sizes[2]
    samples = history.read(HOURS, 3.0 * DAY_S)
    assert {len(found) for found in samples.values()} == {HOURS.slots - 1}


def test_a_stream_that_is_gone_is_forgotten_after_a_day(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add([collector(stream(), stream(identity="gone"))], 1_000.0)
    history.add([collector(stream())], 1_000.0 + DAY_S + HOURS.step_s)
    assert [set(history.read(ring, 1_000.0 + DAY_S + HOURS.step_s)) for ring in RINGS] == [
        {("cities", "duckdb:x#cities")}
    ] * 2


def test_a_damaged_file_is_begun_again(tmp_path: Path) -> None:
    file = tmp_path / "CACHE" / "history.sqlite"
    file.parent.mkdir()
    file.write_bytes(b"no database" * 1000)
    history = History(tmp_path)
    assert history.read(MINUTES, 1_000) == {}
    history.add([collector(stream())], 1_000.0)
    history.add([collector(stream())], 1_005.0)
    assert len(keys(history, 1_010)["duckdb:x#cities"]) == 1
