"""One call of an import function, plain or async: it passes on rows as they come, and then the end."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from api2db.cpu_time import counted_for
from api2db.frames import Frame, Refused
from api2db.ingest._async import is_async, run_async
from api2db.ingest._collector import Collector, takes_state
from api2db.ingest._pages import batches
from api2db.ingest._threads import process_threads


def thread_name(collector: Collector) -> str:
    """Return the name of a thread while it works for a poll."""
    return f"api2db-poll-{collector.name}"


class ImportCall:
    """Calls the import function of a collector.

    Args:
        collector: Has the import function, and the transform of its pages.
        take: Called with the parts of each page, of which one without rows has none; returns False if no more rows are
            wanted.
        on_end: Called last, with what the import function, the transform or ``take`` raised.
    """

    def __init__(
        self,
        collector: Collector,
        take: Callable[[Sequence[Frame | Refused]], bool],
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        self._collector = collector
        self._take = take
        self._on_end = on_end
        self._future: Future[BaseException | None] | None = None
        self._is_cancelled = False

    def run(self, state: dict[str, Any]) -> None:
        """Run a plain function to its end in this thread; an async one continues on the event loop."""
        try:
            result = _called(self._collector, state)
            if is_async(result):
                self._run_async(result)
                return
            self._take_all(result)
        except BaseException as error:  # noqa: BLE001 - also SystemExit: it becomes the poll's outcome
            self._on_end(error)
        else:
            self._on_end(None)

    def cancel(self) -> None:
        """End an async function; a plain one can't be ended."""
        self._is_cancelled = True
        if self._future is not None:
            self._future.cancel()

    def _run_async(self, result: Any) -> None:
        future = run_async(result, self._take_all, thread_name(self._collector))
        future.add_done_callback(self._ended)
        self._future = future
        if self._is_cancelled:  # cancelled meanwhile
            future.cancel()

    def _ended(self, future: "Future[BaseException | None]") -> None:
        error = CancelledError() if future.cancelled() else future.result()
        process_threads().run(thread_name(self._collector), partial(self._on_end, error))

    def _take_all(self, result: Any) -> bool:
        with counted_for(self._collector.name):
            return all(self._take(parts) for parts in batches(result, self._collector.transform, self._collector.name))


def _called(collector: Collector, state: dict[str, Any]) -> Any:
    """Call the import function; one that has also an async form, as a resource of api2db.rest has, by that."""
    target = collector.import_target
    poll_async = getattr(target, "poll_async", None)
    if poll_async is not None:
        return poll_async(state)
    return target(state) if takes_state(target, collector.name) else target()
