"""Carries out the effects of steps for a thread that waits for their frames.

The steps themselves run in that thread. Requests are sent by the event loop of ``_network``.
"""

import time
from collections.abc import Iterator
from concurrent.futures import wait
from functools import partial
from typing import Any

from api2db.event_loop import in_thread
from api2db.rest import _effects as effects
from api2db.rest import _network as network
from api2db.rest._effects import Answer, Effect, End, Steps, advance


def frames(steps: Steps[Any]) -> Iterator[Any]:
    """Yield the frames of steps."""
    driver = _Driver(steps)
    try:
        while not isinstance(item := driver.next(), End):
            yield item
    finally:
        driver.close()


def finished(steps: Steps[Any]) -> Any:
    """Run steps that yield no frames; return what they return."""
    driver = _Driver(steps)
    try:
        return driver.next().value
    finally:
        driver.close()


class _Driver:
    def __init__(self, steps: Steps[Any]) -> None:
        self._steps = steps
        self._open: set[Answer] = set()

    def next(self) -> Any:
        """Return the next frame, or the End."""
        result: Any = None
        error: BaseException | None = None
        while isinstance(item := advance(self._steps, result, error), Effect):
            result = error = None
            try:
                result = self._carried_out(item)
            except Exception as failure:  # noqa: BLE001 - it is thrown into the steps that wait for the effect
                error = failure
        return item

    def close(self) -> None:
        """End the steps, and close what they left open."""
        self._steps.close()
        for answer in self._open:
            network.close(answer)

    def _carried_out(self, effect: Effect) -> Any:
        match effect:
            case effects.Begin():
                return effect.host.pace.begin(effect.rates, effect.longest_s)
            case effects.Send():
                answer = network.result_of(network.sent(effect))
                self._open.add(answer)
                return self._noted(answer)
            case effects.Read():
                piece = network.result_of(network.read(effect.answer, effect.until_s))
                self._noted(effect.answer)
                return piece
            case effects.Wait():
                # In a poll's own thread, which nobody waits for when the process ends.
                return time.sleep(effect.seconds)
            case effects.Call():
                return _called(effect)
            case effects.Start():
                return in_thread(partial(finished, effect.steps), "api2db-rest-call")
            case effects.Join():
                return effect.started.result()
        raise TypeError(f"{effect!r} is no effect")

    def _noted(self, answer: Answer) -> Answer:
        """Forget an answer whose body has been read to its end."""
        if answer.is_over:
            self._open.discard(answer)
        return answer


def _called(effect: effects.Call) -> Any:
    future = in_thread(effect.function, "api2db-rest-call")
    wait([future], max(0.0, effect.until_s - time.monotonic()))
    if not future.done():
        raise effects.TimeUpError
    return future.result()
