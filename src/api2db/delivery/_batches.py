"""The batches of a stream: what waits in the journal, up to a limit that adapts to what the target can load."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from api2db.delivery._dtypes import Dtypes
from api2db.delivery._prefetch import Prefetch
from api2db.delivery._refusals import SMALL_ROWS
from api2db.delivery.batch import Batch, batch_of
from api2db.journal import Entry, Position, ReadLimit, StreamReader
from api2db.targets.port import BegunLoad, Target
from api2db.tracing import add_log_field

LIMIT = ReadLimit(rows=262_144, size_bytes=16 << 20)
LARGE_LIMIT = ReadLimit(rows=245_760, size_bytes=64 << 20)  # two row groups of DuckDB
# A smaller load is not begun ahead of its turn: it takes little longer than its commit.
_LEAST_BEGUN_BYTES = 8 << 20
# After a batch that was too large, the limit grows slowly: a batch that is too large again was read in vain.
_SLOWLY = 8


class Batches:
    """Reads one batch after another, and the next one while the target is busy with this one.

    A smaller limit set by ``fit``, ``search`` or ``halve`` holds for the next batch. It grows back with each batch that
    is loaded.

    Args:
        reader: The stream's end of the journal.
        target: Tells which batches it takes.
        limit: The largest batch.
        keyed: Whether rows are replaced by key; see ``batch_of``.
        dtypes: The types that rows are cast to.
    """

    def __init__(
        self, reader: StreamReader, target: Target, limit: ReadLimit, *, keyed: bool, dtypes: Dtypes | None
    ) -> None:
        self._reader = reader
        self._target = target
        self._limit = self._full_limit = limit._replace(whole_frames=target.whole_frames)
        self._growth = 1
        self._keyed = keyed
        self._dtypes = dtypes or Dtypes()
        self._prefetch = Prefetch(reader)
        self._read_to = reader.position
        self._read: tuple[Position, Sequence[Entry]] = (reader.position, ())
        self._read_rows = 0
        self._begun: Batch | None = None
        self._has_rest = False

    @property
    def has_begun(self) -> bool:
        """Whether the next batch is being loaded already, so that it should be delivered at once."""
        return self._begun is not None

    def tell_news(self) -> None:
        """Announce that there may be more to read; called by any thread."""
        self._prefetch.tell_news()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until something can be read; return whether that is so. What was read before is dropped."""
        self._read = (self._reader.position, ())
        return bool(self._reader.read(self._limit._replace(rows=1, whole_frames=False), timeout_s))

    def next(self, timeout_s: float | None) -> Batch | None:
        """Return the batch behind the stream's position; None if there is none in this time."""
        start, begun = self._reader.position, self._begun
        self._begun = None
        if self._target.replaces_table:
            self.wait(timeout_s)
            newest, superseded = self._reader.newest()
            if not newest:
                return None
            add_log_field("frame", str(newest[0].first_time_ns))
            return batch_of(newest, start, superseded, whole_frames=True, dtypes=self._dtypes)
        entries = self._entries(start, timeout_s)
        self._read = (start, entries)
        if not entries:
            return None
        self._read_to = entries[-1].position
        add_log_field("frame", str(entries[0].first_time_ns))
        if begun is not None and (begun.start, begun.end, len(begun.entries)) == (start, self._read_to, len(entries)):
            return begun
        if begun is not None and begun.begun is not None:
            begun.begun.cancel()
        batch = self._batch_of(entries, start)
        self._has_rest = bool(batch.rest)
        return batch

    def _batch_of(self, entries: Sequence[Entry], start: Position) -> Batch:
        whole_frames = self._limit.whole_frames
        batch = batch_of(entries, start, whole_frames=whole_frames, keyed=self._keyed, dtypes=self._dtypes)
        return replace(batch, rest=entries[len(batch.entries) :])

    def _entries(self, start: Position, timeout_s: float | None) -> Sequence[Entry]:
        if left := self._left(start):
            return left
        self._read_rows = self._limit.rows
        return self._prefetch.take(start, self._limit) or self._reader.read(self._limit, timeout_s)

    def _left(self, start: Position) -> Sequence[Entry]:
        """What was read before and follows a position; nothing if that was more than the limit allows now."""
        if self._limit.rows < self._read_rows:
            return ()
        begin, entries = self._read
        passed = bisect_right(entries, start, key=lambda entry: entry.position)
        reached = entries[passed - 1].position if passed else begin
        return entries[passed:] if reached == start else ()

    @contextmanager
    def reading_ahead(self, begin: Callable[[Batch], BegunLoad | None] | None = None) -> Iterator[None]:
        """Within the block, read what follows the last batch.

        Args:
            begin: Called in another thread with the next batch, once enough was read; returns its load if that begins.
        """
        if self._target.replaces_table:
            yield
            return
        start = self._read_to

        def enough(entries: Sequence[Entry]) -> bool:
            if begin is None or self._has_rest or sum(entry.size_bytes for entry in entries) < _LEAST_BEGUN_BYTES:
                return False
            batch = self._batch_of(entries, start)
            begun = None if batch.rest else begin(batch)
            if begun is None:
                return False
            self._begun = replace(batch, begun=begun)
            return True

        with self._prefetch.behind(start, self._limit, enough):
            yield

    def fit(self, rows: int) -> None:
        """Take at most as many rows as fit into one load."""
        self._limit, self._growth = self._limit._replace(rows=rows), _SLOWLY

    def search(self, batch: Batch) -> None:
        """Take few enough rows of a batch to find those that the target refuses."""
        self._limit, self._growth = self._limit._replace(rows=max(1, min(SMALL_ROWS, batch.num_rows // 2))), 1

    def halve(self, batch: Batch) -> None:
        """Take half of a batch."""
        self._limit = self._limit._replace(rows=max(1, batch.num_rows // 2))

    def grow(self) -> None:
        """Take more rows, after a batch was loaded. What was loaded is dropped."""
        position = self._reader.position
        self._read = (position, self._left(position))
        if self._limit.rows < self._full_limit.rows:
            rows = self._limit.rows + max(1, self._limit.rows // self._growth)
            self._limit = self._limit._replace(rows=min(self._full_limit.rows, rows))
