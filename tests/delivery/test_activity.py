"""What a stream says of its last deliveries."""

import json
import time
from typing import Any

import pyarrow as pa
import pytest

from api2db.delivery._activity import LATENCY_BOUNDS_S, Activity
from api2db.delivery.batch import batch_of
from api2db.journal import Entry, Position
from api2db.targets.port import Column


def delivered(activity: Activity, *frames: dict[str, list[Any]], age_s: float = 0, more_waits: bool = False) -> None:
    now_ns = int((time.time() - age_s) * 1e9)
    entries = [
        Entry(Position(number), now_ns, pa.record_batch(frame), frame_end=True)
        for number, frame in enumerate(frames, 1)
    ]
    activity.delivered(batch_of(entries, Position(0)), entries[-1].position, None, more_waits=more_waits)


def test_latencies_are_counted_in_buckets_and_as_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s)
    activity = Activity()
    for age_s in (0.02, 0.3, 0.3, 20, 5000):
        delivered(activity, {"id": [1]}, age_s=age_s)
    latency = activity.as_json()["latency"]
    counted = dict(zip([*LATENCY_BOUNDS_S, None], latency["counts"], strict=True))
    assert {bound: count for bound, count in counted.items() if count} == {0.025: 1, 0.5: 2, 60.0: 1, None: 1}
    assert latency["p50_s"] == pytest.approx(0.3, abs=1e-3)
    assert latency["p99_s"] == pytest.approx(5000, abs=1e-3)


def test_a_change_of_columns_is_said_with_before_and_after() -> None:
    activity = Activity()
    delivered(activity, {"id": [1], "gone": ["x"]})
    delivered(activity, {"id": [0.5], "new": ["x"]})
    changes = activity.as_json()["changes"]
    assert [(each["column"], each["before"], each["after"]) for each in changes] == [
        ("id", "int64", "double"),
        ("gone", "string", None),
        ("new", None, "string"),
    ]


def test_the_newest_rows_are_text_and_bounded() -> None:
    activity = Activity()
    delivered(activity, {"id": list(range(100)), "text": [f"{'x' * 300}"] * 100, "none": [None] * 100})
    rows = activity.as_json()["rows"]
    assert [row["id"] for row in rows] == [str(number) for number in range(99, 79, -1)]
    assert {len(row["text"]) for row in rows} == {201}
    assert rows[0]["none"] is None


def test_rows_of_a_backlog_are_copied_a_few_times_a_second_only() -> None:
    activity = Activity()
    for number in range(50):
        delivered(activity, {"id": [number]}, more_waits=True)
    assert activity.as_json()["rows"] == [{"id": "0"}]
    delivered(activity, {"id": [50]})
    assert activity.as_json()["rows"] == [{"id": "50"}]


def test_the_newest_rows_are_those_of_the_last_frames_however_small() -> None:
    activity = Activity()
    for number in range(0, 60, 2):
        delivered(activity, {"id": [number]}, {"id": [number + 1]})
    delivered(activity, {"id": []}, {"name": ["Ulm"]})
    rows = activity.as_json()["rows"]
    assert rows == [{"name": "Ulm"}, *({"id": str(number)} for number in range(59, 40, -1))]


def test_after_a_restart_a_change_of_columns_is_seen_all_the_same() -> None:
    before, activity = Activity(), Activity()
    delivered(before, {"id": [1]})
    delivered(before, {"id": [1], "name": ["Ulm"]})
    activity.resume(before.as_json())
    assert activity.as_json() == {}
    delivered(activity, {"id": [1]})
    assert [each["column"] for each in activity.as_json()["changes"]] == ["name", "name"]


def test_what_a_load_left_for_later_does_not_count() -> None:
    activity = Activity()
    entries = [
        Entry(Position(number), time.time_ns(), pa.record_batch({"id": [number]}), frame_end=True) for number in (1, 2)
    ]
    activity.delivered(
        batch_of(entries, Position(0)), Position(1), [Column("id", pa.int64(), "BIGINT")], more_waits=False
    )
    said = activity.as_json()
    assert (said["rows"], said["columns"]) == ([{"id": "1"}], {"id": "BIGINT"})
    assert sum(said["latency"]["counts"]) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pa.array([2**31 - 1], pa.date32()), None),
        (pa.array([2**62], pa.timestamp("us")), None),
        (pa.array([1], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
        (pa.array([2**62], pa.duration("s")), None),
        (pa.array([b"\xff"]), "b'\\xff'"),
        (pa.array([[1, None]]), "[1, None]"),
        (pa.array([{"a": 2**62}]), "{'a': 4611686018427387904}"),
        (pa.array([float("inf")]), "inf"),
        (pa.array([None]), "null"),
    ],
    ids=lambda each: str(each.type) if isinstance(each, pa.Array) else "",
)
def test_whatever_a_cell_holds_is_text(values: pa.Array, text: str | None) -> None:
    activity = Activity()
    entry = Entry(Position(1), time.time_ns(), pa.record_batch({"v": values}), frame_end=True)
    activity.delivered(batch_of([entry], Position(0)), Position(1), None, more_waits=False)
    [row] = json.loads(json.dumps(activity.as_json()))["rows"]
    if text == "null":
        assert row == {"v": None}
    else:
        assert isinstance(row["v"], str)
        assert text is None or row["v"] == text
