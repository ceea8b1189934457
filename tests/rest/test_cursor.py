"""Cursors: what the next poll asks for, which rows it knows, and that a cursor never moves back."""

import datetime
import logging
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

import pytest

from api2db.errors import ConfigurationError
from api2db.rest import Cursor, NextToken, PageNumber, RestApi
from api2db.rest._order import lowered, order_of
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server

PAIRS: list[tuple[Any, Any]] = [
    ("2024-05-01T10:00:00Z", "2024-05-01T10:00:01Z"),
    ("2024-05-01T12:00:00+02:00", "2024-05-01T10:00:01Z"),
    ("2024-05-01T10:00:00.1Z", "2024-05-01T10:00:00.11Z"),
    ("2024-05-01T10:00:00Z", "2024-05-01T09:00:00.5-01:00"),
    ("2024-05-01", "2024-05-02"),
    ("2024-05-01 10:00:00", "2024-05-01T10:00:00.000001Z"),
    ("9", "10"),
    (9, 10.5),
    (1714557600, 1714557601),
]


@pytest.mark.parametrize(("low", "high"), PAIRS)
def test_values_are_compared_by_what_they_mean(low: Any, high: Any) -> None:
    first, second = order_of(low, None), order_of(high, None)
    assert first is not None
    assert second is not None
    assert first < second


LOWERED: list[tuple[Any, Any, Any, Any]] = [
    ("2024-05-01T10:00:00Z", 300, None, "2024-05-01T09:55:00Z"),
    ("2024-05-01T10:00:00.123+02:00", 300, None, "2024-05-01T09:55:00.123+02:00"),
    ("2024-05-01 10:00", 60, None, "2024-05-01 09:59"),
    ("2024-05-01", 60, None, "2024-04-30"),
    ("2024-03-01T00:00:00+0530", 86400, None, "2024-02-29T00:00:00+0530"),
    (1714557600, 300, "unix_s", 1714557300),
    (1714557600123, 300, "unix_ms", 1714557300123),
    ("1714557600", 300, "unix_s", "1714557300"),
    ("0001-01-01", 86400, None, "0001-01-01"),
]


@pytest.mark.parametrize(("value", "by", "type_", "expected"), LOWERED, ids=repr)
def test_an_overlap_keeps_the_form_of_the_value(value: Any, by: float, type_: Any, expected: Any) -> None:
    assert lowered(value, by, type_, is_duration=True) == expected


def test_a_duration_before_a_plain_number_says_which_argument_it_needs() -> None:
    with pytest.raises(ConfigurationError, match="type='unix_s'"):
        lowered(17, 300, None, is_duration=True)
    assert lowered(17, 3, None, is_duration=False) == 14


class Events:
    """Rows with ``at``, those from a given value on, in any order."""

    def __init__(self, *values: Any) -> None:
        self.rows: list[dict[str, Any]] = [{"n": n, "at": value} for n, value in enumerate(values)]

    def __call__(self, asked: Asked) -> Reply:
        since = int(asked.params.get("since", -1))
        return Reply([row for row in self.rows if row["at"] is None or int(row["at"]) >= since])

    def add(self, *values: Any) -> None:
        self.rows += [{"n": len(self.rows) + n, "at": value} for n, value in enumerate(values)]


def resource(server: Server, keys: str = "", **options: Any) -> Any:
    cursor = Cursor("at", param="since", **options)
    return RestApi(server.url).get("/events", cursor=cursor, keys=[keys] if keys else [])


def numbers(rows: Sequence[dict[str, Any]]) -> list[int]:
    return [row["n"] for row in rows]


@pytest.mark.parametrize("keys", ["", "n"])
def test_rows_of_the_overlap_that_are_known_are_not_loaded_again(serve: Serve, keys: str) -> None:
    events = Events(10, 12, 11)
    server = serve(events)
    polled = Polled(resource(server, keys, overlap=3))
    assert numbers(polled.poll()) == [0, 1, 2]
    events.add(9, 12, 20)  # a late one, a tie, a new one
    assert numbers(polled.poll()) == [3, 4, 5]
    assert server.asked[-1].params == {"since": "9"}
    assert polled.poll() == []
    assert server.asked[-1].params == {"since": "17"}
    assert polled.resource.figures.rows_repeated >= 1


def test_without_an_overlap_a_tie_with_the_cursor_is_loaded_and_the_known_row_is_not(serve: Serve) -> None:
    events = Events(10, 11)
    polled = Polled(resource(serve(events)))
    polled.poll()
    events.add(11, 11)
    assert numbers(polled.poll()) == [2, 3]
    assert polled.poll() == []


def test_a_changed_row_of_a_key_is_loaded_again_within_the_overlap(serve: Serve) -> None:
    events = Events(10, 11)
    polled = Polled(resource(serve(events), "n", overlap=5))
    polled.poll()
    events.rows[0]["title"] = "new"
    assert numbers(polled.poll()) == [0]
    events.rows[0]["title"] = "newer"
    assert numbers(polled.poll()) == [0]
    assert polled.poll() == []


def test_a_cursor_never_moves_back(serve: Serve) -> None:
    events = Events(10, 20)
    polled = Polled(resource(serve(events), overlap=15))
    polled.poll()
    events.rows = [{"n": 9, "at": 6}]
    assert numbers(polled.poll()) == [9]
    assert polled.state["cursor"] == 20


def test_rows_without_a_cursor_are_loaded_once_counted_and_told_of_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    events = Events(10, None, "never")
    events.rows[2]["at"] = None
    polled = Polled(resource(serve(events)))
    with caplog.at_level(logging.WARNING):
        assert numbers(polled.poll()) == [0, 1, 2]
        assert polled.poll() == []
    assert caplog.text.count("missing or can't be compared") == 1
    assert polled.state["cursor"] == 10
    assert polled.resource.figures.rows_without_cursor == 4


def test_the_first_poll_begins_at_the_initial_value(serve: Serve) -> None:
    server = serve(Events(10, 20))
    polled = Polled(resource(server, initial=15, overlap=3))
    assert numbers(polled.poll()) == [1]
    assert server.asked[0].params == {"since": "15"}


def test_what_is_remembered_is_bounded(serve: Serve) -> None:
    polled = Polled(resource(serve(Events(*[10] * 50)), remember=20))
    polled.poll()
    assert len(polled.state["known"]) == 20


def test_what_lies_below_the_overlap_is_forgotten(serve: Serve) -> None:
    polled = Polled(resource(serve(Events(*range(100))), overlap=4))
    polled.poll()
    assert len(polled.state["known"]) == 5


def newest_first(events: Events) -> Any:
    def answer(asked: Asked) -> Reply:
        page = int(asked.params["page"])
        rows = sorted(events.rows, key=lambda row: -row["at"])
        return Reply(rows[(page - 1) * 5 : page * 5])

    return answer


def test_a_descending_list_is_read_up_to_the_first_known_row(serve: Serve) -> None:
    events = Events(*range(23))
    server = serve(newest_first(events))
    cursor = Cursor("at", descending=True, overlap=1)
    polled = Polled(RestApi(server.url).get("/x", cursor=cursor, pagination=PageNumber(size=5)))
    assert sorted(numbers(polled.poll())) == list(range(23))
    assert polled.state["cursor"] == 22
    before = len(server.asked)
    events.add(30, 31)
    assert sorted(numbers(polled.poll())) == [23, 24]
    assert len(server.asked) - before == 1


def test_the_cursor_of_a_descending_list_moves_only_when_the_poll_has_got_through(serve: Serve) -> None:
    events = Events(*range(23))
    cursor = Cursor("at", descending=True)
    found = RestApi(serve(newest_first(events)).url).get("/x", cursor=cursor, pagination=PageNumber(size=5))
    polled = Polled(found)
    frames = found(polled.state)
    polled.take(next(frames))
    assert "cursor" not in polled.state
    events.add(40)  # it shifts the pages by one
    polled.poll()
    assert sorted(numbers(polled.rows)) == sorted([*range(23)])
    assert polled.state["cursor"] == 22
    assert numbers(polled.poll()) == [23]


def test_only_changes_are_loaded_where_that_is_asked_for(serve: Serve) -> None:
    prices = {"A": "1.0", "B": "2.0"}
    server = serve(lambda asked: Reply([{"symbol": name, "price": price} for name, price in prices.items()]))
    polled = Polled(RestApi(server.url).get("/ticker", keys="symbol", changes_only=True))
    assert len(polled.poll()) == 2
    prices["B"] = "2.5"
    assert polled.poll() == [{"symbol": "B", "price": "2.5"}]
    prices["B"] = "2.0"
    assert polled.poll() == [{"symbol": "B", "price": "2.0"}]
    assert polled.poll() == []


def test_the_cursor_does_not_pass_the_moment_when_the_poll_began(serve: Serve) -> None:
    rows = [{"id": 1, "at": "2024-05-01T10:00:00Z"}, {"id": 2, "at": "2024-05-01T09:00:00Z"}]
    minute = 1

    def answer(asked: Asked) -> Reply:
        page = int(asked.params["page"])
        found = [row for row in rows if str(row["at"]) >= asked.params.get("since", "")]
        date = f"Wed, 01 May 2024 10:0{minute}:00 GMT"
        return Reply(found[page - 1 : page], headers={"Date": date})

    cursor = Cursor("at", param="since")
    found = RestApi(serve(answer).url).get("/x", cursor=cursor, pagination=PageNumber(size=1))
    polled = Polled(found)
    frames = found(polled.state)
    polled.take(next(frames))
    rows[1]["at"] = "2024-05-01T10:05:00Z"  # it changes while the poll is under way, and after another that is new
    rows.insert(0, {"id": 3, "at": "2024-05-01T10:03:00Z"})
    minute = 6
    for page in frames:
        polled.take(page)
    assert polled.state["cursor"] == "2024-05-01T10:01:00Z"
    polled.poll()
    assert {row["id"] for row in polled.rows} == {1, 2, 3}
    assert len(polled.rows) == 3
    assert polled.state["cursor"] == "2024-05-01T10:05:00Z"


class Clocked:
    """Rows from a given value on, in pages, with the clock of the server in ``Date``, which has whole seconds."""

    def __init__(self, size: int, *, newest_first: bool = False) -> None:
        self.rows: list[dict[str, Any]] = []
        self.now_s = 1714550000
        self._size = size
        self._newest_first = newest_first

    def __call__(self, asked: Asked) -> Reply:
        floor = order_of(asked.params.get("since", 0), None)
        orders = [(order_of(row["at"], None), row) for row in self.rows]
        found = [row for order, row in orders if order is not None and floor is not None and order.value >= floor.value]
        page = int(asked.params["page"]) - 1
        shown = found[::-1] if self._newest_first else found
        date = datetime.datetime.fromtimestamp(self.now_s, datetime.UTC)
        headers = {"Date": format_datetime(date, usegmt=True)}
        return Reply(shown[page * self._size : (page + 1) * self._size], headers=headers)


def test_a_row_of_the_second_in_which_the_poll_began_is_recognised_on_any_page_of_the_next(serve: Serve) -> None:
    clocked = Clocked(3, newest_first=True)
    cursor = Cursor("at", param="since", type="unix_ms")
    polled = Polled(RestApi(serve(clocked).url).get("/x", cursor=cursor, pagination=PageNumber()))
    clocked.rows.append({"at": clocked.now_s * 1000 + 500})
    polled.poll()
    assert polled.state["cursor"] == clocked.now_s * 1000
    clocked.rows += [{"at": (clocked.now_s + 5) * 1000 + number} for number in range(4)]
    clocked.now_s += 10
    polled.poll()
    assert sorted(row["at"] for row in polled.rows) == [row["at"] for row in clocked.rows]


def test_the_bound_by_the_moment_of_the_poll_never_falls(serve: Serve) -> None:
    clocked = Clocked(1)
    clocked.now_s = 1714550011
    found = RestApi(serve(clocked).url).get("/x", cursor=Cursor("at", param="since"), pagination=PageNumber())
    polled = Polled(found)
    clocked.rows.append({"at": "2024-05-01T07:53:30.750Z"})
    frames = found(polled.state)
    polled.take(next(frames))
    clocked.rows += [{"at": "2024-05-01T07:53:32.000Z"}, {"at": "2024-05-01T07:53:32.250Z"}]  # while it is polled
    for page in frames:
        polled.take(page)
    assert polled.state["cursor"] == "2024-05-01T07:53:31.000Z"
    clocked.now_s += 60
    polled.poll()
    assert [row["at"] for row in polled.rows] == [row["at"] for row in clocked.rows]


BOUNDED: list[tuple[Any, Any, Any]] = [
    ("2024-05-01T07:53:32.250Z", None, "2024-05-01T07:53:31.000Z"),
    ("2024-05-01T09:53:32+02:00", None, "2024-05-01T09:53:31+02:00"),
    ("2024-05-01 07:54", None, "2024-05-01 07:53"),
    ("2024-05-02", None, "2024-05-01"),
    ("2024-05-01T07:53:30.750Z", None, "2024-05-01T07:53:30.750Z"),
    (1714550012123, "unix_ms", 1714550011000),
    ("1714550012", "unix_s", "1714550011"),
    (17145500129, None, 17145500129),
]


@pytest.mark.parametrize(("value", "type_", "expected"), BOUNDED, ids=repr)
def test_a_value_after_a_moment_becomes_that_moment_in_its_form(value: Any, type_: Any, expected: Any) -> None:
    assert Cursor("at", type=type_).not_after(value, 1714550011.0) == expected


def test_a_zero_in_place_of_a_time_does_not_hold_the_cursor(serve: Serve) -> None:
    rows: list[dict[str, Any]] = [{"n": 0, "at": 0}, *({"n": n, "at": f"2024-01-0{n}T00:00:00Z"} for n in range(1, 5))]
    server = serve(lambda asked: Reply(rows))
    polled = Polled(RestApi(server.url).get("/x", cursor=Cursor("at", param="since")))
    assert numbers(polled.poll()) == [0, 1, 2, 3, 4]
    assert polled.state["cursor"] == "2024-01-04T00:00:00Z"
    assert [polled.poll(), polled.poll()] == [[], []]


def test_a_list_that_is_begun_again_in_the_middle_gives_no_row_twice(serve: Serve) -> None:
    rows = [{"n": n, "at": n} for n in range(10)]
    expired: list[bool] = []

    def answer(asked: Asked) -> Reply:
        at = int(asked.params.get("token", 0))
        if at and expired:
            expired.clear()
            return Reply("gone", 410)
        return Reply({"items": rows[at : at + 2], "next": at + 2 if at < 8 else None})

    pagination = NextToken("next", param="token")
    found = RestApi(serve(answer).url).get(
        "/x", cursor=Cursor("at", param="since"), pagination=pagination, records="items"
    )
    polled = Polled(found)
    frames = found(polled.state)
    for _ in range(3):
        polled.take(next(frames))
    expired.append(True)
    polled.poll()
    assert numbers(polled.rows) == list(range(10))
