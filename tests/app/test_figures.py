"""Figures of a run: rates, health, and what a screen makes of them."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from api2db.app.figures import CollectorFigures, Rates, as_json, is_unhealthy, read_figures
from api2db.app.screen import lines_of, print_figures
from api2db.ingest import CollectorStatus
from api2db.journal import StreamOverview
from api2db.texts import counted

DAMAGED_IN = "STORE/journal/cities/damaged"


def stream(**changes: object) -> StreamOverview:
    known: dict[str, object] = dict.fromkeys(StreamOverview.__dataclass_fields__, 0)
    known |= {"collector": "cities", "identity": "duckdb:x#cities", "stream_type": "sql.duckdb", "running": True}
    known |= {"oldest_ns": None, "last_error": None, "error_at": None}
    return StreamOverview(**(known | changes))  # type: ignore[arg-type]


def test_rates_are_rows_a_second_over_the_last_seconds() -> None:
    rates = Rates()
    seen = [rates.of(stream(rows_delivered=100 * second), float(second)) for second in range(10)]
    assert seen == [0.0, *[100.0] * 9]
    assert [rates.of(stream(rows_delivered=900), 10.0 + second) for second in range(5)][-1] == 0.0


def test_each_stream_has_a_rate_of_its_own() -> None:
    rates = Rates()
    seen = [
        (
            rates.of(stream(rows_delivered=5 * second), float(second)),
            rates.of(stream(identity="other", rows_delivered=second), float(second)),
        )
        for second in range(2)
    ]
    assert seen[-1] == (5.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "owned", "unhealthy"),
    [
        ({}, True, False),
        ({"rows_waiting": 9}, True, False),
        ({"rows_parked": 1}, True, True),
        ({"rows_rejected": 1}, False, True),
        ({"running": False, "rows_waiting": 9}, True, True),
        ({"running": False, "rows_waiting": 9}, False, False),
        ({"running": False}, True, False),
        ({"last_error": "the disk is full"}, False, True),
    ],
)
def test_a_person_should_look_at_parked_rejected_and_dead_streams(
    changes: dict[str, object],
    owned: bool,  # noqa: FBT001
    unhealthy: bool,  # noqa: FBT001
) -> None:
    assert is_unhealthy(stream(**changes), owned=owned) is unhealthy


def collector(
    *streams: StreamOverview, error: str | None = None, damaged: int = 0, figures: dict[str, float] | None = None
) -> CollectorFigures:
    status = CollectorStatus("cities", 1, polls=7, late=2, failed=1, last_error="OSError: down", figures=figures)
    return CollectorFigures(
        "cities",
        running=True,
        status=status,
        streams=streams,
        error=error,
        damaged=damaged,
        damaged_in="STORE/journal/cities/damaged",
    )


def test_a_line_tells_of_everything_that_is_wrong() -> None:
    [line] = lines_of([collector(stream(rows_delivered=1234, rows_rejected=3, last_error="disk full"))], Rates())
    assert line == (
        "cities → duckdb:x#cities: 0 rows/s, 1,234 delivered, 0 waiting, lag 0.0 s; "
        "3 rows rejected; disk full; last poll: OSError: down"
    )


def test_without_a_terminal_nothing_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    long = "duckdb:" + "x" * 300
    print_figures(Console(width=40), [collector(stream(identity=long))])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["collector", "polls", "stream", "delivered", "waiting", "lag", "errors"]
    assert long in row
    assert "7 (1 failed, 2 late)" in row


def test_a_terminal_shows_errors_below_the_table_and_whole() -> None:
    console = Console(width=80, force_terminal=True, color_system=None, record=True, file=io.StringIO())
    print_figures(console, [collector(stream(last_error="the disk is full " + "x" * 50))])
    head, row, *errors = console.export_text().splitlines()
    assert head.split() == ["collector", "polls", "stream", "delivered", "waiting", "lag"]
    assert row.split()[-2:] == ["0.0", "s"]
    assert "".join(errors).startswith("cities → duckdb:x#cities: the disk is full x")
    assert "last poll: OSError: down" in " ".join(errors)


CALLS = {
    "calls": 1_234_567,
    "not_modified": 1_000_000,
    "retried": 17,
    "waited_s": 3600.04,
    "rows_new": 123_456_789,
    "rows_repeated": 12,
}


def test_the_calls_of_a_rest_collector_fit_a_terminal_below_its_streams_and_errors() -> None:
    console = Console(width=80, force_terminal=True, color_system=None, record=True, file=io.StringIO())
    print_figures(console, [collector(stream(last_error="the disk is full; make room"), figures=CALLS)])
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    place = next(number for number, line in enumerate(lines) if "calls" in line)
    assert "the disk is full; make room; last poll: OSError: down" in " ".join(lines[:place])
    assert " ".join(lines[place].split()) == "collector calls not modified retried waited rows new repeated"
    assert lines[place + 1].split() == ["cities", "1,234,567", "1,000,000", "17", "3,600.0", "s", "123,456,789", "12"]


def test_without_a_terminal_the_calls_are_a_table_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = [collector(stream(), figures=CALLS)]
    print_figures(Console(width=40), found)
    assert capsys.readouterr().out.splitlines()[-1].split()[:3] == ["cities", "1,234,567", "1,000,000"]
    assert lines_of(found, Rates())[-1] == (
        "cities: 1,234,567 calls, 1,000,000 not modified, 17 retried, waited 3,600.0 s; "
        "123,456,789 rows new, 12 repeated"
    )


def test_a_collector_that_counts_no_calls_has_no_line_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_figures(Console(width=40), [collector(stream()), collector(stream(), figures={"pages": 3})])
    assert "calls" not in capsys.readouterr().out


def journal(home: Path) -> Path:
    folder = home / "STORE" / "journal" / "cities"
    folder.mkdir(parents=True)
    (folder / "owner.lock").touch()
    return folder


def test_damaged_pieces_of_a_journal_are_counted_named_and_unhealthy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = journal(tmp_path) / "damaged"
    damaged.mkdir()
    (damaged / "0000000001-64").write_bytes(b"?")
    (damaged / "state-1").mkdir()
    [found] = read_figures(tmp_path)
    said = as_json(tmp_path, [found])
    assert said["healthy"] is False
    assert said["collectors"][0]["damaged"] == 2
    assert said["collectors"][0]["damaged_folder"] == DAMAGED_IN
    print_figures(Console(width=40), [found])
    assert "2 damaged pieces of its journal set aside in STORE/journal/cities/damaged" in capsys.readouterr().out
    [line] = lines_of([collector(stream(), damaged=2)], Rates())
    assert "2 damaged pieces" in line


def test_a_journal_that_is_whole_but_has_no_streams_any_more_is_left_out(tmp_path: Path) -> None:
    (journal(tmp_path) / "damaged").mkdir()
    assert read_figures(tmp_path) == []


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows"), (1, "1 row"), (2000, "2,000 rows")])
def test_one_is_no_plural(number: int, said: str) -> None:
    assert counted(number, "row") == said


def test_a_journal_that_cannot_be_read_is_named_and_unhealthy(tmp_path: Path) -> None:
    (journal(tmp_path) / "state.sqlite").mkdir()
    found = read_figures(tmp_path)
    assert "can't be read" in (found[0].error or "")
    assert as_json(tmp_path, found)["healthy"] is False
