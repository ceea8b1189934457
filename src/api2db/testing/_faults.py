"""Answers with faults. Each function wraps an answer, and adds one fault that real servers have."""

import dataclasses
import gzip
import hashlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from api2db.testing._server import Answer, Call, Reply


def pages_of(rows: Sequence[Any], size: int = 10) -> Answer:
    """Answer with pages of rows: ``?page=2``, and the header ``Link`` as GitHub sends it."""

    def answer(call: Call) -> Reply:
        number = int(call.params.get("page", 1))
        link = {"Link": f'<{call.base}{call.path}?page={number + 1}>; rel="next"'}
        return Reply(list(rows[(number - 1) * size : number * size]), headers=link if number * size < len(rows) else {})

    return answer


def fail_first(answer: Answer, *replies: Reply | int) -> Answer:
    """Answer the first calls with these replies or statuses."""
    left, lock = deque(replies), threading.Lock()

    def failing(call: Call) -> Reply:
        with lock:
            reply = left.popleft() if left else None
        if reply is None:
            return answer(call)
        return reply if isinstance(reply, Reply) else Reply({"message": "a planted fault"}, reply)

    return failing


def rate_limited(answer: Answer, calls: int, period_s: float) -> Answer:
    """Answer with 429 and ``Retry-After`` if there are more calls in a period."""
    times: deque[float] = deque()
    lock = threading.Lock()

    def limited(call: Call) -> Reply:
        now_s = time.monotonic()
        with lock:
            while times and times[0] <= now_s - period_s:
                times.popleft()
            if len(times) >= calls:
                wait_s = int(times[0] + period_s - now_s) + 1
                return Reply({"message": "too many calls"}, 429, {"Retry-After": str(wait_s)})
            times.append(now_s)
        return answer(call)

    return limited


def slow(answer: Answer, seconds: float) -> Answer:
    """Answer after a delay."""

    def waiting(call: Call) -> Reply:
        time.sleep(seconds)
        return answer(call)

    return waiting


def dripping(answer: Answer, pause_s: float = 0.05) -> Answer:
    """Send the body one byte at a time."""
    return lambda call: dataclasses.replace(answer(call), pause_s=pause_s)


def cut_gzip(answer: Answer) -> Answer:
    """Compress the body, and truncate it."""

    def cut(call: Call) -> Reply:
        reply = answer(call)
        headers = {**reply.headers, "Content-Encoding": "gzip"}
        return dataclasses.replace(reply, body=gzip.compress(reply.content)[:-8], headers=headers)

    return cut


def bad_utf8(answer: Answer) -> Answer:
    """Insert a byte that is not valid UTF-8 into the body."""

    def broken(call: Call) -> Reply:
        reply = answer(call)
        half = len(reply.content) // 2
        return dataclasses.replace(reply, body=reply.content[:half] + b"\xff" + reply.content[half:])

    return broken


def repeating(answer: Answer) -> Answer:
    """Answer each path with its first page, whichever page is requested."""
    first: dict[str, Reply] = {}
    return lambda call: first.setdefault(call.path, answer(call))


def endless(row: Any = None) -> Answer:
    """Answer with pages of one row, each with a link to another page."""

    def answer(call: Call) -> Reply:
        number = int(call.params.get("page", 1))
        link = f'<{call.base}{call.path}?page={number + 1}>; rel="next"'
        return Reply([{"id": number} if row is None else row], headers={"Link": link})

    return answer


def with_etag(answer: Answer) -> Answer:
    """Send an ``ETag``, and answer 304 if the client sends it back."""

    def tagged(call: Call) -> Reply:
        reply = answer(call)
        tag = f'"{hashlib.sha256(reply.content).hexdigest()[:16]}"'
        if call.headers.get("if-none-match") == tag:
            return Reply(status=304, headers={"ETag": tag})
        return dataclasses.replace(reply, headers={**reply.headers, "ETag": tag})

    return tagged
