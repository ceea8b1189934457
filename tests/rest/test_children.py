"""A list for each record of another: in order, several at a time, resumable in the middle."""

import threading
from typing import Any

import pytest

from api2db.errors import ConfigurationError, PollError
from api2db.rest import Cursor, PageNumber, Resource, RestApi
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server

ORDERS: list[dict[str, Any]] = [{"id": f"o/{number}", "at": number} for number in range(7)]


class Orders:
    """Orders in pages of three, each with two pages of lines."""

    def __init__(self) -> None:
        self.orders = [dict(order) for order in ORDERS]
        self.broken: set[str] = set()
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Reply:
        page = int(asked.params.get("page", 1))
        if asked.path == "/orders":
            found = [order for order in self.orders if order["at"] >= int(asked.params.get("since", 0))]
            return Reply(found[(page - 1) * 3 : page * 3])
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        threading.Event().wait(0.01)
        with self._lock:
            self.at_once -= 1
        order = asked.path.split("/")[2]
        if order in self.broken:
            return Reply("no", 418)
        lines = [{"line": number} for number in range(3)]
        return Reply(lines[(page - 1) * 2 : page * 2])


def lines(server: Server, **options: Any) -> Resource:
    api = RestApi(server.url)
    orders = api.get("/orders", pagination=PageNumber(size=3), **options)
    return api.get(
        "/orders/{id}/lines",
        for_each=orders,
        include_parent={"order_id": "id"},
        pagination=PageNumber(size=2),
        keys=["order_id", "line"],
    )


EXPECTED = [{"line": line, "order_id": order["id"]} for order in ORDERS for line in range(3)]


def test_the_lists_of_all_parents_come_in_order_and_a_few_at_a_time(serve: Serve) -> None:
    orders = Orders()
    polled = Polled(lines(serve(orders)))
    assert polled.poll() == EXPECTED
    assert 1 < orders.most_at_once <= 4
    assert polled.poll() == EXPECTED  # without a cursor all are read again


def test_a_poll_that_fails_in_the_middle_goes_on_there(serve: Serve) -> None:
    orders = Orders()
    orders.broken = {"o%2F4"}
    server = serve(orders)
    polled = Polled(lines(server))
    with pytest.raises(PollError, match="HTTP 418"):
        polled.poll()
    assert polled.rows == EXPECTED[:12]
    orders.broken.clear()
    before = len(server.asked)
    polled.poll()
    assert polled.rows == EXPECTED
    again = {asked.path for asked in server.asked[before:]}
    assert not {f"/orders/o%2F{number}/lines" for number in range(4)} & again


def test_whatever_poll_is_cut_off_no_line_is_missing_or_twice(serve: Serve) -> None:
    resource = lines(serve(Orders()))
    for cut in range(1, 9):
        polled = Polled(resource)
        frames = resource(polled.state)
        for _ in range(cut):
            polled.take(next(frames))
        frames.close()  # type: ignore[attr-defined]
        polled.poll()
        assert polled.rows == EXPECTED, cut


def test_with_a_cursor_only_new_parents_are_asked_for_their_lists(serve: Serve) -> None:
    orders = Orders()
    server = serve(orders)
    polled = Polled(lines(server, cursor=Cursor("at", param="since"), keys="id"))
    polled.poll()
    orders.orders.append({"id": "new", "at": 9})
    assert [row["order_id"] for row in polled.poll()] == ["new"] * 3


def test_a_parent_that_is_gone_has_no_list(serve: Serve) -> None:
    orders = Orders()
    server = serve(lambda asked: Reply("gone", 404) if asked.path == "/orders/o%2F1/lines" else orders(asked))
    assert Polled(lines(server)).poll() == [row for row in EXPECTED if row["order_id"] != "o/1"]


def test_wrong_arguments_are_told_at_once() -> None:
    api = RestApi("https://api.example.com")
    orders = api.get("/orders", fields={"order_id": "id"})
    with pytest.raises(ConfigurationError, match=r"names 'order'.*did you mean 'order_id'"):
        api.get("/orders/{order}/lines", for_each=orders)
    with pytest.raises(ConfigurationError, match="cursor can't be used with for_each"):
        api.get("/orders/{order_id}/lines", for_each=orders, cursor=Cursor("x"))
    with pytest.raises(ConfigurationError, match="needs a name in braces"):
        api.get("/lines", for_each=orders)
    with pytest.raises(ConfigurationError, match="include_parent needs for_each"):
        api.get("/lines", include_parent={"a": "b"})
    with pytest.raises(ConfigurationError, match="for_each must be a resource"):
        api.get("/orders/{id}/lines", for_each=api)  # type: ignore[arg-type]
