"""The sample API of a new project: the orders of a shop, served by this process.

    GET /orders?since=TIME&until=TIME&after=ID&limit=N   {"orders": [order, …], "has_more": bool}
        The orders created from ``since`` (without it, the newest ones) up to now or before ``until``, at most
        ``limit``, the oldest first. Pass the last id of a page as ``after`` to get the next page.

There is one order for each second since the beginning of 2025. Orders are computed from their number, so every process
and every run serves the same ones, and no order is stored.
"""

import atexit
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from random import Random
from typing import Any, Final

from api2db.demo._server import Answer, JsonServer, Query

NEWEST: Final = 250
_PAGE_ROWS: Final = 100
_PAGE_ROWS_MAX: Final = 1000
_FIRST_S: Final = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
_CUSTOMERS: Final = ("Ada", "Bashir", "Chiyo", "Dimitri", "Edda", "Fatou", "Gustavo", "Hanna")
_PRICES_CENTS: Final = {"apples": 299, "bread": 340, "coffee": 1250, "dates": 575, "eggs": 319}


@cache
def sample_api() -> str:
    """Serve the sample API on a loopback port until this process ends; return its URL.

    Its list ``/orders`` has a new order each second, pages, and the parameters ``since`` and ``until``.
    """
    server = JsonServer(SampleApi().answer)
    atexit.register(server.close)
    return server.url


class SampleApi:
    """Answers queries without a network.

    Args:
        clock_s: Seconds since 1970.
    """

    def __init__(self, clock_s: Callable[[], float] = time.time) -> None:
        self._clock_s = clock_s

    def answer(self, path: str, query: Query) -> tuple[HTTPStatus, Answer]:
        """Answer ``GET path?query``; an invalid query gets a 400 with the reason."""
        if path != "/orders":
            return HTTPStatus.NOT_FOUND, {"error": f"There is no {path}; there is /orders."}
        try:
            return HTTPStatus.OK, self._orders(query)
        except (ValueError, OverflowError) as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}

    def _orders(self, query: Query) -> Answer:
        newest = int(self._clock_s()) - _FIRST_S
        end = min(newest, _number_at(query["until"]) - 1) if "until" in query else newest
        begin = _number_at(query["since"]) if "since" in query else newest - NEWEST + 1
        begin = max(begin, int(query.get("after", 0)) + 1, 1)
        limit = int(query.get("limit", _PAGE_ROWS))
        if not 1 <= limit <= _PAGE_ROWS_MAX:
            raise ValueError(f"limit must be from 1 to {_PAGE_ROWS_MAX}, not {limit}")
        last = min(end, begin + limit - 1)
        return {"orders": [_order(number) for number in range(begin, last + 1)], "has_more": last < end}


def _number_at(text: str) -> int:
    """Return the number of the first order from a time on."""
    moment = datetime.fromisoformat(text)
    seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - _FIRST_S
    return -int(-seconds // 1)


def _order(number: int) -> dict[str, Any]:
    random = Random(number)  # noqa: S311 - orders must be repeatable, not secret
    quantities = {
        product: random.randint(1, 4) for product in random.sample(sorted(_PRICES_CENTS), random.randint(1, 3))
    }
    cents = sum(_PRICES_CENTS[product] * quantity for product, quantity in quantities.items())
    return {
        "id": number,
        "created_at": datetime.fromtimestamp(_FIRST_S + number, UTC).isoformat().replace("+00:00", "Z"),
        "customer": random.choice(_CUSTOMERS),
        "total": f"{cents // 100}.{cents % 100:02}",
        "items": [{"product": product, "quantity": quantity} for product, quantity in quantities.items()],
    }
