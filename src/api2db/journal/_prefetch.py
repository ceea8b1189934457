"""What a stream has read of the journal beyond the entries that its worker is at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from api2db.journal._batch_reader import BatchReader
from api2db.journal._scan import Record
from api2db.journal._segment import Location
from api2db.journal.port import Position, ReadLimit


class Start(NamedTuple):
    """Where a read begins, and how much it may give: of two with the same, the later one has no less to give."""

    at: Location
    position: Position
    limit: ReadLimit


@dataclass(slots=True)
class PrefetchedRead:
    """A read that goes on as records come.

    Attributes:
        at: Where it goes on.
        is_full: Whether its limit is reached.
    """

    start: Start
    batch_reader: BatchReader
    at: Location
    is_full: bool = False

    def go_on(self, records: Callable[[Location, Location], Iterable[Record]], stop: Location) -> "PrefetchedRead":
        """Take the records up to a place, as far as the limit lets it."""
        for record in records(self.at, stop):
            # After a rescue the place may be the beginning of a segment, or copies may follow.
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
