"""The demo's main file, as a user would write one for a project: two import functions, two collectors, one run.

``state`` is a dict that outlives the process; at first it is empty. What it holds when a page is yielded is committed
together with that page. So each function updates it first, and then yields. If a poll ends early, nothing is lost: the
next one starts after the last committed page.

The environment variable ``API2DB_DEMO_URL`` holds the address of the API.
"""

import json
import os
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from api2db import Collector, Run, Stream2Local, Stream2Sql

Page = list[dict[str, Any]]


def departures(state: dict[str, Any]) -> Iterator[Page]:
    """Yield the departures since the last poll, page by page.

    A 429 ends the poll early; the next poll comes after the API's Retry-After.

    Raises:
        HTTPError: The API failed (500).
    """
    more = True
    while more:
        answer = _get("departures", after=state.get("after", ""))
        if answer is None:
            return
        more = answer["more"]
        if answer["departures"]:
            state["after"] = answer["next"]
            yield answer["departures"]


def weather(state: dict[str, Any]) -> Iterator[Page]:
    """Yield the hours observed since the last poll, without those that the API repeats.

    Raises:
        HTTPError: The API failed (500).
    """
    known = state.get("until", "")
    answer = _get("weather", **({"since": known} if known else {}))
    if answer is None:
        return
    fresh = [row for row in answer["weather"] if row["time_hour"] > known]
    if fresh:
        state["until"] = answer["until"]
        yield fresh


def _get(endpoint: str, **query: str) -> dict[str, Any] | None:
    url = f"{os.environ['API2DB_DEMO_URL']}/{endpoint}?{urlencode(query)}"
    try:
        with urlopen(url, timeout=5) as response:  # noqa: S310 - the address is the demo's own
            answer: dict[str, Any] = json.load(response)
            return answer
    except HTTPError as error:
        if error.code == HTTPStatus.TOO_MANY_REQUESTS:
            return None
        raise


collectors = [
    Collector(
        name=name,
        seconds=1,
        import_target=import_target,
        streams=[
            Stream2Local(name),  # STORE/<name>/parquet/<timestamp_ns>.parquet
            Stream2Sql(name, db_name="STORE/demo.duckdb", dialect="duckdb"),
        ],
    )
    for name, import_target in (("departures", departures), ("weather", weather))
]

if __name__ == "__main__":
    Run(collectors).run()
