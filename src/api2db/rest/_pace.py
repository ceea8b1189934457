"""The pace of a host: when calls may be made, for all polls of this process and of this user's other processes."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Final, Protocol

from api2db.rest._arguments import Rate
from api2db.rest._shared_pace import SharedPace

logger = logging.getLogger("api2db.rest")
_GLANCE_S: Final = 0.02
"""How often to look for the end of a call, which nothing tells if it is another process's."""

_LOCKED_S: Final = 0.002
"""When to try again while another process has the files locked, which takes it some microseconds."""

_told: set[str] = set()


class Window(Protocol):
    """The calls that count for one rate: those under way, and when the last ones ended."""

    def free_in_s(self, now_s: float) -> float | None:
        """Return in how many seconds another call may begin; None if a call under way must end first."""

    def begin(self) -> None:
        """Count a call that begins."""

    def end(self, now_s: float) -> None:
        """Record that a call has ended."""


class LocalWindow:
    """A window of this process alone."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._under_way = 0
        self._ended_s: deque[float] = deque()

    def free_in_s(self, now_s: float) -> float | None:
        while self._ended_s and self._ended_s[0] + self._rate.period_s <= now_s:
            self._ended_s.popleft()
        if self._under_way + len(self._ended_s) < self._rate.calls:
            return 0.0
        return self._ended_s[0] + self._rate.period_s - now_s if self._ended_s else None

    def begin(self) -> None:
        self._under_way += 1

    def end(self, now_s: float) -> None:
        self._under_way -= 1
        self._ended_s.append(now_s)


class Pace:
    """When calls to a host may be made.

    A call counts from its begin until a period after its end. So no period has more calls than the rate at the server
    either, however late a call reaches it.

    Args:
        host: The name under which this user's processes share the pace; None for a pace of this process alone. If their
            files can't be used, a warning says so once, and the pace is that of this process.
    """

    def __init__(self, host: str | None = None) -> None:
        self._changed = threading.Condition()
        self._windows: dict[Rate, Window] = {}
        self._under_way: dict[tuple[Rate, ...], list[list[Window]]] = {}
        self._paused_until_s = 0.0
        self._shared = None if host is None else SharedPace(host)

    @contextmanager
    def call(self, rates: tuple[Rate, ...], longest_s: float) -> Iterator[float]:
        """Wait until a call may be made, and count it while the block runs.

        Args:
            rates: The rates that it counts for.
            longest_s: How long to wait at most.

        Yields:
            The seconds that were waited.

        Raises:
            TooLongError: It would take longer; the call is not counted.
        """
        waited_s = self.begin(rates, longest_s)
        try:
            yield waited_s
        finally:
            self.end(rates)

    def begin(self, rates: tuple[Rate, ...], longest_s: float) -> float:
        """Wait as ``call`` does; return the seconds waited. The call counts until ``end``."""
        begin_s = time.monotonic()
        with self._changed:
            while (wait_s := self._try_begin(rates)) is not None:
                left_s = begin_s + longest_s - time.monotonic()
                if left_s <= wait_s:
                    raise TooLongError(wait_s)
                self._changed.wait(wait_s)
        return time.monotonic() - begin_s

    def try_begin(self, rates: tuple[Rate, ...]) -> float | None:
        """Begin a call; return None, or in how many seconds to try again. It does not wait."""
        with self._changed:
            return self._try_begin(rates)

    def end(self, rates: tuple[Rate, ...]) -> None:
        """End a call of these rates."""
        with self._changed:
            windows, now_s = self._under_way[rates].pop(), time.monotonic()
            self._when_locked(partial(_end, windows, now_s))
            self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Let no further call begin for so long."""
        with self._changed:
            now_s = time.monotonic()
            self._paused_until_s = max(self._paused_until_s, now_s + seconds)
            self._when_locked(lambda: None if self._shared is None else self._shared.pause(now_s, seconds))

    def _try_begin(self, rates: tuple[Rate, ...]) -> float | None:
        """Count a call if it may begin; else return in how many seconds to try again."""
        try:
            with self._locked():
                windows, now_s = [self._window(rate) for rate in rates], time.monotonic()
                wait_s = self._wait_s(windows, now_s)
                for window in windows if wait_s == 0 else ():
                    window.begin()
        except BlockingIOError:
            return _LOCKED_S
        except OSError as error:
            self._stop_sharing(error)
            return self._try_begin(rates)
        if wait_s == 0:
            self._under_way.setdefault(rates, []).append(windows)
        return wait_s or None

    def _when_locked(self, change: Callable[[], object]) -> None:
        """Make a change with the files locked. Other threads go on while it waits for another process's lock."""
        while True:
            try:
                with self._locked():
                    change()
            except BlockingIOError:
                self._changed.wait(_LOCKED_S)
            except OSError as error:
                self._stop_sharing(error)
                return
            else:
                return

    def _locked(self) -> AbstractContextManager[None]:
        return nullcontext() if self._shared is None else self._shared.locked()

    def _window(self, rate: Rate) -> Window:
        if self._shared is not None:
            return self._shared.window(rate)
        return self._windows.setdefault(rate, LocalWindow(rate))

    def _wait_s(self, windows: list[Window], now_s: float) -> float:
        paused_until_s = self._paused_until_s
        if self._shared is not None:
            paused_until_s = max(paused_until_s, self._shared.paused_until_s(now_s))
        found = [window.free_in_s(now_s) for window in windows]
        waits_s = [_GLANCE_S if wait_s is None else wait_s for wait_s in found]
        return max([0.0, paused_until_s - now_s, *waits_s])

    def _stop_sharing(self, error: OSError) -> None:
        """Count within this process from now on."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None
        if str(error) not in _told:
            _told.add(str(error))
            logger.warning(
                "rate limits hold for this process alone, not for all processes of this user: %s; remove what stands "
                "in the way, then start api2db again",
                error,
            )


def _end(windows: Sequence[Window], now_s: float) -> None:
    for window in windows:
        window.end(now_s)


class TooLongError(Exception):
    """A call would wait longer than it may.

    Args:
        wait_s: How long.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s
