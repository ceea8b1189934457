"""Tables for a terminal, and the same as plain lines for everything else."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from api2db.app.figures import CollectorFigures, Rates
from api2db.journal import StreamOverview
from api2db.store import StoreFigures
from api2db.texts import counted

_REFRESH_S: Final = 0.5
_PLAIN_S: Final = 5.0
HEAD = ("collector", "polls", "stream", "rows/s", "delivered", "waiting", "lag", "errors")
CALLS_HEAD = ("collector", "calls", "not modified", "retried", "waited", "rows new", "repeated")
_STORE_HEAD = ("collector", "store", "shards", "rows", "stored at", "errors")
NUMBERS = frozenset({"polls", "rows/s", "delivered", "waiting", "lag", "rows", "shards", *CALLS_HEAD[1:]})


class ConsoleHandler(logging.Handler):
    """Writes log lines to a console, above a live table if there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""
        self._console.print(Text(self.format(record), style=style), soft_wrap=True)


def print_table(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, otherwise in columns of plain text that is never truncated."""
    if console.is_terminal:
        console.print(drawn(head, rows))
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.out(line.rstrip(), highlight=False)


def print_figures(console: Console, collectors: Sequence[CollectorFigures]) -> None:
    """Print a line for each stream, without rates, which a single reading can't show; then the calls to REST APIs."""
    keep = [place for place, name in enumerate(HEAD) if name != "rows/s"]
    head = [HEAD[place] for place in keep]
    rows = [[cells[place] for place in keep] for found in collectors for cells in stream_rows(found, Rates())]
    _print_with_errors(console, head, rows)
    if calls := call_rows(collectors):
        console.out("")
        print_table(console, CALLS_HEAD, calls)


def print_stores(console: Console, stores: Sequence[StoreFigures]) -> None:
    """Print a line for each store; nothing if there are none."""
    if not stores:
        return
    rows = [
        [store.collector, store.store, f"{store.shards:,}", f"{store.rows:,}", _when(store.stored_at), _wrong(store)]
        for store in stores
    ]
    console.out("")
    _print_with_errors(console, _STORE_HEAD, rows)


def _when(at: float | None) -> str:
    return "never" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _wrong(store: StoreFigures) -> str:
    said = [
        f"{counted(store.rejected, 'row')} rejected" if store.rejected else "",
        f"{counted(store.unreadable, 'shard')} unreadable" if store.unreadable else "",
        store.last_error or "",
    ]
    return "; ".join(filter(None, said))


def lines_of(collectors: Sequence[CollectorFigures], rates: Rates) -> list[str]:
    """Return the live table as plain lines."""
    streams = [
        f"{name} → {stream}: {rate} rows/s, {delivered} delivered, {waiting} waiting, lag {lag}"
        + (f"; {errors}" if errors else "")
        for collector in collectors
        for name, _, stream, rate, delivered, waiting, lag, errors in stream_rows(collector, rates)
    ]
    calls = [
        f"{name}: {calls} calls, {unmodified} not modified, {retried} retried, waited {waited}; "
        f"{new} rows new, {repeated} repeated"
        for name, calls, unmodified, retried, waited, new, repeated in call_rows(collectors)
    ]
    return streams + calls


def call_rows(collectors: Sequence[CollectorFigures]) -> list[list[str]]:
    """Return a row for each collector whose import function counts its calls, as a resource of ``api2db.rest`` does."""
    counts = [
        (collector.name, collector.status.figures)
        for collector in collectors
        if collector.status is not None and collector.status.figures and "calls" in collector.status.figures
    ]
    return [
        [
            name,
            f"{found['calls']:,}",
            f"{found.get('not_modified', 0):,}",
            f"{found.get('retried', 0):,}",
            f"{found.get('waited_s', 0):,.1f} s",
            f"{found.get('rows_new', 0):,}",
            f"{found.get('rows_repeated', 0):,}",
        ]
        for name, found in counts
    ]


def stream_rows(collector: CollectorFigures, rates: Rates) -> list[list[str]]:
    """Return a row of cells for each stream of a collector, under ``HEAD``."""
    polls = _polls(collector)
    if not collector.streams:
        return [[collector.name, polls, "", "", "", "", "", "; ".join(_collector_errors(collector))]]
    return [
        [
            collector.name,
            polls,
            stream.identity,
            f"{rates.of(stream):,.0f}",
            f"{stream.rows_delivered:,}",
            f"{stream.rows_waiting:,}",
            f"{stream.lag_s:.1f} s",
            _errors(collector, stream, first=number == 0),
        ]
        for number, stream in enumerate(collector.streams)
    ]


def _polls(collector: CollectorFigures) -> str:
    status = collector.status
    if status is None:
        return "0"
    further = [f"{count} {what}" for count, what in ((status.failed, "failed"), (status.late, "late")) if count]
    if status.backfill is not None and status.backfill.ended is None:
        further.append(f"backfill {status.backfill.done} of {status.backfill.total}")
    return f"{status.polls:,}" + (f" ({', '.join(further)})" if further else "")


def _errors(collector: CollectorFigures, stream: StreamOverview, *, first: bool) -> str:
    said = [
        f"{counted(stream.rows_parked, 'row')} parked" if stream.rows_parked else "",
        f"{counted(stream.rows_rejected, 'row')} rejected" if stream.rows_rejected else "",
        "not running" if collector.running and not stream.running else "",
        stream.last_error or "",
        *(_collector_errors(collector) if first else ()),
    ]
    return "; ".join(filter(None, said))


def _collector_errors(collector: CollectorFigures) -> list[str]:
    status, pieces = collector.status, counted(collector.damaged, "damaged piece")
    backfill = None if status is None else status.backfill
    said = [
        collector.error or "",
        f"{pieces} of its journal set aside in {collector.damaged_in}" if collector.damaged else "",
        f"last poll: {status.last_error}" if status is not None and status.last_error else "",
        f"backfill: {backfill.error}" if backfill is not None and backfill.error else "",
        _next_poll(status.next_poll_at) if status is not None and status.next_poll_at else "",
    ]
    return list(filter(None, said))


def _next_poll(at: float) -> str:
    return f"after many failures, next poll in {max(0.0, at - time.time()):.0f} s"


def _print_with_errors(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if console.is_terminal:
        console.print(Group(*_table_and_errors(head, rows)))
    else:
        print_table(console, head, rows)


def _table_and_errors(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Table | Text]:
    """Return the table without its last column, and that column below, a paragraph for each error."""
    yield drawn(head[:-1], [row[:-1] for row in rows])
    stream = head.index("stream" if "stream" in head else "store")
    for row in rows:
        if row[-1]:
            yield Text(" → ".join(filter(None, (row[0], row[stream]))) + f": {row[-1]}", style="red")


def drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table; numbers are aligned right, and long names are folded."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        right = name in NUMBERS
        table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
