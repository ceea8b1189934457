"""Entries that are read while the worker delivers the ones before them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from api2db.journal._batch_reader import BatchReader
from api2db.journal._scan import Record
from api2db.journal._segment import Location
from api2db.journal.port import Position, ReadLimit


class Start(NamedTuple):
    """Where a read starts, and its limit. Of two reads with the same start the later one has no fewer entries."""

    at: Location
    position: Position
    limit: ReadLimit


@dataclass(slots=True)
class PrefetchedRead:
    """A read that continues as records arrive.

    Attributes:
        at: Where it continues.
        is_full: Whether its limit is reached.
    """

    start: Start
    batch_reader: BatchReader
    at: Location
    is_full: bool = False

    def go_on(self, records: Callable[[Location, Location], Iterable[Record]], stop: Location) -> "PrefetchedRead":
        """Add the records up to a location, within the limit."""
        for record in records(self.at, stop):
            # After a rewrite the location may be the start of a segment, or copies may follow.
            if record.header.sequence > self._reached and self.batch_reader.add(record):
                self.is_full = True
                break
        self.batch_reader.finish()
        self.at = max(self.at, stop)
        return self

    @property
    def _reached(self) -> int:
        in_flight = self.batch_reader.in_flight
        return in_flight[-1].sequence if in_flight else self.start.position.sequence
