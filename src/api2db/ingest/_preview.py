"""The preview of a collector with ``debug``: it shows frames instead of delivering them."""

import sys
import threading
from collections.abc import Callable, Sequence

import pyarrow as pa

from api2db.frames import EncodedRows, Frame, Refused, is_json, reason_of, to_pandas
from api2db.ingest._collector import Collector
from api2db.ingest._import_call import ImportCall, thread_name
from api2db.ingest._poll import Outcome
from api2db.ingest._threads import process_threads
from api2db.texts import counted

_ROWS = 20


class Preview:
    """A poll with an empty state that shows each frame and its schema; it stores nothing, and has no time limit.

    Args:
        collector: What to poll.
        on_end: Called with the outcome.
    """

    def __init__(self, collector: Collector, on_end: Callable[[Outcome], None]) -> None:
        self._collector = collector
        self._on_end = on_end
        self._rows = 0
        self._over = threading.Event()

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended."""
        return not self._over.is_set()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until it has ended; return False after the timeout."""
        return self._over.wait(timeout_s)

    def start(self) -> None:
        """Start the poll; if no thread can be started, that error is the outcome."""
        import_call = ImportCall(self._collector, self._take, self._end)
        try:
            process_threads().submit(thread_name(self._collector), lambda: import_call.run({}))
        except RuntimeError as error:
            self._end(error)

    def stop(self) -> None:
        """Do nothing: a preview delays nobody."""

    def _take(self, parts: Sequence[Frame | Refused]) -> bool:
        for part in parts:
            self._rows += part.num_rows
            _show(self._collector.name, part)
        return True

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is None and not self._rows:
                sys.stdout.write(f"{self._collector.name}: nothing new\n")
            sys.stdout.flush()
            self._on_end(Outcome(0 if error else self._rows, error))
        finally:
            self._over.set()


def _show(name: str, page: Frame | Refused) -> None:
    rows, note = (page.rows, "would be rejected") if isinstance(page, Refused) else (page, "debug: not stored")
    if isinstance(rows, EncodedRows):
        rows = rows.batch()
    head = to_pandas(rows.slice(0, _ROWS)).to_string()
    columns = "\n".join(f"  {field.name}: {_type_name(field.type)}" for field in rows.schema)
    more = f"\n… {counted(rows.num_rows - _ROWS, 'more row')}" if rows.num_rows > _ROWS else ""
    said = f"{name}: {counted(rows.num_rows, 'row')} ({note})"
    why = f"\n{reason_of(rows.schema)}" if isinstance(page, Refused) else ""
    sys.stdout.write(f"{said}{why}\n{head}{more}\n{columns}\n\n")


def _type_name(type_: pa.DataType) -> str:
    return "JSON" if is_json(type_) else str(type_)
