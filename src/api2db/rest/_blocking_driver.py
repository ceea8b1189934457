"""Carries out the effects of steps in the thread that asks for their frames."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from api2db.rest._effects import (
    Answer,
    Begin,
    Call,
    Effect,
    End,
    Join,
    Piece,
    Read,
    Send,
    Start,
    Steps,
    Wait,
    advance,
)


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
            answer.response.close()

    def _carried_out(self, effect: Effect) -> Any:
        match effect:
            case Begin():
                return effect.host.pace.begin(effect.rates, effect.longest_s)
            case Send():
                return self._sent(effect)
            case Read():
                return self._read(effect.answer, effect.until_s)
            case Wait():
                # In a poll's own thread, which nobody waits for when the process ends.
                return time.sleep(effect.seconds)
            case Call():
                return effect.function()
            case Start():
                return _in_thread(effect.steps)
            case Join():
                return effect.started.result()
        raise TypeError(f"{effect!r} is no effect")

    def _sent(self, effect: Send) -> Answer:
        response = effect.host.client.send(effect.request, stream=True, auth=None)
        answer = Answer(response, response.iter_raw())
        self._open.add(answer)
        answer.first = self._read(answer, effect.until_s)
        return answer

    def _read(self, answer: Answer, until_s: float) -> bytes:
        piece = Piece(until_s)
        try:
            for chunk in answer.chunks:
                if piece.add(chunk):
                    return bytes(piece)
        except BaseException:
            self._forget(answer)
            raise
        self._forget(answer)
        return bytes(piece)

    def _forget(self, answer: Answer) -> None:
        answer.is_over = True
        self._open.discard(answer)
        answer.response.close()


def _in_thread(steps: Steps[Any]) -> "Future[Any]":
    """Run steps in a thread that no process waits for at its end."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(finished(steps))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the future is told
            future.set_exception(error)

    threading.Thread(target=work, name="api2db-rest-child", daemon=True).start()
    return future
