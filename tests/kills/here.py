"""A stream in the test's own process, whose puts are numbered and remembered."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api2db.stream.stream import Stream
from tests.kills.checker import Verdict, judge
from tests.kills.homes import Home
from tests.kills.jobs import KINDS
from tests.kills.rows import frame


class Puts:
    """One stream, and the numbers that its puts have acknowledged.

    Args:
        place: Where its home is made.
        kind: The target.
        db: The folder of its database, where that is not in the home.
        options: The stream's own.
    """

    def __init__(self, place: Path, kind: str, db: Path | None = None, **options: Any) -> None:
        self.begin(Home(place, (kind,), elsewhere=db), kind, options)

    def begin(self, home: Home, kind: str, options: Mapping[str, Any]) -> None:
        self.home = home
        self.kind = kind
        self.stream: Stream = KINDS[kind](home.databases, home=home.path, **options)
        self.acknowledged: list[int] = []

    @property
    def database(self) -> Path:
        place = self.stream.embedded_file
        assert place is not None
        return place

    def put(self, frames: int, *, rows: int | None = None, stream_no: str = "own") -> None:
        """Put the next numbers."""
        for _ in range(frames):
            n = max(self.acknowledged, default=0) + 1
            self.stream.q.put(frame(stream_no, n, rows).to_pandas())
            self.acknowledged.append(n)

    def deliver(self) -> None:
        """Start, deliver all that waits, and stop."""
        self.stream.start()
        assert self.stream.flush(60), self.stream.status()
        self.stream.stop()

    def found(self) -> list[Any]:
        return self.home.rows(self.kind)

    def verdict(self) -> Verdict:
        return judge(self.found(), self.acknowledged)


def wait_until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Return once a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


@contextmanager
def running(*streams: Stream) -> Iterator[None]:
    """Streams that are stopped at the end, whatever happens."""
    try:
        for stream in streams:
            stream.start()
        yield
    finally:
        for stream in streams:
            stream.stop()
