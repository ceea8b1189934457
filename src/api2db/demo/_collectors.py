"""The two collectors of the demo, written as a user would write them: nothing here knows of api2db.

``state`` is a dict, empty at first, that outlives the process. As it stands when a page is yielded, it belongs to
that page and all before it, and is committed together with them: so it is moved on first, and the page yielded then.
A poll that ends early has lost nothing, the next one starts from the last page that was committed.

The address of the API is in the environment variable ``API2DB_DEMO_URL``.
"""

import json
import os
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

Page = list[dict[str, Any]]


def departures(state: dict[str, Any]) -> Iterator[Page]:
    """Yield what has departed since the last poll, page by page.

    The poll ends early where the API asks for patience (429): the seconds between two polls are its Retry-After.

    Raises:
        HTTPError: The API broke (500).
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
    """Yield the hours observed since the last poll; what the API repeats of older ones is left out.

    Raises:
        HTTPError: The API broke (500).
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
