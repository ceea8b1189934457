"""What a store has done so far: kept whole, whoever leaves word at the same time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from api2db.disk.atomic import temporary_name
from api2db.store._figures import StoreFigures, change_figures, read_figures

FIRST = StoreFigures("flights", "sqlite flights.sqlite#flights", "STORE/flights/parquet", "parquet", 60)


def count(home: Path) -> None:
    change_figures(home, FIRST, lambda figures: replace(figures, shards=figures.shards + 1))


def test_what_several_add_at_once_is_all_counted(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(count, tmp_path) for _ in range(80)]:
            done.result()
    assert read_figures(tmp_path, FIRST.collector, FIRST.store) == replace(FIRST, shards=80)


def test_figures_are_private_and_what_a_crash_left_of_them_goes(tmp_path: Path) -> None:
    count(tmp_path)
    [path] = (tmp_path / "STORE" / "stores" / "flights").iterdir()
    temporary_name(path).write_text("half of it")
    count(tmp_path)
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600
