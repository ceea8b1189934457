"""A list of issues like GitHub's: an issue a second is opened, and closed a minute later."""

import time
from datetime import UTC, datetime
from functools import cache
from urllib.parse import urlencode

from api2db.testing import ApiServer, Call, Reply

PAGE = 100
COUNT = 250
CLOSED_AFTER_S = 60


@cache
def url() -> str:
    """Serve the list on a free port until this process ends; return the address."""
    return ApiServer(answer).url


def answer(call: Call) -> Reply:
    """Answer ``GET /repos/shop/app/issues?since=…&page=…``, the oldest update first."""
    now = int(time.time())
    found = sorted((issue(number, now) for number in range(now - COUNT, now + 1)), key=lambda each: each["updated_at"])
    since, page = call.params.get("since", ""), int(call.params.get("page", "1"))
    rows = [each for each in found if each["updated_at"] >= since]
    shown = rows[(page - 1) * PAGE : page * PAGE]
    if page * PAGE >= len(rows):
        return Reply(shown)
    query = urlencode({**call.params, "page": page + 1})
    return Reply(shown, headers={"Link": f'<{call.base}{call.path}?{query}>; rel="next"'})


def issue(number: int, now: int) -> dict[str, object]:
    """Return an issue as it is now. Its number is the second in which it was opened."""
    closed = number + CLOSED_AFTER_S
    is_open = now < closed
    return {
        "id": number,
        "title": f"It breaks, number {number % 1000}",
        "state": "open" if is_open else "closed",
        "user": {"login": ("ada", "bashir", "chiyo")[number % 3]},
        "created_at": moment(number),
        "updated_at": moment(number if is_open else closed),
    }


def moment(seconds: int) -> str:
    """Return a time as GitHub writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
