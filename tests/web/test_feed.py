"""How often the page's document is made."""

import asyncio
import time
from itertools import count

import pytest

from api2db.web import _feed


@pytest.mark.parametrize(("seconds", "pause_s"), [(0.01, 1.0), (2.0, 8.0)])
def test_a_document_that_takes_long_is_made_less_often(
    monkeypatch: pytest.MonkeyPatch, seconds: float, pause_s: float
) -> None:
    pauses: list[float] = []
    sleep, clock = asyncio.sleep, count()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def first_event(feed: _feed.Feed) -> None:
        events = feed.listen()
        assert await anext(events) == b"retry: 2000\n\n"
        assert await anext(events) == b'data: {"rows":1}\n\n'
        while not pauses:
            await sleep(0)
        await events.aclose()  # type: ignore[attr-defined]

    monkeypatch.setattr(time, "thread_time", lambda: next(clock) * seconds)
    monkeypatch.setattr(asyncio, "sleep", pause)
    asyncio.run(first_event(_feed.Feed(lambda: {"rows": 1})))
    assert pauses[0] == pytest.approx(pause_s)
