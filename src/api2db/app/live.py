"""The live view of a run: a table that is redrawn twice a second, or plain lines every few seconds."""

import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live

from api2db.app.figures import Rates, read_figures
from api2db.app.screen import is_live, lines_of, live_figures

_REFRESH_S: Final = 0.5
_PLAIN_S: Final = 5.0


class LiveView:
    """Shows the figures of a home while the block runs. It only reads, so any process may show it.

    Args:
        home: The project's folder.
        console: Shows a table on a terminal, otherwise plain lines every few seconds.
        names: The collectors to show; all by default.
    """

    def __init__(self, home: Path, console: Console, names: Collection[str] | None = None) -> None:
        self._home = home
        self._console = console
        self._names = names
        self._rates = Rates()
        self._ended = threading.Event()
        self._live = Live(console=console, auto_refresh=False) if is_live(console) else None
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
        live.update(live_figures(read_figures(self._home, self._names), self._rates), refresh=True)

    def _print(self) -> None:
        for line in lines_of(read_figures(self._home, self._names), self._rates):
            self._console.out(line, highlight=False)
