"""What is wrong with a project, since when, and what to do about it."""

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from api2db.app.figures import CollectorFigures
from api2db.journal import StreamOverview
from api2db.store import StoreFigures
from api2db.texts import counted

Severity = Literal["error", "warning"]
Timeliness = Literal["ok", "late", "failing", "stopped"]
_STEP_OF_REJECTED: Final = (
    "see why: api2db rejected list; once the cause is fixed: api2db rejected retry --all, or a FILE of the list"
)
_SLACK_S: Final = 2.0  # figures are published once a second


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that a person should look at.

    Attributes:
        severity: ``error``: rows do not arrive, or are gone from the journal; ``warning``: anything else.
        collector: The collector's name.
        stream: The stream or store; empty where the collector itself is concerned.
        what: What is wrong, in one line.
        since: When it was first seen, seconds since 1970; None where that is not known.
        next_step: What to do.
    """

    severity: Severity
    collector: str
    stream: str
    what: str
    since: float | None
    next_step: str


def troubles(
    collectors: Sequence[CollectorFigures], stores: Sequence[StoreFigures] = (), now_s: float | None = None
) -> list[Trouble]:
    """Return all that is wrong: errors first, the oldest first."""
    now_s = time.time() if now_s is None else now_s
    found = [trouble for collector in collectors for trouble in _of_collector(collector, now_s)]
    found += [trouble for store in stores for trouble in _of_store(store)]
    return sorted(found, key=lambda trouble: (trouble.severity != "error", trouble.since or now_s))


def timeliness(collector: CollectorFigures, now_s: float) -> Timeliness:
    """Return whether a collector's polls keep its interval: late after one missed interval, failing after two.

    A poll that failed is missed, as is one that has not begun when it was due.
    """
    status = collector.status
    if not collector.running or status is None or not status.interval_s:
        return "stopped"
    missed = (now_s - _SLACK_S - (status.polled_at or now_s)) / status.interval_s
    failed = status.failed_in_row
    if missed >= 3 or failed >= 2 or (failed and missed >= 1):
        return "failing"
    return "late" if missed >= 2 or failed else "ok"


def _of_collector(collector: CollectorFigures, now_s: float) -> Iterator[Trouble]:
    name, status = collector.name, collector.status
    if collector.error:
        yield Trouble("error", name, "", collector.error, None, "see the log; the journal itself is left as it is")
    if collector.damaged:
        pieces = counted(collector.damaged, "damaged piece")
        yield Trouble(
            "error",
            name,
            "",
            f"{pieces} of its journal set aside",
            None,
            f"look at {collector.damaged_in}; delete the files there once you have seen them",
        )
    kept = timeliness(collector, now_s)
    if status is not None and status.last_error and collector.running:
        said = f"the last poll failed: {first_line(status.last_error)}"
        severity: Severity = "error" if kept == "failing" else "warning"
        since = status.failing_since or status.error_at
        yield Trouble(severity, name, "", said, since, "it is tried again; fix its import_target or the API")
    elif status is not None and kept in {"late", "failing"}:
        yield Trouble(
            "error" if kept == "failing" else "warning",
            name,
            "",
            f"its last poll began {_ago(now_s, status.polled_at)}, though it polls every {status.interval_s:g} s",
            status.polled_at,
            "a poll that hangs shows in the log; give its requests a timeout, or a longer interval",
        )
    for stream in collector.streams:
        yield from _of_stream(collector, stream)


def _of_stream(collector: CollectorFigures, stream: StreamOverview) -> Iterator[Trouble]:
    name, identity = collector.name, stream.identity
    oldest_s = stream.oldest_ns / 1e9 if stream.oldest_ns else None
    if stream.last_error:
        waits = stream.rows_waiting > 0
        step = (
            "rows wait in the journal and are delivered once the target is back"
            if waits
            else "rows are delivered; read the message"
        )
        said = first_line(stream.last_error)
        if said.startswith("stopped:"):
            step = "fix the cause, then restart the run"
        yield Trouble("error" if waits else "warning", name, identity, said, stream.error_at, step)
    elif collector.running and not stream.running and stream.rows_waiting:
        rows = counted(stream.rows_waiting, "row")
        yield Trouble(
            "error",
            name,
            identity,
            f"it is not running, and {rows} wait for it",
            oldest_s,
            f"restart the run if it belongs to it; else: {forget_command(stream)}",
        )
    if stream.rows_parked:
        yield Trouble(
            "error",
            name,
            identity,
            f"{counted(stream.rows_parked, 'row')} parked after many attempts",
            oldest_s,
            "fix the target; parked rows are tried again automatically, before all that wait behind them",
        )
    if stream.rows_rejected:
        yield Trouble(
            "warning",
            name,
            identity,
            f"{counted(stream.rows_rejected, 'row')} rejected",
            None,
            _STEP_OF_REJECTED,
        )


def _of_store(store: StoreFigures) -> Iterator[Trouble]:
    if store.last_error:
        said = f"its last round failed: {first_line(store.last_error)}"
        yield Trouble("error", store.collector, store.store, said, store.error_at, "the next round tries it again")
    if store.unreadable:
        yield Trouble(
            "warning",
            store.collector,
            store.store,
            f"{counted(store.unreadable, 'shard')} can't be read",
            store.error_at,
            f"look at them in {store.folder}; they stay there",
        )
    if store.rejected:
        yield Trouble(
            "warning",
            store.collector,
            store.store,
            f"{counted(store.rejected, 'row')} rejected",
            None,
            _STEP_OF_REJECTED,
        )


def forget_command(stream: StreamOverview) -> str:
    """Return the command that drops a stream and what waits for it."""
    return f"api2db forget {shlex.quote(f'{stream.collector}/{stream.identity}')}"


def first_line(text: str) -> str:
    """Return the first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _ago(now_s: float, at: float | None) -> str:
    return "never" if at is None else f"{now_s - at:,.0f} s ago"
