"""What is wrong with a project, and what to do."""

import dataclasses
from typing import Any

import pytest

from api2db.app.figures import CollectorFigures
from api2db.app.health import timeliness, troubles
from api2db.ingest import CollectorStatus
from api2db.store import StoreFigures
from tests.app.test_figures import collector, stream

NOW_S = 10_000.0


def polling(**changes: Any) -> CollectorFigures:
    known = {"polls": 9, "polled_at": NOW_S - 5, "interval_s": 60.0} | changes
    return dataclasses.replace(collector(stream()), status=CollectorStatus("cities", 1, **known))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ok"),
        ({"polled_at": NOW_S - 61}, "ok"),
        ({"polled_at": NOW_S - 123}, "late"),
        ({"polled_at": NOW_S - 183}, "failing"),
        ({"last_error": "down", "failed": 1, "failed_in_row": 1}, "late"),
        ({"last_error": "down", "failed": 7, "failed_in_row": 1}, "late"),
        ({"last_error": "down", "failed": 2, "failed_in_row": 2}, "failing"),
        ({"last_error": "down", "failed": 1, "failed_in_row": 1, "polled_at": NOW_S - 63}, "failing"),
        ({"interval_s": 0.0}, "stopped"),
    ],
)
def test_a_collector_is_late_after_one_missed_interval_and_failing_after_two(
    changes: dict[str, Any], expected: str
) -> None:
    assert timeliness(polling(**changes), NOW_S) == expected


def test_a_collector_that_does_not_run_is_stopped() -> None:
    assert timeliness(dataclasses.replace(polling(), running=False), NOW_S) == "stopped"


def test_all_is_well_where_nothing_is_wrong() -> None:
    assert troubles([polling()], now_s=NOW_S) == []


@pytest.mark.parametrize(
    ("changes", "severity", "what", "step"),
    [
        ({"last_error": "no route\nto host", "rows_waiting": 5}, "error", "no route", "once the target is back"),
        ({"last_error": "a gap"}, "warning", "a gap", "rows are delivered"),
        ({"last_error": "stopped: KeyError", "rows_waiting": 1}, "error", "stopped: KeyError", "restart the run"),
        ({"running": False, "rows_waiting": 5}, "error", "5 rows wait", "api2db forget 'cities/duckdb:x#cities'"),
        ({"rows_parked": 3}, "error", "3 rows parked", "fix the target"),
        ({"rows_rejected": 1}, "warning", "1 row rejected", "api2db rejected retry --all"),
    ],
)
def test_each_trouble_of_a_stream_has_a_next_step(changes: dict[str, Any], severity: str, what: str, step: str) -> None:
    [found] = troubles([dataclasses.replace(polling(), streams=(stream(**changes),))], now_s=NOW_S)
    assert (found.severity, found.collector, found.stream) == (severity, "cities", "duckdb:x#cities")
    assert what in found.what
    assert step in found.next_step


def test_errors_stand_before_warnings_and_old_before_new() -> None:
    streams = (
        stream(identity="a", rows_rejected=1),
        stream(identity="b", last_error="new", rows_waiting=1, error_at=NOW_S - 1),
        stream(identity="c", last_error="old", rows_waiting=1, error_at=NOW_S - 9),
    )
    store = StoreFigures("cities", "store", "folder", "parquet", 60.0, last_error="disk full", error_at=NOW_S - 5)
    found = troubles([dataclasses.replace(polling(), streams=streams)], [store], NOW_S)
    assert [each.stream for each in found] == ["c", "store", "b", "a"]


def test_rows_that_a_store_rejected_are_put_again_by_a_whole_command() -> None:
    [found] = troubles([], [StoreFigures("cities", "store", "folder", "parquet", 60.0, rejected=1)], NOW_S)
    assert "api2db rejected retry --all" in found.next_step
