"""The checker is itself checked: each kind of fault, planted once, and it must say so."""

from typing import Any

import pytest

from tests.kills.checker import Verdict, judge, judge_newest
from tests.kills.rows import frame

ACKNOWLEDGED = range(1, 40)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [row for n in ACKNOWLEDGED for row in frame("everyone", n).to_pylist()]


def place_of(rows: list[dict[str, Any]], n: int) -> int:
    return next(place for place, row in enumerate(rows) if row["n"] == n)


def test_a_target_that_holds_all_once_and_in_order_is_clean(rows: list[dict[str, Any]]) -> None:
    assert judge(rows, ACKNOWLEDGED) == Verdict()


def test_what_is_there_though_nobody_acknowledged_it_is_no_fault(rows: list[dict[str, Any]]) -> None:
    assert judge(rows, range(1, 30)).is_clean


def test_a_lost_row_is_named(rows: list[dict[str, Any]]) -> None:
    del rows[place_of(rows, 17)]
    assert judge(rows, ACKNOWLEDGED) == Verdict(lost=[17])


def test_a_lost_frame_is_named(rows: list[dict[str, Any]]) -> None:
    assert judge([row for row in rows if row["n"] != 17], ACKNOWLEDGED) == Verdict(lost=[17])


def test_a_row_that_is_set_aside_is_not_lost(rows: list[dict[str, Any]]) -> None:
    refused = rows.pop(place_of(rows, 17))
    assert judge(rows, ACKNOWLEDGED, [refused]).is_clean


def test_a_row_that_is_set_aside_and_loaded_is_doubled(rows: list[dict[str, Any]]) -> None:
    assert judge(rows, ACKNOWLEDGED, [rows[place_of(rows, 17)]]) == Verdict(doubled=[17])


def test_half_of_an_unacknowledged_frame_is_named(rows: list[dict[str, Any]]) -> None:
    whole = frame("everyone", 60).to_pylist()
    assert judge([*rows, *whole], ACKNOWLEDGED).is_clean
    assert judge([*rows, *whole[:-1]], ACKNOWLEDGED) == Verdict(halved=[60])


def test_a_doubled_row_is_named(rows: list[dict[str, Any]]) -> None:
    rows.append(rows[place_of(rows, 17)])
    assert judge(rows, ACKNOWLEDGED) == Verdict(doubled=[17])


def test_a_row_behind_a_later_one_is_named(rows: list[dict[str, Any]]) -> None:
    place = place_of(rows, 17)
    rows[place], rows[place - 1] = rows[place - 1], rows[place]
    assert judge(rows, ACKNOWLEDGED) == Verdict(swapped=[16])


@pytest.mark.parametrize("change", [{"payload": "other"}, {"stream_no": "duckdb"}, {"rows": 1000}, {"extra": 5}])
def test_an_altered_row_is_named(rows: list[dict[str, Any]], change: dict[str, Any]) -> None:
    rows[place_of(rows, 17)] |= change
    assert judge(rows, ACKNOWLEDGED).altered == [17]


def test_a_row_that_was_never_put_is_named(rows: list[dict[str, Any]]) -> None:
    rows.append({**rows[-1], "n": 99, "extra": 99_000})
    assert judge(rows, ACKNOWLEDGED).altered == [99]


def test_where_the_newest_frame_replaces_an_older_one_is_a_fault() -> None:
    newest, older = frame("everyone", 39).to_pylist(), frame("everyone", 38).to_pylist()
    assert judge_newest(newest, ACKNOWLEDGED).is_clean
    assert judge_newest(older, ACKNOWLEDGED) == Verdict(lost=[39])
    assert judge_newest(newest[1:], ACKNOWLEDGED) == Verdict(lost=[39])
    assert judge_newest([], ACKNOWLEDGED) == Verdict(lost=[39])
    assert judge_newest([*older, *newest], ACKNOWLEDGED) == Verdict(doubled=[38])
