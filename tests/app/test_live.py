"""The live view of a terminal: it fits, trouble stands first, and a backlog has a bar."""

import dataclasses
import io

import pytest
from rich.console import Console

from api2db.app.figures import CollectorFigures, Rates, only_named
from api2db.app.live import Drains, live_view
from api2db.ingest import CollectorStatus
from tests.app.test_figures import collector, stream


def named(name: str, **changes: object) -> CollectorFigures:
    found = collector(stream(collector=name, identity=f"duckdb:{name}", **changes))
    return dataclasses.replace(found, name=name, status=None)


def lines(*collectors: CollectorFigures, width: int = 80, height: int = 24, drains: Drains | None = None) -> list[str]:
    console = Console(width=width, force_terminal=True, color_system=None, record=True, file=io.StringIO())
    console.print(live_view(collectors, Rates(), drains or Drains(), height, width))
    return console.export_text().splitlines()


def test_trouble_stands_on_top_with_its_next_step_and_its_stream_first() -> None:
    shown = lines(named("well"), named("down", last_error="no route to host", rows_waiting=3))
    assert shown[0].startswith("down → duckdb:down: no route to host. Next step:")
    table = [line for line in shown if line.startswith(("well", "down  "))]
    assert [line.split()[0] for line in table] == ["down", "well"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 10), (80, 60)])
def test_five_hundred_collectors_fit(width: int, height: int) -> None:
    shown = lines(*(named(f"c{number}") for number in range(500)), width=width, height=height)
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    assert any("more streams; to see some: api2db status --watch --only NAME" in line for line in shown)


def test_only_the_worst_troubles_are_shown_and_the_others_counted() -> None:
    shown = lines(*(named(f"c{number}", last_error="down", rows_waiting=1) for number in range(20)))
    assert sum("Next step" in line for line in shown) == 3
    assert "and 17 more; see: api2db status" in shown
    assert len(shown) <= 24


def test_a_backlog_that_is_drained_has_a_bar_with_the_time_left() -> None:
    drains, rates, bars = Drains(), Rates(), []
    for second, waiting in enumerate((10_000, 9_000, 8_000)):
        found = named("cities", rows_waiting=waiting, rows_delivered=10_000 - waiting)
        rates.of(found.streams[0], float(second))
        bars = drains.lines([found], rates.last)
    assert [bar.plain for bar in bars] == [f"cities → duckdb:cities {'█' * 4}{'░' * 16} 8,000 rows wait, 8 s left"]
    assert drains.lines([named("cities", rows_waiting=0)], rates.last) == []


def test_names_are_chosen_by_a_part_of_them() -> None:
    found = [named("cities"), named("rivers")]
    assert [each.name for each in only_named(found, "duckdb:riv")] == ["rivers"]
    assert only_named(found, None) == found
    both = collector(stream(), stream(identity="shard:x"))
    assert [only_named([both], part) for part in ("shard", both.name, "none")] == [
        [collector(stream(identity="shard:x"))],
        [both],
        [],
    ]


def test_a_name_keeps_its_line_where_polls_have_failed() -> None:
    status = CollectorStatus("ticks", 1, polls=189, failed=16, late=5)
    found = stream(collector="ticks", identity="sqlite:STORE/ticks.sqlite#ticks", rows_waiting=173)
    shown = lines(dataclasses.replace(collector(found), name="ticks", status=status))
    [line] = [line for line in shown if line.startswith("ticks")]
    assert "ite#ticks" in line
    assert "189 " in line
