"""Backfill: polls windows of a list's history into the table of the live collector, and can be resumed."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final

from api2db.errors import ConfigurationError
from api2db.rest._arguments import duration_s
from api2db.rest._blocking_driver import frames
from api2db.rest._cursor import Cursor
from api2db.rest._effects import End, Steps, next_frame
from api2db.rest._endpoint import Endpoint
from api2db.rest._messages import Figures
from api2db.rest._order import lowered, order_of
from api2db.rest._poll import Poll

_STATE: Final = "backfill"
_DAY_S: Final = 86_400


@dataclass(frozen=True)
class Backfill:
    """An import function that polls the history of a list, in one call or in several slices beside live polls.

    It does not change the cursor of the live polls. They load a row again if it differs from the one that the backfill
    has loaded. The progress is stored beside their state until the backfill has ended. Another backfill with the same
    arguments continues there.

    Args:
        endpoint: A list with keys, and a cursor that has ``param`` and ``until``.
        figures: Where calls and rows are counted.
        begin: Where to begin, as ISO 8601 text.
        end: Where to end, as ISO 8601 text. The API decides whether rows at that moment are included.
        step: The length of a window, such as ``"12h"``.
        on_window: Called after each window with the number of finished windows and of all windows.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    commits_each_page: ClassVar[bool] = True

    endpoint: Endpoint
    figures: Figures
    begin: str
    end: str
    step: str = "1d"
    on_window: Callable[[int, int], object] | None = None

    def __post_init__(self) -> None:
        cursor = self._cursor
        if not self.keys:
            raise ConfigurationError(
                "a backfill needs a resource with keys, by which its rows replace those of live polls"
            )
        if cursor.param is None or cursor.until is None:
            raise ConfigurationError("a backfill needs a Cursor with param= and until=, where a window begins and ends")
        for name in ("begin", "end"):
            order = order_of(getattr(self, name), "iso")
            if order is None:
                raise ConfigurationError(f"{name} of the backfill is {getattr(self, name)!r}; write such as 2024-01-31")
        if duration_s(self.step, "step") < 1 or not self.windows():
            raise ConfigurationError(
                "the backfill has no window: its end must lie after its begin, by a second or more"
            )

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns by which rows replace those of live polls."""
        return self.endpoint.keys

    @property
    def host(self) -> str:
        """The host for whose rate limit its calls count."""
        return self.endpoint.origin.host

    @property
    def _cursor(self) -> Cursor:
        cursor = self.endpoint.cursor
        if cursor is None:
            raise ConfigurationError("a backfill needs a resource with a cursor")
        return cursor

    @property
    def total(self) -> int:
        """The number of windows."""
        return len(self.windows())

    def windows(self) -> list[tuple[Any, Any]]:
        """Return the begin and the end of each window, in the form of the cursor's values."""
        step_s = duration_s(self.step, "step")
        clock = step_s % _DAY_S != 0
        at, end = (_with_time(self.begin), _with_time(self.end)) if clock else (self.begin, self.end)
        found = []
        while _seconds(at) < _seconds(end):
            after = lowered(at, -step_s, "iso", is_duration=True)
            after = after if _seconds(after) < _seconds(end) else end
            found.append((self._cursor.of_moment(at), self._cursor.of_moment(after)))
            at = after
        return found

    def __call__(self, state: dict[str, Any]) -> Iterator[Any]:
        """Poll the windows that are left."""
        return frames(self._steps(state))

    def _steps(self, state: dict[str, Any]) -> Steps[None]:
        name, windows = [self.begin, self.end, self.step], self.windows()
        kept = state.get(_STATE, {})
        if kept.get("of", name) != name:
            raise ConfigurationError(
                f"another backfill, from {kept['of'][0]} to {kept['of'][1]}, has not got through; run that one to its "
                "end, or end it: api2db backfill COLLECTOR --cancel"
            )
        kept = kept or {"of": name, "done": 0, "poll": {}}
        for number in range(kept["done"], len(windows)):
            poll = dict(kept["poll"])
            kept = {"of": name, "done": number + 1, "poll": {}}
            endpoint = self._window(*windows[number])
            steps = Poll(endpoint, poll, self.figures, conditional=False, beside=state).frames()
            while not isinstance(frame := (yield from next_frame(steps)), End):
                within = {"of": name, "done": number, "poll": {"poll": poll["poll"]}} if "poll" in poll else kept
                state[_STATE] = within
                yield frame
            if self.on_window is not None:
                self.on_window(number + 1, len(windows))
        state.pop(_STATE, None)
        yield None

    def _window(self, begin: Any, end: Any) -> Endpoint:
        cursor = dataclasses.replace(self._cursor, initial=begin, overlap=0, remember=0, descending=False)
        return dataclasses.replace(self.endpoint, cursor=cursor, until=end, changes_only=False)


def _with_time(text: str) -> str:
    return text if len(text) > len("2024-01-31") else f"{text}T00:00:00Z"


def _seconds(text: str) -> Decimal:
    order = order_of(text, "iso")
    return Decimal(0) if order is None else Decimal(order.value)
