"""``make screenshot``: the live page of a small shop as docs/live_page.svg, a picture that needs no binary file.

    python -m tests.web.screenshot [FILE]

Chromium renders the page. Its elements and its style sheet become an SVG image without scripts, links and other files.
"""

import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pandas as pd
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from api2db import Stream2Local, Stream2Sql
from api2db.app.figures import CollectorFigures, read_figures
from api2db.app.history import MINUTES, History
from api2db.delivery import _worker as worker
from api2db.frames import to_batch
from api2db.ingest.status import LiveStatus
from api2db.journal import journal_store
from tests.servers.processes import free_port
from tests.stream.eventually import eventually
from tests.web.browser import browser
from tests.web.conftest import Page

DEFAULT = Path(__file__).parents[2] / "docs" / "live_page.svg"
WIDTH = 1320
ROWS = {"orders": 6_310, "weather": 288, "payments": 1_240}
_SPAN_S = MINUTES.step_s * MINUTES.slots
_SPARE = 30  # pixels below, for fonts that are wider than this machine's
_AS_XML = """
    const page = document.body.cloneNode(true);
    page.querySelectorAll('script, noscript, .skip').forEach((each) => each.remove());
    page.querySelectorAll('*').forEach((each) => ['href', 'tabindex', 'id', 'role'].forEach((name) => {
      if (!(name === 'id' && each.id === 'connection')) each.removeAttribute(name);
    }));
    return new XMLSerializer().serializeToString(page);
"""
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<title>The live page of api2db</title>
<style>
{style}
</style>
<foreignObject width="{width}" height="{height}">
{page}
</foreignObject>
</svg>
"""


def main(arguments: list[str]) -> None:
    """Write the picture."""
    file = Path(arguments[0]) if arguments else DEFAULT
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "shop"
        home.mkdir()
        # Else the rows would be parked before the page shows that they wait.
        slowly = patch.object(worker, "_FIRST_PAUSE_S", worker._LONGEST_PAUSE_S)
        with browser(WIDTH) as driver, slowly, _shop(home) as polled:
            page = Page(home, "127.0.0.1", free_port())
            try:
                driver.get(f"{page.url}/")
                _put(home, "payments", ROWS["payments"])  # last: after half a minute they would be parked
                eventually(lambda: _is_well(driver, polled), 60)
                picture = _as_svg(driver, page)
            finally:
                page.end()
    file.write_text(picture, encoding="utf-8")


def _is_well(driver: Chrome, polled: Callable[[], None]) -> bool:
    """Whether the page shows the young polls, and as failing the one stream whose rows wait."""
    polled()
    shown = driver.find_element(By.TAG_NAME, "main").text
    return "can't be reached" in shown and shown.count("failing") == 1 and "late" not in shown and "parked" not in shown


def _as_svg(driver: Chrome, page: Page) -> str:
    height = int(driver.execute_script("return document.querySelector('main').getBoundingClientRect().bottom")) + _SPARE
    xml = str(driver.execute_script(_AS_XML))
    return _SVG.format(width=WIDTH, height=height, style=_light(page.get("/static/style.css").text), page=xml)


def _light(style: str) -> str:
    """The style sheet with its light colours alone, and with underlined links, which have no address in a picture."""
    before, _, rest = style.partition("@media (prefers-color-scheme: dark)")
    _, _, after = rest.partition("\n}\n")
    return f"{before}{after}a {{ text-decoration: underline; }}".replace("light dark", "light")


@contextmanager
def _shop(home: Path) -> Iterator[Callable[[], None]]:
    """Collectors that deliver, one whose database does not answer, and the curves of a quarter of an hour.

    Gives the function that makes their polls as young as those of a run.
    """
    unreachable = {"host": "127.0.0.1", "port": "5439", "username": "shop", "password": "x"}
    streams = (
        Stream2Sql("orders", "STORE/shop.duckdb", "duckdb", home=home, keys=["id"]),
        Stream2Local("orders", home=home),
        Stream2Sql("weather", "STORE/weather.sqlite", "sqlite", home=home),
        Stream2Sql("payments", "shop", "postgresql", home=home, **unreachable),  # type: ignore[arg-type]
    )
    statuses = [LiveStatus(name, seconds) for name, seconds in (("orders", 1), ("weather", 60), ("payments", 5))]
    with ExitStack() as stack:
        for stream in streams:
            stream.start()
            stack.callback(stream.stop, 5)
        for name in ("orders", "weather"):
            _put(home, name, ROWS[name])
        eventually(lambda: _delivered(home) == [0, ROWS["weather"], ROWS["orders"], ROWS["orders"]], 60)
        _draw_curves(home)

        def polled() -> None:
            for status in statuses:
                _publish(status, home)

        yield polled


def _delivered(home: Path) -> list[int]:
    """The rows that each stream has delivered, as all readers see them."""
    return sorted(stream.rows_delivered for collector in read_figures(home) for stream in collector.streams)


def _put(home: Path, name: str, rows: int) -> None:
    """Put for all streams of a collector, as a poll does."""
    handle = journal_store(home).open(name)
    for begin in range(0, rows, 1_000):
        numbers = range(begin, min(begin + 1_000, rows))
        frame = {"id": numbers, "total": [number % 97 / 4 for number in numbers]}
        handle.journal.append([to_batch(pd.DataFrame(frame))])
    handle.release()


def _publish(status: LiveStatus, home: Path) -> None:
    status.publish_in(home)
    polls = int(_SPAN_S / status.figures.interval_s)
    figures = {"calls": polls, "not_modified": polls // 9, "waited_s": 0}
    status.note(polls=polls - status.figures.polls, polled_at=time.time(), figures=figures)
    status.poll_ended(0 if status.figures.rows else ROWS[status.figures.name], None)
    status.publish()


def _draw_curves(home: Path) -> None:
    """Samples of a quarter of an hour, as a run would have kept them: the rows have just been delivered at once."""
    history, found, now_s = History(home), read_figures(home), time.time()
    for at in range(0, _SPAN_S, MINUTES.step_s):
        history.add([_earlier(collector, at / _SPAN_S) for collector in found], now_s - _SPAN_S + at)


def _earlier(collector: CollectorFigures, part: float) -> CollectorFigures:
    wave = part + math.sin(part * 25) / 80 + random.Random(part).random() / 400
    streams = [replace(stream, rows_delivered=int(stream.rows_delivered * wave)) for stream in collector.streams]
    return replace(collector, streams=tuple(streams))


if __name__ == "__main__":
    main(sys.argv[1:])
