import csv
import json
import runpy
import socket
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from api2db.demo import _records as records
from api2db.demo._api import DemoApi, Faults
from api2db.demo._records import AcceleratedClock, ids_digest
from api2db.demo._server import RETRY_AFTER_S
from api2db.errors import ConfigurationError
from tests.demo.cut import DATA, cut
from tests.rest.conftest import rows_of as rows_of_frame

SECONDS = 10.0
CANCELLED = 895


class WallClock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def wall_clock() -> WallClock:
    return WallClock()


@pytest.fixture
def api(wall_clock: WallClock) -> Iterator[DemoApi]:
    with DemoApi(SECONDS, fault_share=0, wall_clock_s=wall_clock) as running:
        yield running


@pytest.fixture
def address(api: DemoApi, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("API2DB_DEMO_URL", api.url)
    return api.url


def get(address: str) -> dict[str, Any]:
    with urlopen(address, timeout=5) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def refusal(address: str) -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        get(address)
    caught.value.close()
    return caught.value


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def all_pages(address: str, limit: int) -> list[str]:
    seen: list[str] = []
    answer = get(f"{address}/departures?limit={limit}")
    seen += ids(answer["departures"])
    while answer["has_more"]:
        answer = get(f"{address}/departures?limit={limit}&after={seen[-1]}")
        seen += ids(answer["departures"])
    return seen


# The slice


def test_the_slice_has_a_few_thousand_unique_departures_and_every_hour_of_three_airports() -> None:
    departed, observed = records.departures(), records.weather()
    assert (len(departed), len(observed)) == (3375, 4 * 24 * 3)
    assert len({record.id for record in departed}) == 3375
    assert len({record.id for record in observed}) == 288


@pytest.mark.parametrize("read", [records.departures, records.weather])
def test_ids_sort_as_rows_become_visible_so_that_the_last_one_is_a_cursor(
    read: Callable[[], tuple[records.Record, ...]],
) -> None:
    rows = read()
    assert sorted(rows, key=lambda record: (record.visible_from, record.id)) == list(rows)


def test_departures_carry_all_columns_nulls_where_cancelled_and_nested_cells() -> None:
    rows = [record.row for record in records.departures()]
    with (DATA / "departures.csv").open() as file:
        columns = next(csv.reader(file))
    assert list(rows[0]) == ["id", "scheduled_at", *columns, "airline", "route"]
    assert len(columns) == 19
    assert sum(row["dep_time"] is None and row["air_time"] is None for row in rows) == CANCELLED
    assert rows[0]["airline"] == {"carrier": "US", "name": "US Airways Inc."}
    assert rows[0]["route"] == ["EWR", "CLT"]


def test_a_column_has_one_type_in_every_row() -> None:
    for rows in (records.departures(), records.weather()):
        for column in rows[0].row:
            assert len({type(record.row[column]) for record in rows} - {type(None)}) == 1, column


def test_a_departure_becomes_visible_at_its_scheduled_time_in_utc() -> None:
    first = records.departures()[0]
    assert (first.row["sched_dep_time"], first.visible_from.isoformat()) == (500, "2013-02-07T10:00:00+00:00")
    assert first.id == "20130207T1000Z-US1117-EWR"


def test_the_files_are_what_cut_makes_of_their_source(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    lines = (DATA / "departures.csv").read_text().splitlines(keepends=True)
    outside = lines[1].replace("2013,2,7,", "2013,3,7,")
    with zipfile.ZipFile(source / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", "".join([lines[0], outside, *reversed(lines[1:])]))
    for name in ("weather.csv", "airlines.csv"):
        (source / name).write_bytes((DATA / name).read_bytes())
    cut(source, target)
    for name in ("departures.csv", "weather.csv", "airlines.csv"):
        assert (target / name).read_bytes() == (DATA / name).read_bytes(), name


def test_the_digest_tells_a_missing_and_a_doubled_id_and_minds_no_order() -> None:
    assert ids_digest(["b", "a"]) == ids_digest(["a", "b"])
    assert len({ids_digest(case) for case in (["a", "b"], ["a"], ["a", "b", "b"], ["ab"])}) == 4


# Accelerated time


def test_the_clock_maps_the_span_onto_the_seconds_and_stands_still_at_the_end(wall_clock: WallClock) -> None:
    first = datetime.fromisoformat("2013-02-07T00:00:00Z")
    clock = AcceleratedClock(first, first + timedelta(days=4), SECONDS, wall_clock)
    assert clock.now() == first
    wall_clock.now_s += SECONDS / 4
    assert clock.now() == first + timedelta(days=1)
    wall_clock.now_s += SECONDS * 100
    assert clock.now() == first + timedelta(days=4)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_demo_without_time_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="greater than 0"):
        DemoApi(seconds).start()


def test_nothing_is_visible_before_its_time_and_all_of_it_at_the_end(address: str, wall_clock: WallClock) -> None:
    counts = []
    for _ in range(5):
        served = get(f"{address}/served")
        seen = get(f"{address}/departures?limit=1000")["departures"]
        assert all(row["time_hour"] <= served["now"] for row in seen)
        counts.append((served["departures"]["rows"], served["weather"]["rows"], served["complete"]))
        wall_clock.now_s += SECONDS / 4
    assert counts[0] == (0, 3, False)
    assert counts == sorted(counts)
    assert len(set(counts)) == 5
    assert counts[-1] == (3375, 288, True)


# Pages and overlaps


@pytest.mark.parametrize("limit", [1000, 97])
def test_pages_tile_the_departures_with_no_gap_and_no_double(address: str, wall_clock: WallClock, limit: int) -> None:
    wall_clock.now_s += SECONDS
    assert all_pages(address, limit) == [record.id for record in records.departures()]


def test_a_page_past_the_end_is_empty(address: str, wall_clock: WallClock) -> None:
    wall_clock.now_s += SECONDS
    last = records.departures()[-1].id
    assert get(f"{address}/departures?after={last}") == {"departures": [], "has_more": False}


def test_a_last_page_that_is_full_has_no_more(address: str, wall_clock: WallClock) -> None:
    wall_clock.now_s += SECONDS
    before_last = records.departures()[-3].id
    assert get(f"{address}/departures?limit=2&after={before_last}")["has_more"] is False
    assert get(f"{address}/departures?limit=1&after={before_last}")["has_more"] is True


def test_lists_begin_at_since(address: str, wall_clock: WallClock) -> None:
    wall_clock.now_s += SECONDS
    since = "2013-02-10T21:00:00Z"
    observed = get(f"{address}/weather?since={since}")["weather"]
    departed = get(f"{address}/departures?since={since}&limit=1000")["departures"]
    assert [row["id"] for row in observed] == [one.id for one in records.weather() if one.row["time_hour"] >= since]
    assert [row["id"] for row in departed] == [
        one.id for one in records.departures() if one.row["scheduled_at"] >= since
    ]
    assert {since} <= {row["time_hour"] for row in observed}


def test_cancelled_flights_reach_the_client_as_nulls_and_nested_cells_as_json(
    address: str, wall_clock: WallClock
) -> None:
    wall_clock.now_s += SECONDS
    page = get(f"{address}/departures?limit=1000&after=20130208T2000Z")["departures"]
    cancelled = [row for row in page if row["dep_time"] is None]
    assert cancelled
    assert all(row["arr_delay"] is None and row["route"][0] == row["origin"] for row in cancelled)
    assert all(row["airline"]["carrier"] == row["carrier"] for row in page)


def test_served_counts_what_is_visible_once_and_what_was_sent_each_time(
    address: str, wall_clock: WallClock, api: DemoApi
) -> None:
    wall_clock.now_s += SECONDS
    get(f"{address}/weather")
    get(f"{address}/weather")
    shown = api.served().weather
    assert (shown.rows, shown.sent) == (288, 576)
    assert shown.ids_sha256 == ids_digest(record.id for record in records.weather())


# Faults


def drawn(seed: int | str, count: int = 200) -> list[HTTPStatus | None]:
    faults = Faults(seed, 0.15)
    return [faults.draw() for _ in range(count)]


def test_faults_of_both_kinds_occur_as_the_seed_says_and_never_twice_in_a_row() -> None:
    kinds = drawn("a")
    assert kinds == drawn("a")
    assert kinds != drawn("b")
    assert set(kinds) == {None, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.TOO_MANY_REQUESTS}
    assert all(one is None or other is None for one, other in pairwise(kinds))


def test_a_run_with_the_default_seed_meets_both_faults_within_ten_requests(wall_clock: WallClock) -> None:
    with DemoApi(SECONDS, wall_clock_s=wall_clock) as api:
        for endpoint in ("departures", "weather"):
            statuses = [status_of(f"{api.url}/{endpoint}") for _ in range(10)]
            assert {200, 429, 500} == set(statuses), endpoint
        faults = [api.served().departures.faults, api.served().weather.faults]
    assert all(set(counts) == {429, 500} for counts in faults)


def status_of(address: str) -> int:
    try:
        get(address)
    except HTTPError as error:
        error.close()
        return error.code
    return 200


def test_a_429_names_the_seconds_to_wait_and_served_never_fails() -> None:
    with DemoApi(SECONDS, seed=1, fault_share=1) as api:
        errors = {}
        for _ in range(20):
            if (status := refusal(f"{api.url}/weather")).code not in errors:
                errors[status.code] = status.headers["Retry-After"]
            get(f"{api.url}/weather")
            get(f"{api.url}/served")
    assert errors == {500: None, 429: str(RETRY_AFTER_S)}
    assert RETRY_AFTER_S <= 1


@pytest.mark.parametrize(
    "query",
    [
        "departures?limit=0",
        "departures?limit=many",
        "departures?limit=1001",
        "departures?since=noon",
        "weather?since=noon",
        "weather?since=2013-02-08",
    ],
)
def test_a_query_that_makes_no_sense_is_a_400_that_says_why(address: str, query: str) -> None:
    assert refusal(f"{address}/{query}").code == 400


def test_an_unknown_path_is_a_404(address: str) -> None:
    assert refusal(f"{address}/arrivals").code == 404


# The server


def test_two_servers_at_once_listen_on_loopback_ports_of_their_own() -> None:
    with DemoApi() as one, DemoApi() as other:
        assert one.url != other.url
        assert {urlsplit(api.url).hostname for api in (one, other)} == {"127.0.0.1"}


def test_a_stopped_server_leaves_no_thread_and_no_port() -> None:
    before = set(threading.enumerate())
    with DemoApi(fault_share=0) as api:
        get(f"{api.url}/departures")
        port = urlsplit(api.url).port
    api.stop()
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_client_killed_in_the_middle_of_an_answer_disturbs_nobody(
    wall_clock: WallClock, capfd: pytest.CaptureFixture[str]
) -> None:
    with DemoApi(SECONDS, fault_share=0, wall_clock_s=wall_clock) as api:
        wall_clock.now_s += SECONDS
        for _ in range(20):
            hang_up(api.url)
        assert get(f"{api.url}/served")["complete"]
    assert capfd.readouterr() == ("", "")


def hang_up(address: str) -> None:
    client = socket.create_connection(("127.0.0.1", urlsplit(address).port or 0), timeout=5)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sendall(b"GET /departures?limit=1000 HTTP/1.0\r\n\r\n")
    client.recv(1)
    client.close()


# The collectors


def poll(resource: Any, state: dict[str, Any]) -> list[str]:
    return [id_ for page in resource(state) for id_ in ids(rows_of(page))]


def rows_of(page: Any) -> list[dict[str, Any]]:
    return [row for frame in page or () for row in rows_of_frame(frame)]


@pytest.fixture(params=["departures", "weather"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def resource_of(name: str) -> Any:
    """The resource of the demo's main file, for the API that runs now."""
    return runpy.run_path(str(DATA.parent / "_main.py"))[name]


@pytest.mark.usefixtures("address")
def test_a_collector_that_polls_on_and_on_gets_every_row_once(wall_clock: WallClock, api: DemoApi, name: str) -> None:
    state: dict[str, Any] = {}
    seen: list[str] = []
    resource = resource_of(name)
    for _ in range(23):
        seen += poll(resource, state)
        wall_clock.now_s += SECONDS / 21
    shown = getattr(api.served(), name)
    assert len(seen) == len(set(seen)) == shown.rows
    assert ids_digest(seen) == shown.ids_sha256


@pytest.mark.usefixtures("address")
def test_weather_polls_overlap_and_the_collector_leaves_the_repeats_out(wall_clock: WallClock, api: DemoApi) -> None:
    state: dict[str, Any] = {}
    weather = resource_of("weather")
    seen = 0
    for _ in range(4):
        seen += len(poll(weather, state))
        wall_clock.now_s += SECONDS / 5
    assert api.served().weather.sent > seen > 0
    assert poll(weather, state)
    assert poll(weather, state) == []


@pytest.mark.usefixtures("address")
def test_a_poll_killed_between_pages_resumes_from_the_state_of_the_last_page(wall_clock: WallClock) -> None:
    wall_clock.now_s += SECONDS
    state: dict[str, Any] = {}
    departures = resource_of("departures")
    pages = departures(state)
    before = ids(rows_of(next(pages))) + ids(rows_of(next(pages)))
    committed = json.loads(json.dumps(state))
    next(pages)
    after = poll(departures, committed)
    assert before + after == [record.id for record in records.departures()]


@pytest.mark.usefixtures("address")
def test_weather_resumes_from_a_state_however_long_it_was_away(wall_clock: WallClock) -> None:
    state: dict[str, Any] = {}
    weather = resource_of("weather")
    before = poll(weather, state)
    committed = json.loads(json.dumps(state))
    wall_clock.now_s += SECONDS
    assert before + poll(weather, committed) == [record.id for record in records.weather()]


def test_faults_are_retried_and_cost_no_rows(wall_clock: WallClock, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    state: dict[str, Any] = {}
    seen: list[str] = []
    with DemoApi(SECONDS, fault_share=0.3, wall_clock_s=wall_clock) as api:
        monkeypatch.setenv("API2DB_DEMO_URL", api.url)
        resource = resource_of(name)
        for _ in range(12):
            seen += poll(resource, state)
            wall_clock.now_s += SECONDS / 10
        shown = getattr(api.served(), name)
    assert sum(shown.faults.values()) == resource.figures.retried > 0
    assert (len(seen), ids_digest(seen)) == (shown.rows, shown.ids_sha256)
