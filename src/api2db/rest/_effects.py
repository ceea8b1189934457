"""Effects: what the steps of a poll need from the network and the clock.

Paging, retries and pacing are written once, as generators that do no I/O. Such steps yield an effect where they would
wait, and a driver sends its result back, or throws its error in. Everything else that they yield is a frame, which the
driver hands to whoever polls. ``_blocking_driver`` carries out effects for a thread that waits, ``_async_driver`` on an
event loop. Both send requests through ``_network``.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import httpx2

from api2db.errors import PollError
from api2db.rest._arguments import Rate
from api2db.rest._hosts import Host

PIECE_BYTES: Final = 1 << 18
T = TypeVar("T")
Steps = Generator[Any, Any, T]


class TimeUpError(PollError):
    """A poll has taken as long as it may."""

    def __init__(self, said: str = "max_poll_time of RestApi is over; the next poll goes on") -> None:
        super().__init__(said)


class Effect:
    """Something that a driver does for steps.

    An effect with ``until_s`` ends then at the latest, in seconds of ``time.monotonic``, with a TimeUpError.
    """


@dataclass(frozen=True)
class Begin(Effect):
    """Wait until a call may begin, at most so long; the result is the seconds waited, the error TooLongError."""

    host: Host
    rates: tuple[Rate, ...]
    longest_s: float


@dataclass(frozen=True)
class Send(Effect):
    """Send a request; the result is its Answer, with the first piece of the body, or what has come of it in time."""

    host: Host
    request: httpx2.Request
    until_s: float


@dataclass(eq=False)
class Answer:
    """A response whose body is read in pieces.

    Attributes:
        chunks: The driver's iterator of what comes from the network.
        first: The first piece, as it was sent.
        is_over: Whether the body has been read to its end.
        is_cut_off: Whether time was up before its end.
    """

    response: httpx2.Response
    chunks: Any
    first: bytes = b""
    is_over: bool = False
    is_cut_off: bool = False


@dataclass(frozen=True)
class Read(Effect):
    """Read the next piece of a body, or what has come of it in time; the result is empty only at its end."""

    answer: Answer
    until_s: float


@dataclass(frozen=True)
class Wait(Effect):
    """Wait so long."""

    seconds: float


@dataclass(frozen=True)
class Call(Effect):
    """Call a function that may block, such as a look-up or a user's code.

    Attributes:
        alone: No two calls for the same object run at a time on an event loop.
    """

    function: Callable[[], Any]
    until_s: float
    alone: object = None


@dataclass(frozen=True)
class Start(Effect):
    """Start other steps, which yield no frames; the result is what ``Join`` takes."""

    steps: Steps[Any]


@dataclass(frozen=True)
class Join(Effect):
    """Wait for started steps; the result is what they returned."""

    started: Any


@dataclass(frozen=True)
class End:
    """The end of steps, and what they returned."""

    value: Any


def advance(steps: Steps[Any], result: Any, error: BaseException | None) -> Any:
    """Run steps to their next effect or frame; return it, or their End."""
    try:
        return steps.send(result) if error is None else steps.throw(error)
    except StopIteration as end:
        return End(end.value)


def next_frame(steps: Steps[Any]) -> Steps[Any]:
    """Run steps within other steps to their next frame; return it, or their End."""
    result: Any = None
    error: BaseException | None = None
    while isinstance(item := advance(steps, result, error), Effect):
        result = error = None
        try:
            result = yield item
        except Exception as failure:  # noqa: BLE001 - it is thrown into the steps that wait for the effect
            error = failure
    return item


class Piece:
    """A piece of a body, as its chunks come.

    Args:
        until_s: When it is complete although more would fit.
    """

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def add(self, chunk: bytes) -> bool:
        """Add a chunk; return whether the piece is complete."""
        self._chunks.append(chunk)
        self._size_bytes += len(chunk)
        return self._size_bytes >= PIECE_BYTES or (self._size_bytes > 0 and time.monotonic() > self._until_s)

    def __bytes__(self) -> bytes:
        return b"".join(self._chunks)
