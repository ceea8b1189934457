"""Calls a function for each of many items, on a thread for each processor."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from api2db.cpu_time import add_to_block

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_processors(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function with each item, and return the results in the order of the items.

    All calls have ended when it returns or raises. After an error no further call begins.

    Raises:
        BaseException: What the call for the first item that failed has raised.
    """
    waiting = deque(enumerate(items))
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    helpers_s: list[float] = []

    def run() -> None:
        with suppress(IndexError):
            while not errors:
                number, item = waiting.popleft()
                call(number, item)

    def call(number: int, item: Item) -> None:
        try:
            results[number] = work(item)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that called
            errors[number] = error

    def help_out() -> None:
        run()
        helpers_s.append(time.thread_time())

    helpers = _started(help_out, min(len(items), os.cpu_count() or 1) - 1)
    run()
    for helper in helpers:
        helper.join()
    add_to_block(sum(helpers_s))
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(items))]


def _started(run: Callable[[], None], count: int) -> list[threading.Thread]:
    helpers: list[threading.Thread] = []
    with suppress(RuntimeError):  # no thread can be started while the interpreter exits
        for _ in range(count):
            helper = threading.Thread(target=run, daemon=True)
            helper.start()
            helpers.append(helper)
    return helpers
