"""Finds the place in a log that belongs to a stream's position."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from api2db.cluster._entries import EntryReader, Passed
from api2db.cluster._log import Log
from api2db.cluster._message import Counts, LogEnd, minus, plus
from api2db.cluster._state import Place, StreamState
from api2db.journal import Position

_SCAN_BYTES: Final = 4 << 20


class Places:
    """Moves a stream's state to another position: place and counts always belong to the position.

    Args:
        log: The log.
        entries: Reads the stream's records.
    """

    def __init__(self, log: Log, entries: EntryReader) -> None:
        self._log = log
        self._entries = entries

    def moved(self, state: StreamState, position: Position, in_flight: Iterable[Passed]) -> StreamState:
        """The state at a position, by preference along what was read.

        Args:
            state: The state at an earlier position.
            position: Where to.
            in_flight: What was read behind the earlier position.
        """
        if position == state.position:
            return state
        in_flight = list(in_flight)
        reach = in_flight[-1].sequence if in_flight else state.position.sequence
        if not state.position.sequence <= position.sequence <= reach:
            return self.found(state, position)
        place, passed = state.place, state.passed
        for each in in_flight:
            if each.sequence > position.sequence:
                break
            place, passed = each.place, plus(passed, each.counts)
        return self.at_end(replace(state, position=position, place=place, passed=passed))

    def found(self, state: StreamState, position: Position) -> StreamState:
        """The state at a position that was not read up to."""
        end = self._log.end
        if position.sequence > end.sequence:
            return replace(state, position=position, place=_behind(end), passed=end.total(state.stream_no))
        if position < state.position:
            passed = self._passed_until(state, position)
            return replace(state, position=position, place=Place(1, -1), passed=passed)
        place, passed = state.place, state.passed
        for message, record in self._entries.records(place, _SCAN_BYTES):
            if record is None:
                place = Place(message.number + 1, message.number)
            elif self._entries.owns(record, state.position):
                if record.sequence > position.sequence:
                    break
                passed = plus(passed, record.counts)
        return replace(state, position=position, place=place, passed=passed)

    def at_end(self, state: StreamState) -> StreamState:
        """The state, which reads on at the log's end if nothing waits: what stands before it is of other streams."""
        end = self._log.end  # read once: rows that another thread stores after this look are not passed over
        if state.place.number > end.rows or minus(end.total(state.stream_no), state.passed)[2] > 0:
            return state
        return replace(state, place=_behind(end))

    def _passed_until(self, state: StreamState, position: Position) -> Counts:
        """What the stream has passed at an earlier position."""
        passed = self._log.end.total(state.stream_no)
        for _, record in self._entries.records(Place(1, -1), _SCAN_BYTES):
            if record is not None and self._entries.owns(record, position):
                passed = minus(passed, record.counts)
        return passed


def _behind(end: LogEnd) -> Place:
    """The place behind everything."""
    return Place(end.rows + 1, end.rows)
