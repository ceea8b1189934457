"""The page in a browser: rows arrive, a target dies and comes back, rows are rejected and put again."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from axe_core_python import selenium as axe
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from api2db import Stream2Sql
from tests.servers.processes import free_port
from tests.stream.eventually import eventually
from tests.web.browser import CHROMIUM, DRIVER, browser, console, requested, resize
from tests.web.conftest import Page

pytestmark = pytest.mark.skipif(
    not (Path(CHROMIUM).exists() and Path(DRIVER).exists()), reason="Debian's chromium and chromium-driver are missing"
)
Serve = Callable[..., Page]
SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


def text_of(driver: Chrome) -> str:
    return driver.find_element(By.TAG_NAME, "main").text


def sees(driver: Chrome, *wanted: str) -> None:
    eventually(lambda: all(text in text_of(driver) for text in wanted), 30)


def put(stream: Stream2Sql, rows: list[dict[str, object]]) -> None:
    stream.q.put(pd.DataFrame(rows))
    assert stream.flush(20)


def test_rows_arrive_without_a_reload(serve: Serve, tmp_path: Path, driver: Chrome) -> None:
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path) as stream:
        put(stream, [{"id": number} for number in range(1234)])
        page = serve(tmp_path)
        driver.get(f"{page.url}/")
        sees(driver, "Nothing is wrong.", "1,234", "running")
        put(stream, [{"id": number} for number in range(4321)])
        sees(driver, "5,555")
        driver.get(f"{page.url}/#/collector/cities")
        put(stream, [{"id": 77, "name": "Ulm"}])
        sees(driver, "Newest rows, as they were put", "Ulm", "Changes of the schema")
        sees(driver, "name", "new")
    sees(driver, "stopped")


def test_a_target_that_dies_stands_on_top_until_it_is_back(serve: Serve, tmp_path: Path, driver: Chrome) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    stream = Stream2Sql("cities", str(folder / "cities.sqlite"), "sqlite", home=tmp_path)
    with stream:
        put(stream, [{"id": 1}])
        page = serve(tmp_path)
        driver.get(f"{page.url}/")
        sees(driver, "Nothing is wrong.")
        with closing(sqlite3.connect(folder / "cities.sqlite")) as other:
            other.execute("BEGIN EXCLUSIVE")
            stream.q.put(pd.DataFrame({"id": [2]}))
            sees(driver, "Error: cities", "Next step: rows wait in the journal")
            assert text_of(driver).startswith("Health\nError: cities")
        sees(driver, "Nothing is wrong.")


@pytest.fixture
def rejecting(tmp_path: Path) -> Iterator[Stream2Sql]:
    with closing(sqlite3.connect(tmp_path / "cities.sqlite")) as database:
        database.execute("CREATE TABLE cities (id INTEGER, name TEXT NOT NULL)")
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path, schema="freeze") as stream:
        put(stream, [{"id": 1, "name": "Ulm"}, {"id": 2, "name": None}])
        put(stream, [{"id": 3, "name": None}])
        yield stream


def test_rejected_rows_are_shown_put_again_and_dropped(
    serve: Serve, tmp_path: Path, driver: Chrome, rejecting: Stream2Sql
) -> None:
    page = serve(tmp_path)
    driver.get(f"{page.url}/")
    sees(driver, "Warning: cities", "2 rows rejected")
    driver.get(f"{page.url}/#/rejected")
    sees(driver, "NOT NULL constraint failed")
    driver.find_element(By.ID, "show-0").click()
    sees(driver, "_api2db_reason")
    with closing(sqlite3.connect(tmp_path / "cities.sqlite")) as database, database:
        database.execute("DROP TABLE cities")
        database.execute("CREATE TABLE cities (id INTEGER, name TEXT)")
    driver.find_element(By.ID, "retry-0").click()
    sees(driver, "1 row put again.")
    assert rejecting.flush(20)
    driver.find_element(By.ID, "drop-0").click()
    driver.switch_to.alert.dismiss()
    assert rejecting.status().rows_rejected == 1
    driver.find_element(By.ID, "drop-0").click()
    driver.switch_to.alert.accept()
    sees(driver, "1 row deleted.", "There are no rejected rows.")
    assert rejecting.status().rows_rejected == 0


def test_foreign_text_is_never_markup(serve: Serve, tmp_path: Path, driver: Chrome) -> None:
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as database:
        database.execute(
            f'CREATE TABLE x (id INTEGER, "{SCRIPT}" TEXT, "{IMAGE.replace(chr(34), chr(34) * 2)}" INTEGER)'
        )
    with Stream2Sql(f"{IMAGE[:12]}>", "x.sqlite", "sqlite", home=tmp_path, table="x", schema="freeze") as stream:
        put(stream, [{"id": 1, SCRIPT: IMAGE, IMAGE: 1}, {"id": 2, SCRIPT: SCRIPT, IMAGE: IMAGE}])
        stream_name = stream.identity
        page = serve(tmp_path)
        driver.get(f"{page.url}/")
        sees(driver, "1 row rejected")
        driver.find_element(By.CSS_SELECTOR, "td.name a").click()
        sees(driver, SCRIPT, IMAGE, stream_name)
        driver.get(f"{page.url}/#/rejected")
        sees(driver, "Retry")
        driver.find_element(By.ID, "show-0").click()
        sees(driver, IMAGE)
        assert driver.title != "owned"
        assert not driver.find_elements(By.CSS_SELECTOR, "main script, main img")


@pytest.fixture
def quiet(driver: Chrome) -> Iterator[Chrome]:
    """The browser, without what it has logged so far; gets its usual size back."""
    driver.get("about:blank")
    console(driver)
    requested(driver)
    yield driver
    resize(driver)


def test_every_view_is_usable_and_asks_no_other_host(
    serve: Serve, tmp_path: Path, rejecting: Stream2Sql, quiet: Chrome
) -> None:
    page = serve(tmp_path)
    for path, wanted in (("", "Streams"), ("collector/cities", "Columns"), ("rejected", "Retry")):
        quiet.get("about:blank")
        quiet.get(f"{page.url}/#/{path}")
        sees(quiet, wanted)
        for width, scheme in product((400, 900, 1600), ("light", "dark")):
            resize(quiet, width, scheme)
            name = f"{path.replace('/', '-') or 'overview'}-{width}-{scheme}"
            assert quiet.execute_script("return document.documentElement.scrollWidth") <= width, name
            if (width == 900) == (scheme == "dark"):  # each width and each scheme once: axe takes a second
                found = axe.Axe().run(quiet)["violations"]
                assert [each["help"] for each in found if each["impact"] in {"serious", "critical"}] == [], name
            quiet.save_screenshot(str(tmp_path / f"{name}.png"))
    assert console(quiet) == []
    assert {url for url in requested(quiet) if not url.startswith((page.url, "about:", "data:"))} == set()


def test_the_keyboard_reaches_everything(serve: Serve, tmp_path: Path, driver: Chrome, rejecting: Stream2Sql) -> None:
    page = serve(tmp_path)
    driver.get("about:blank")
    driver.get(f"{page.url}/#/rejected")
    sees(driver, "Retry")
    reached = []
    for _ in range(12):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(driver.switch_to.active_element.text)
    assert {"Overview", "Rejected rows", "Rows", "Retry", "Drop"} <= set(reached)


def test_a_page_reconnects_by_itself(serve: Serve, tmp_path: Path, driver: Chrome) -> None:
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path) as stream:
        put(stream, [{"id": 1}])
        port = free_port()
        page = serve(tmp_path, port=port)
        driver.get(f"{page.url}/")
        sees(driver, "Nothing is wrong.")
        page.end()
        status = driver.find_element(By.ID, "connection")
        eventually(lambda: "not connected" in status.text, 30)
        serve(tmp_path, port=port)
        eventually(lambda: status.text == "live", 60)
        put(stream, [{"id": number} for number in range(998)])
        sees(driver, "999")


def test_the_document_is_json_without_anything_that_json_lacks(serve: Serve, tmp_path: Path) -> None:
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path) as stream:
        put(stream, [{"id": 2**63 - 1, "value": float("inf")}])
        page = serve(tmp_path)

        def rows() -> Any:
            document = json.loads(page.get("/api/collectors/cities").text, parse_constant=pytest.fail)
            return document["streams"][0]["rows"]

        [row] = eventually(rows)  # the worker notes them just after flush may return
    assert row == {"id": str(2**63 - 1), "value": "inf"}


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="not Debian")
def test_debian_has_the_browser() -> None:
    assert Path(CHROMIUM).exists(), "make test installs it, as root"
