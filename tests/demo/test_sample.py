"""The sample API of new projects."""

import json
from http import HTTPStatus
from typing import Any
from urllib.request import urlopen

import pytest

from api2db.demo import sample_api
from api2db.demo._sample import NEWEST, SampleApi

MIDNIGHT_S = 1735776000.0  # 2 January 2025


def asked(now_s: float = MIDNIGHT_S, /, **query: str) -> dict[str, Any]:
    status, answer = SampleApi(lambda: now_s).answer("/orders", query)
    assert status == HTTPStatus.OK, answer
    return answer


def ids(answer: dict[str, Any]) -> list[int]:
    return [order["id"] for order in answer["orders"]]


def test_there_is_one_more_order_each_second() -> None:
    newest = [ids(asked(MIDNIGHT_S + second, limit="1000")) for second in range(3)]
    assert [found[-1] for found in newest] == [86400, 86401, 86402]
    assert {len(found) for found in newest} == {NEWEST}


def test_an_order_is_the_same_in_every_answer() -> None:
    assert asked(limit="1000")["orders"][-1] == asked(MIDNIGHT_S + 99, since="2025-01-02T00:00:00Z")["orders"][0]


def test_pages_tile_the_orders() -> None:
    seen: list[int] = []
    after: dict[str, str] = {}
    has_more = True
    while has_more:
        answer = asked(limit="97", since="2025-01-01T23:30:00Z", **after)
        seen += ids(answer)
        after, has_more = {"after": str(seen[-1])}, answer["has_more"]
    assert seen == list(range(86400 - 1800, 86401))


def test_since_and_until_bound_a_window() -> None:
    window = {"since": "2025-01-01T12:00:00Z", "until": "2025-01-01T13:00:10+01:00"}
    assert [order["created_at"] for order in asked(**window)["orders"]] == [
        f"2025-01-01T12:00:0{second}Z" for second in range(10)
    ]
    assert asked(since="2025-01-03T00:00:00Z") == {"orders": [], "has_more": False}
    assert ids(asked(since="1999-01-01", limit="1")) == [1]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "many"}, {"since": "noon"}, {"after": "x"}], ids=str)
def test_an_invalid_query_is_a_400_that_says_why(query: dict[str, str]) -> None:
    status, answer = SampleApi().answer("/orders", query)
    assert status == HTTPStatus.BAD_REQUEST
    assert answer["error"]


def test_a_process_serves_the_sample_once_on_a_loopback_port() -> None:
    url = sample_api()
    assert url == sample_api()
    assert url.startswith("http://127.0.0.1:")
    with urlopen(f"{url}/orders?limit=3", timeout=5) as response:
        assert len(json.load(response)["orders"]) == 3
    assert SampleApi().answer("/customers", {})[0] == HTTPStatus.NOT_FOUND
