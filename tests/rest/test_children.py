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


def test_a_list_that_fails_keeps_no_other_from_being_read(serve: Serve) -> None:
    orders = Orders()
    orders.broken = {"o%2F1", "o%2F4"}
    server = serve(orders)
    polled = Polled(lines(server, cursor=Cursor("at", param="since"), keys="id"))
    with pytest.raises(PollError, match=r"2 of the lists can't be polled.*HTTP 418"):
        polled.poll()
    assert polled.rows == [row for row in EXPECTED if row["order_id"] not in {"o/1", "o/4"}]
    orders.broken.remove("o%2F4")
    before = len(server.asked)
    with pytest.raises(PollError, match=r"1 of the lists can't be polled"):
        polled.poll()
    assert polled.rows[-3:] == [row for row in EXPECTED if row["order_id"] == "o/4"]
    assert [asked.path for asked in server.asked[before:]].count("/orders/o%2F1/lines") == 1
    orders.broken.clear()
    polled.poll()
    assert sorted(polled.rows, key=lambda row: (row["order_id"], row["line"])) == EXPECTED
    assert "failed" not in polled.state
    assert polled.poll() == []


def test_lists_that_fail_for_other_reasons_end_the_poll_and_the_next_goes_on(serve: Serve) -> None:
    orders = Orders()
    is_down = True
    server = serve(lambda asked: Reply("down", 500) if is_down and asked.path != "/orders" else orders(asked))
    api = RestApi(server.url, tries=1)
    parents = api.get("/orders", pagination=PageNumber(size=3), cursor=Cursor("at", param="since"), keys="id")
    resource = api.get(
        "/orders/{id}/lines",
        for_each=parents,
        include_parent={"order_id": "id"},
        pagination=PageNumber(size=2),
        keys=["order_id", "line"],
    )
    polled = Polled(resource)
    with pytest.raises(PollError, match="HTTP 500"):
        polled.poll()
    assert len([asked for asked in server.asked if asked.path != "/orders"]) <= 4
    is_down = False
    polled.poll()
    assert sorted(polled.rows, key=lambda row: (row["order_id"], row["line"])) == EXPECTED


def test_lists_beyond_max_pages_keep_no_other_from_being_read(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/orders":
            return Reply([{"id": number} for number in range(9)])
        is_long = asked.path != "/orders/8/lines"
        return Reply([{"line": asked.params["page"]}] if is_long or asked.params["page"] == "1" else [])

    api = RestApi(serve(answer).url)
    parents = api.get("/orders", keys="id")
    polled = Polled(api.get("/orders/{id}/lines", for_each=parents, pagination=PageNumber(), max_pages=2))
    with pytest.raises(PollError, match=r"8 of the lists.*max_pages=2 pages; raise max_pages"):
        polled.poll()
    assert polled.rows == [{"line": "1"}]


def test_the_time_of_a_poll_is_that_of_all_its_lists(serve: Serve) -> None:
    orders = Orders()
    is_slow = True

    def answer(asked: Asked) -> Reply:
        if is_slow and asked.path != "/orders":
            threading.Event().wait(0.1)
        return orders(asked)

    server = serve(answer)

    def resource(max_poll_time: str) -> Resource:
        api = RestApi(server.url, max_poll_time=max_poll_time)
        parents = api.get("/orders", cursor=Cursor("at", param="since"), keys="id")
        options: dict[str, Any] = {"include_parent": {"order_id": "id"}, "pagination": PageNumber(size=2), "at_once": 1}
        return api.get("/orders/{id}/lines", for_each=parents, keys=["order_id", "line"], **options)

    polled = Polled(resource("400ms"))  # the first page of orders has three lists of 0.2 s
    with pytest.raises(PollError, match="max_poll_time"):
        polled.poll()
    assert len(polled.rows) < 9
    assert "failed" not in polled.state
    is_slow, polled.resource = False, resource("1h")
    polled.poll()
    assert polled.rows == EXPECTED[:9]


def test_a_record_that_changes_before_a_poll_goes_on_is_asked_for_its_list_again(serve: Serve) -> None:
    orders = [{"id": 1, "at": 10}, {"id": 2, "at": 11}]
    found = {"1": ["a"], "2": ["b"]}

    def answer(asked: Asked) -> Reply:
        if asked.path == "/orders":
            return Reply([order for order in orders if order["at"] >= int(asked.params.get("since", 0))])
        return Reply([{"line": line} for line in found[asked.path.split("/")[2]]])

    api = RestApi(serve(answer).url)
    parents = api.get("/orders", cursor=Cursor("at", param="since"), keys="id")
    resource = api.get("/orders/{id}/lines", for_each=parents, keys="line")
    polled = Polled(resource)
    frames = resource(polled.state)
    polled.take(next(frames))
    frames.close()  # type: ignore[attr-defined]
    orders[0]["at"] = 20
    found["1"].append("new")
    polled.poll()
    assert {row["line"] for row in polled.rows} == {"a", "b", "new"}


def test_two_records_of_one_list_both_have_its_rows(serve: Serve) -> None:
    orders = [{"line": 1, "product": "A"}, {"line": 2, "product": "A"}]
    api = RestApi(serve(lambda asked: Reply(orders if asked.path == "/lines" else [{"stars": 5}])).url)
    resource = api.get(
        "/products/{product}/reviews", for_each=api.get("/lines", keys="line"), include_parent={"line": "line"}
    )
    assert Polled(resource).poll() == [{"stars": 5, "line": 1}, {"stars": 5, "line": 2}]


def test_a_record_that_a_type_refuses_has_its_list_all_the_same(serve: Serve) -> None:
    orders = [{"id": "01", "total": "x"}, {"id": "02", "total": "1"}]
    api = RestApi(serve(lambda asked: Reply(orders if asked.path == "/orders" else [{"of": asked.path}])).url)
    parents = api.get("/orders", keys="id", types={"total": "int", "id": "int"})
    resource = api.get("/orders/{id}/lines", for_each=parents, include_parent={"total": "total"})
    assert Polled(resource).poll() == [{"of": "/orders/1/lines", "total": "x"}, {"of": "/orders/2/lines", "total": 1}]


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
