"""The live table of a started run in a notebook: HTML without scripts and widgets, replaced in its place."""

import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from api2db import hypertext
from api2db.app._background import Key
from api2db.app.figures import CollectorFigures, Rates, read_figures
from api2db.app.health import troubles
from api2db.app.live import recovery_line, trouble_line, troubled_first
from api2db.app.screen import HEAD, NUMBERS, lines_of, stream_rows
from api2db.texts import counted

logger = logging.getLogger("api2db.app")
_REFRESH_S: Final = 1.0
_PAUSE_OF_WORK: Final = 10  # so many times as long as a refresh has taken, at least
_MOST_STREAMS: Final = 50
_MOST_TROUBLES: Final = 5
View = tuple[str, str]


def view(state: str, keys: Sequence[Key], rates: Rates) -> View:
    """Return a run as HTML and as text: its state, what is wrong, and its streams with the troubled ones first.

    Args:
        state: In words.
        keys: Its collectors.
        rates: Rows per second; takes another sample.
    """
    collectors = _figures(keys)
    lines = lines_of(collectors, rates)
    wrong = troubles(collectors)
    rows = [cells[:-1] for each in troubled_first(collectors, wrong) for cells in stream_rows(each, rates)]
    parts = [hypertext.title(f"Run: {state}")]
    parts += [hypertext.paragraph(trouble_line(each), is_error=True) for each in wrong[:_MOST_TROUBLES]]
    if len(wrong) > _MOST_TROUBLES:
        parts.append(hypertext.paragraph(f"and {len(wrong) - _MOST_TROUBLES} more; see: api2db status"))
    parts += [hypertext.paragraph(line) for line in map(recovery_line, collectors) if line is not None]
    if rows:
        parts.append(hypertext.table(HEAD[:-1], rows[:_MOST_STREAMS], NUMBERS))
    if len(rows) > _MOST_STREAMS:
        more = counted(len(rows) - _MOST_STREAMS, "more stream")
        parts.append(hypertext.paragraph(f"and {more}; to see all: api2db status"))
    return hypertext.area(*parts), "\n".join([f"Run: {state}", *lines])


def show_in_notebook(see: Callable[[], View], ended: Callable[[float], bool]) -> threading.Thread | None:
    """Show a run below the cell that is being executed, and replace it in its place until the run has ended.

    Args:
        see: Returns the run as it is now.
        ended: Waits for the end of the run, at most so many seconds; returns whether it has ended.

    Returns:
        The thread that replaces it; None where no notebook is.
    """
    display = _display()
    if display is None:
        return None
    handle = display(_bundle(see()), raw=True, display_id=True)
    # In a copy of this context IPython knows which cell the display belongs to.
    work = contextvars.copy_context().run
    thread = threading.Thread(target=work, args=(_refresh, handle, see, ended), name="api2db-notebook")
    thread.start()
    return thread


def _refresh(handle: Any, see: Callable[[], View], ended: Callable[[float], bool]) -> None:
    shown, pause_s, has_ended = None, _REFRESH_S, False
    while not has_ended:
        has_ended = ended(pause_s)
        begun_s = time.monotonic()
        try:
            if (seen := see()) != shown:
                handle.update(_bundle(seen), raw=True)
                shown = seen
        except Exception:  # the edge of a thread's loop: a view that fails must not end the run, and is tried again
            logger.debug("the table of the run can't be shown", exc_info=True)
        pause_s = max(_REFRESH_S, _PAUSE_OF_WORK * (time.monotonic() - begun_s))


def _display() -> Callable[..., Any] | None:
    """IPython's display function in a notebook; None elsewhere: a terminal can't replace what it has shown."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    shell = get_ipython()
    return display if getattr(shell, "kernel", None) is not None else None


def _bundle(seen: View) -> dict[str, str]:
    html, text = seen
    return {"text/html": html, "text/plain": text}


def _figures(keys: Sequence[Key]) -> list[CollectorFigures]:
    homes = dict.fromkeys(home for home, _ in keys)
    return [each for home in homes for each in read_figures(home, {name for other, name in keys if other == home})]
