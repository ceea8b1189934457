"""Carries out the effects of steps on the event loop that asks for their frames.

The steps themselves decompress, decode and cast, so they run in a few threads, which all polls of a process share: a
large page does not hold up the event loop. All steps of a poll have the same context variables, whatever the thread.
"""

import asyncio
import contextvars
import inspect
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from api2db.event_loop import in_thread
from api2db.rest import _effects as effects
from api2db.rest import _network as network
from api2db.rest._arguments import Rate
from api2db.rest._effects import Answer, Effect, End, Steps, advance
from api2db.rest._hosts import Host
from api2db.rest._pace import TooLongError

_THREADS: Final = 4


async def frames(steps: Steps[Any]) -> AsyncIterator[Any]:
    """Yield the frames of steps. Cancelling ends them at their next effect."""
    driver = _Driver(steps)
    try:
        while not isinstance(item := await driver.next(), End):
            yield item
    finally:
        await driver.close()


async def _finished(steps: Steps[Any]) -> Any:
    """Run steps that yield no frames; return what they return."""
    driver = _Driver(steps)
    try:
        return (await driver.next()).value
    finally:
        await driver.close()


class _Driver:
    def __init__(self, steps: Steps[Any]) -> None:
        self._steps = steps
        self._context = contextvars.copy_context()
        self._under_way: Future[Any] | None = None
        self._open: set[Answer] = set()
        self._started: list[asyncio.Task[Any]] = []

    async def next(self) -> Any:
        """Return the next frame, or the End."""
        result: Any = None
        error: BaseException | None = None
        while isinstance(item := await self._advanced(result, error), Effect):
            result = error = None
            try:
                result = await self._carried_out(item)
            except Exception as failure:  # noqa: BLE001 - it is thrown into the steps that wait for the effect
                error = failure
        return item

    async def close(self) -> None:
        """End the steps, and what they have started and left open."""
        for task in self._started:
            task.cancel()
        if self._under_way is None:
            self._steps.close()
        elif not self._under_way.done():  # after a cancellation the steps may still run in their thread
            self._under_way.add_done_callback(lambda _: self._steps.close())
        elif inspect.getgeneratorstate(self._steps) != inspect.GEN_CLOSED:
            _pools.pool().submit(self._steps.close)  # not here: another process may have the pace of its call locked
        for answer in self._open:
            await answer.response.aclose()

    async def _advanced(self, result: Any, error: BaseException | None) -> Any:
        self._under_way = _pools.pool().submit(self._context.run, advance, self._steps, result, error)
        return await asyncio.wrap_future(self._under_way)

    async def _carried_out(self, effect: Effect) -> Any:
        match effect:
            case effects.Begin():
                return await _loop().begun(effect)
            case effects.Send():
                answer = await network.sent(effect)
                self._open.add(answer)
                return self._noted(answer)
            case effects.Read():
                piece = await network.read(effect.answer, effect.until_s)
                self._noted(effect.answer)
                return piece
            case effects.Wait():
                return await asyncio.sleep(effect.seconds)
            case effects.Call():
                function = partial(self._context.run, effect.function)
                async with network.bounded(effect.until_s), _loop().turn_of(effect.alone):
                    return await asyncio.wrap_future(in_thread(function, "api2db-rest-call"))
            case effects.Start():
                self._started.append(asyncio.create_task(_finished(effect.steps)))
                return self._started[-1]
            case effects.Join():
                self._started.remove(effect.started)
                return await effect.started
        raise TypeError(f"{effect!r} is no effect")

    def _noted(self, answer: Answer) -> Answer:
        """Forget an answer whose body has been read to its end."""
        if answer.is_over:
            self._open.discard(answer)
        return answer


class _Loop:
    """What the polls on one event loop share: whose turn it is."""

    def __init__(self) -> None:
        self._paces: dict[tuple[Host, tuple[Rate, ...]], asyncio.Lock] = {}
        self._turns: dict[int, tuple[object, asyncio.Lock]] = {}

    def turn_of(self, owner: object) -> asyncio.Lock:
        if owner is None:
            return asyncio.Lock()
        return self._turns.setdefault(id(owner), (owner, asyncio.Lock()))[1]

    async def begun(self, effect: effects.Begin) -> float:
        """Wait for the pace of a host in the order of coming: only the first one tries."""
        begin_s = time.monotonic()
        turn = self._paces.setdefault((effect.host, effect.rates), asyncio.Lock())
        try:
            await asyncio.wait_for(turn.acquire(), effect.longest_s)
        except TimeoutError:
            raise TooLongError(effect.longest_s) from None
        try:
            while (wait_s := effect.host.pace.try_begin(effect.rates)) is not None:
                if time.monotonic() + wait_s >= begin_s + effect.longest_s:
                    raise TooLongError(wait_s)
                await asyncio.sleep(wait_s)
        finally:
            turn.release()
        return time.monotonic() - begin_s


_loops: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop]" = weakref.WeakKeyDictionary()


def _loop() -> _Loop:
    return _loops.setdefault(asyncio.get_running_loop(), _Loop())


class _Pools:
    """The threads in which steps run; a forked child has its own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, "api2db-rest")
            return self._pool


_pools = _Pools()
os.register_at_fork(after_in_child=_pools.forget)
