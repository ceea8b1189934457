"""The records that were read and are not acknowledged, as columns: a batch may have tens of thousands."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from api2db.journal._record import HEADER_BYTES, Flag
from api2db.journal._scan import Block
from api2db.journal._segment import Count, Location
from api2db.journal.port import Position

_FRAMES: Final = 0
_ROWS: Final = 1
_BYTES: Final = 2


class ReadEnd(NamedTuple):
    """Where a read has ended: the position of its last entry, and the location where the next one starts."""

    position: Position
    location: Location


@dataclass(slots=True)
class Stretch:
    """Records of one segment in order.

    Attributes:
        sequences: Their numbers, rising.
        ends: The offset behind each.
        counts: The frames, rows and bytes of each, in three columns.
    """

    segment: int
    sequences: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, block: Block, begin: int, end: int) -> "Stretch":
        """Some records of a block; nothing of the block is kept."""
        headers = block.headers[begin:end]
        counts = np.empty((len(headers), 3), np.int64)
        counts[:, _FRAMES] = (headers["flags"] & Flag.FRAME_END) != 0
        counts[:, _ROWS] = headers["rows"]
        counts[:, _BYTES] = headers["length"] + np.uint64(HEADER_BYTES)
        return cls(block.segment.number, headers["sequence"].astype(np.int64), block.ends[begin:end].copy(), counts)

    @classmethod
    def counted(cls, sequence: int, after: Location, count: Count) -> "Stretch":
        """Everything up to a record as if it were one."""
        counts = np.array([[count.frames, count.rows, count.size_bytes]], np.int64)
        return cls(after.segment, np.array([sequence], np.int64), np.array([after.offset], np.int64), counts)

    @property
    def last_sequence(self) -> int:
        """The number of the last record."""
        return int(self.sequences[-1])

    @property
    def after(self) -> Location:
        """The location behind the last record."""
        return Location(self.segment, int(self.ends[-1]))

    def first(self, records: int) -> "Stretch":
        """Only the first records."""
        return Stretch(self.segment, self.sequences[:records], self.ends[:records], self.counts[:records])

    def without(self, records: int) -> "Stretch":
        """All but the first records."""
        return Stretch(self.segment, self.sequences[records:], self.ends[records:], self.counts[records:])

    def up_to(self, sequence: int) -> int:
        """How many records have no higher number."""
        return int(np.searchsorted(self.sequences, sequence, side="right"))


@dataclass(slots=True)
class InFlight:
    """Stretches in order."""

    stretches: deque[Stretch] = field(default_factory=deque)

    def add(self, stretch: Stretch) -> None:
        """Add records behind the others."""
        self.stretches.append(stretch)

    def extend(self, other: "InFlight") -> None:
        """Add other records behind the others."""
        self.stretches.extend(other.stretches)

    @property
    def last_sequence(self) -> int | None:
        """The number of the last record; None without any."""
        return self.stretches[-1].last_sequence if self.stretches else None

    def location_behind(self, sequence: int) -> Location | None:
        """The location behind the last record that has no higher number; None without one."""
        for stretch in reversed(self.stretches):
            if (records := stretch.up_to(sequence)) > 0:
                return stretch.first(records).after
        return None

    def cut(self, location: Location) -> None:
        """Forget the records that end behind a location."""
        while self.stretches and self.stretches[-1].after > location:
            last = self.stretches.pop()
            if last.segment == location.segment:
                records = int(np.searchsorted(last.ends, location.offset, side="right"))
                if records:
                    self.stretches.append(last.first(records))

    def pass_to(self, sequence: int) -> tuple[Location | None, Count]:
        """Forget the records that have no higher number.

        Returns:
            The location behind them, None without any, and what they count.
        """
        location, passed = None, Count()
        while self.stretches and (records := self.stretches[0].up_to(sequence)) > 0:
            first = self.stretches.popleft()
            gone = first.first(records)
            location = gone.after
            passed.add(*map(int, gone.counts.sum(axis=0)))
            if records < len(first.sequences):
                self.stretches.appendleft(first.without(records))
                break
        return location, passed
