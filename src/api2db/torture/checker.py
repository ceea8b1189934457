"""The checker of a torture: compares the rows that a target has with the numbers of the frames that were acknowledged.

It reads nothing itself, and keeps a few bytes for each frame, so that a target may have any number of rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from api2db.torture.rows import COLUMNS, proof, rows_in

Row = Mapping[str, Any]


@dataclass
class Verdict:
    """What is wrong with a target, by the numbers of the frames.

    Attributes:
        lost: Acknowledged, and a row is neither in the target nor set aside.
        halved: Not acknowledged, and only some of its rows are there.
        doubled: A row is there more than once.
        swapped: A row is behind one of a later frame, or a later one of the same frame.
        altered: A row is not as it was put, or was never put.
    """

    lost: list[int] = field(default_factory=list)
    halved: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    swapped: list[int] = field(default_factory=list)
    altered: list[int] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return self == Verdict()


class RowCounts(NamedTuple):
    """How many rows there are of each kind.

    Attributes:
        acknowledged: Rows of the frames that were acknowledged.
        stored: Rows in the target.
        rejected: Rows that were set aside with a reason.
        unacknowledged: Rows in the target or set aside whose frame was not acknowledged. They were put, and the process
            died before the answer, so they may be there.
        missing: Acknowledged, and neither in the target nor set aside.
        doubled: There once more than once; a row that is there three times counts twice.
        out_of_order: Behind a row that was put later.
        altered: Not as they were put, or never put.
    """

    acknowledged: int
    stored: int
    rejected: int
    unacknowledged: int
    missing: int
    doubled: int
    out_of_order: int
    altered: int


class Check:
    """Takes the rows of a target in the target's order, and those that were set aside; then says what is wrong."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # a bit for each row of a frame
        self._sizes: dict[int, int] = {}
        self._found = Verdict()
        self._stored = self._rejected = 0
        self._latest = (-1, -1)

    def store(self, rows: Iterable[Row]) -> None:
        """Take rows of the target."""
        for row in rows:
            self._stored += 1
            if self._take(row):
                place = (row["n"], row["row"])
                if place < self._latest:
                    self._found.swapped.append(row["n"])
                self._latest = max(self._latest, place)

    def reject(self, rows: Iterable[Row]) -> None:
        """Take rows that were set aside."""
        for row in rows:
            self._rejected += 1
            self._take(row)

    def verdict(self, acknowledged: Iterable[int]) -> Verdict:
        """Return what is wrong, if these frames were acknowledged."""
        wanted = set(acknowledged)
        seen, sizes = self._seen, self._sizes
        return Verdict(
            sorted(n for n in wanted if n not in seen or seen[n].bit_count() < sizes[n]),
            sorted(n for n in seen.keys() - wanted if seen[n].bit_count() < sizes[n]),
            *(sorted(set(found)) for found in (self._found.doubled, self._found.swapped, self._found.altered)),
        )

    def counts(self, acknowledged: Iterable[int]) -> RowCounts:
        """Return the numbers of rows, if these frames were acknowledged and have the usual numbers of rows."""
        wanted = set(acknowledged)
        there = {n: seen.bit_count() for n, seen in self._seen.items()}
        sizes = {n: rows_in(n) for n in wanted}
        return RowCounts(
            acknowledged=sum(sizes.values()),
            stored=self._stored,
            rejected=self._rejected,
            unacknowledged=sum(rows for n, rows in there.items() if n not in wanted),
            missing=sum(rows - there.get(n, 0) for n, rows in sizes.items()),
            doubled=len(self._found.doubled),
            out_of_order=len(self._found.swapped),
            altered=len(self._found.altered),
        )

    def _take(self, row: Row) -> bool:
        """Take a row; return whether it is there for the first time."""
        n = row["n"]
        if not _is_genuine(row):
            self._found.altered.append(n)
            return False
        seen, bit = self._seen.get(n, 0), 1 << row["row"]
        self._seen[n], self._sizes[n] = seen | bit, row["rows"]
        if seen & bit:
            self._found.doubled.append(n)
        return not seen & bit


def judge(found: Iterable[Row], acknowledged: Iterable[int], set_aside: Iterable[Row] = ()) -> Verdict:
    """Compare what a target has, in its own order, with what must be there."""
    check = Check()
    check.store(found)
    check.reject(set_aside)
    return check.verdict(acknowledged)


def _is_genuine(row: Row) -> bool:
    stream_no, n, number, rows, payload, said = (row[name] for name in COLUMNS)
    extra = n * 1_000 + number if n % 5 == 4 else None
    return said == proof(stream_no, n, number, rows, payload) and row.get("extra") == extra and 0 <= number < rows
