"""The status of a stream."""

from dataclasses import dataclass

from api2db import hypertext
from api2db.journal import StreamOverview


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A stream at one moment; sums count from its first start in this home.

    Attributes:
        running: Whether its worker is running.
        rows_superseded: Rows of frames that a newer one replaced before they were loaded (``replace``).
        duplicates_dropped: Repeated rows that were dropped (``Stream2Local``).
        last_error: Why nothing is delivered at the moment, or what a person should know although rows are delivered,
            such as a gap in a target that was restored. None if all is well.
        lag_s: The age of the oldest waiting frame, in seconds.
    """

    running: bool
    frames_waiting: int
    rows_waiting: int
    frames_delivered: int
    rows_delivered: int
    rows_parked: int
    rows_rejected: int
    rows_superseded: int
    duplicates_dropped: int
    last_error: str | None
    lag_s: float

    def _repr_html_(self) -> str:
        return hypertext.area(hypertext.facts(facts_of(self)))


def facts_of(status: StreamStatus) -> dict[str, object]:
    """Return the figures of a status by their names for people; the last five only if they say something."""
    rare = {
        "rows parked": status.rows_parked,
        "rows rejected": status.rows_rejected,
        "rows superseded": status.rows_superseded,
        "duplicates dropped": status.duplicates_dropped,
        "last error": status.last_error,
    }
    return {
        "running": status.running,
        "rows delivered": status.rows_delivered,
        "rows waiting": status.rows_waiting,
        "lag": f"{status.lag_s:.1f} s",
        **{name: value for name, value in rare.items() if value},
    }


def status_of(overview: StreamOverview | None, *, running: bool) -> StreamStatus:
    """Return the status of a stream, which its journal may not know yet."""
    if overview is None:
        return StreamStatus(running, 0, 0, 0, 0, 0, 0, 0, 0, None, 0.0)
    return StreamStatus(
        running=running,
        frames_waiting=overview.frames_waiting,
        rows_waiting=overview.rows_waiting,
        frames_delivered=overview.frames_delivered,
        rows_delivered=overview.rows_delivered,
        rows_parked=overview.rows_parked,
        rows_rejected=overview.rows_rejected,
        rows_superseded=overview.rows_superseded,
        duplicates_dropped=overview.duplicates_dropped,
        last_error=overview.last_error,
        lag_s=overview.lag_s,
    )
