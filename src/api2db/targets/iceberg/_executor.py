"""The library's pool of threads, made to work until the very end of a process."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from api2db.targets.iceberg._place import library


class LastingExecutor(Executor):
    """A pool that runs a task in the caller's thread once Python has closed all pools.

    Python does so before the functions that were registered for the exit of a process, which deliver what waits.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Run a task, now or soon."""
        try:
            return self._pool.submit(task, *arguments, **options)
        except RuntimeError:
            done: Future[Any] = Future()
        try:
            done.set_result(task(*arguments, **options))
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            done.set_exception(error)
        return done


def make_executor_last() -> None:
    """Have the library use such a pool."""
    factory = library("utils.concurrent").ExecutorFactory
    if not isinstance(pool := factory.get_or_create(), LastingExecutor):
        factory._instance = LastingExecutor(pool)  # noqa: SLF001 - there is no other way to choose it
