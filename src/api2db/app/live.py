"""The live view of a terminal: what is wrong, then the streams, as many as fit; plain lines for everything else."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from api2db.app.figures import CollectorFigures, Rates, only_named, read_figures
from api2db.app.health import Trouble, troubles
from api2db.app.screen import CALLS_HEAD, HEAD, call_rows, drawn, lines_of, stream_rows
from api2db.journal import StreamOverview
from api2db.texts import counted

_REFRESH_S: Final = 0.5
_PLAIN_S: Final = 5.0
_FEWEST_STREAMS: Final = 3
_MOST_TROUBLES: Final = 3
_MOST_BARS: Final = 3
_BAR_FROM_ROWS: Final = 1_000
_BAR_CELLS: Final = 20
_GAP: Final = 2
_SHORTEST_NAME: Final = 9
_FAIR_NAME: Final = 24


class LiveView:
    """Shows the figures of a home while the block runs. It only reads, so any process may show it.

    Args:
        home: The project's folder.
        console: Shows a table on a terminal, else plain lines every few seconds.
        names: The collectors to show; all by default.
        only: A text that the name of a collector or stream must contain.
    """

    def __init__(
        self, home: Path, console: Console, names: Collection[str] | None = None, only: str | None = None
    ) -> None:
        self._home = home
        self._console = console
        self._names = names
        self._only = only
        self._rates = Rates()
        self._drains = Drains()
        self._ended = threading.Event()
        self._live = Live(console=console, auto_refresh=False) if _is_live(console) else None
        self._thread = threading.Thread(target=self._show, name="api2db-live", daemon=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._live is not None:
            self._draw(self._live)
            self._live.stop()
        else:
            self._print()

    def _show(self) -> None:
        printed_s = time.monotonic()
        while not self._ended.wait(_REFRESH_S):
            if self._live is not None:
                self._draw(self._live)
            elif time.monotonic() - printed_s >= _PLAIN_S:
                printed_s = time.monotonic()
                self._print()

    def _draw(self, live: Live) -> None:
        view = live_view(self._read(), self._rates, self._drains, self._console.height, self._console.width)
        live.update(view, refresh=True)

    def _print(self) -> None:
        collectors = self._read()
        recoveries = [line for line in map(recovery_line, collectors) if line is not None]
        for line in (*lines_of(collectors, self._rates), *recoveries):
            self._console.out(line, highlight=False)

    def _read(self) -> list[CollectorFigures]:
        return only_named(read_figures(self._home, self._names), self._only)


class Drains:
    """How far the backlogs are that are being delivered."""

    def __init__(self) -> None:
        self._most: dict[tuple[str, str], int] = {}

    def lines(self, collectors: Sequence[CollectorFigures], rate_of: Callable[[StreamOverview], float]) -> list[Text]:
        """Return a bar for each large backlog, with the time left at the present rate."""
        found = []
        for stream in (stream for collector in collectors for stream in collector.streams):
            key = (stream.collector, stream.identity)
            most = self._most[key] = max(stream.rows_waiting, self._most.get(key, 0)) if stream.rows_waiting else 0
            if most < _BAR_FROM_ROWS or stream.last_error:
                continue
            done, rate = most - stream.rows_waiting, rate_of(stream)
            left = f", {_span(stream.rows_waiting / rate)} left" if rate > 0 else ""
            bar = _bar(done, most)
            found.append(Text(f"{stream.collector} → {stream.identity} {bar} {stream.rows_waiting:,} rows wait{left}"))
        return found


def recovery_line(collector: CollectorFigures) -> str | None:
    """Return how far the recovery of a collector's journal is; None if it is not being recovered."""
    recovery = collector.recovering
    if recovery is None:
        return None
    done, total = (f"{size / 1e6:,.0f}" for size in (recovery.done_bytes, recovery.total_bytes))
    left = "" if recovery.left_s is None else f", {_span(recovery.left_s)} left"
    bar = _bar(recovery.done_bytes, recovery.total_bytes)
    return f"{collector.name} recovers its journal {bar} {done} of {total} MB{left}"


def _bar(done: int, total: int) -> str:
    full = _BAR_CELLS * done // max(1, total)
    return f"{'█' * full}{'░' * (_BAR_CELLS - full)}"


def live_view(
    collectors: Sequence[CollectorFigures], rates: Rates, drains: Drains, height: int, width: int
) -> RenderableType:
    """Draw the view in a height: troubles, then streams with the troubled ones first, backlogs, calls to REST APIs.

    The last line is empty: the ``^C`` that a terminal echoes must not move the table.
    """
    wrong = troubles(collectors)
    above = [*_trouble_lines(wrong), *([Text()] if wrong else [])]
    rows = [cells[:-1] for collector in troubled_first(collectors, wrong) for cells in stream_rows(collector, rates)]
    recoveries = [Text(line) for line in map(recovery_line, collectors) if line is not None]
    below = [*recoveries[:_MOST_BARS], *drains.lines(collectors, rates.last)[:_MOST_BARS]]
    free = height - 3 - sum(_lines_of(text, width) for text in (*above, *below))
    shown = _one_line_each(rows[: max(_FEWEST_STREAMS, free)], width)
    if len(shown) < len(rows):
        more = counted(len(rows) - len(shown), "more stream")
        below.insert(0, Text(f"and {more}; to see some: api2db status --watch --only NAME", style="dim"))
    calls = call_rows(collectors)
    if calls and len(calls) + 2 <= free - len(shown):
        return Group(*above, drawn(HEAD[:-1], shown), *below, Text(), drawn(CALLS_HEAD, calls), Text())
    return Group(*above, drawn(HEAD[:-1], shown), *below, Text())


def trouble_line(trouble: Trouble) -> str:
    """Return what is wrong, where, for how long, and the next step."""
    where = " → ".join(filter(None, (trouble.collector, trouble.stream)))
    since = f" (for {_span(max(0.0, time.time() - trouble.since))})" if trouble.since else ""
    return f"{where}: {trouble.what}{since}. Next step: {trouble.next_step}."


def _trouble_lines(wrong: Sequence[Trouble]) -> Iterator[Text]:
    for trouble in wrong[:_MOST_TROUBLES]:
        yield Text(trouble_line(trouble), style="red" if trouble.severity == "error" else "yellow")
    if len(wrong) > _MOST_TROUBLES:
        yield Text(f"and {len(wrong) - _MOST_TROUBLES} more; see: api2db status", style="red")


def troubled_first(collectors: Sequence[CollectorFigures], wrong: Sequence[Trouble]) -> list[CollectorFigures]:
    """Return the collectors in the order of their worst troubles, then those without any."""
    places = {trouble.collector: place for place, trouble in reversed(list(enumerate(wrong)))}
    return sorted(collectors, key=lambda collector: places.get(collector.name, len(wrong)))


def _one_line_each(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Cut out the middle of streams' names that have no room: they differ at their ends.

    Where little is left of them, polls lose what failed and what was late, which the troubles say.
    """
    at, polls = HEAD.index("stream"), HEAD.index("polls")
    shown = [list(row) for row in rows]
    if _room_for_names(shown, width) < min(_FAIR_NAME, max((len(row[at]) for row in shown), default=0)):
        for row in shown:
            row[polls] = row[polls].partition(" (")[0]
    room = max(_SHORTEST_NAME, _room_for_names(shown, width))
    return [[*row[:at], _shortened(row[at], room), *row[at + 1 :]] for row in shown]


def _room_for_names(rows: Sequence[Sequence[str]], width: int) -> int:
    columns = zip(*[HEAD[:-1], *rows], strict=True)
    return width - sum(
        max(map(len, column)) + _GAP for name, column in zip(HEAD, columns, strict=False) if name != "stream"
    )


def _shortened(name: str, room: int) -> str:
    half = (room - 1) // 2
    return name if len(name) <= room else f"{name[: room - 1 - half]}…{name[-half:]}"


def _lines_of(text: Text, width: int) -> int:
    return max(1, -(-text.cell_len // max(1, width)))


def _span(seconds: float) -> str:
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s * 1.5:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _is_live(console: Console) -> bool:
    """Whether a table can be redrawn in the same place."""
    return console.is_terminal and not console.is_dumb_terminal
