"""Progress bars of long commands: on a terminal only, with a rate and the time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from api2db.progress import Watcher, watched

_SHORTEST_S: Final = 0.5  # shorter work shows no bar
_STEP_S: Final = 0.1  # between two updates


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Show how many things a second are done."""
        return Text("" if task.speed is None else f"{task.speed:,.0f}/s", style="progress.data.speed")


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Show how many of how many things are done."""
        return Text("" if task.total is None else f"{task.completed:,.0f} of {task.total:,.0f}")


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Watcher]:
    """Show how far the block is; ``api2db.progress`` tells, or whoever calls what this yields.

    Lines that are printed meanwhile stand above the bar, which disappears at the end. Where the output is no terminal,
    nothing is shown.
    """
    shown = Console() if console is None else console
    if not shown.is_terminal or shown.is_dumb_terminal:
        yield lambda _step, _done, _total: None
        return
    bar = _Bar(shown)
    try:
        with watched(bar.tell):
            yield bar.tell
    finally:
        bar.stop()


class _Bar:
    """The bar of the step that is under way."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), _Count(), _Rate(), TimeRemainingColumn(compact=True))
        self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=4)
        self._task = self._progress.add_task("", total=None)
        self._step = ""
        self._begun_s = self._told_s = time.monotonic()

    def tell(self, step: str, done: int, total: int) -> None:
        """Show how far a step is, not more often than can be seen."""
        now_s = time.monotonic()
        if now_s - self._begun_s >= _SHORTEST_S and not self._progress.live.is_started:
            self._progress.start()
        if step != self._step:
            self._step = step
            self._progress.reset(self._task, description=step, total=total or None, completed=done)
        elif now_s - self._told_s >= _STEP_S or done >= total:
            self._progress.update(self._task, completed=done, total=total or None)
        else:
            return
        self._told_s = now_s

    def stop(self) -> None:
        """Remove it."""
        self._progress.stop()
