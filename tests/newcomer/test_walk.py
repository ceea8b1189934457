"""README and tutorial as a newcomer follows them: every command and file, in order, in an empty folder."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT
from tests.newcomer.walk import BRIEFLY, Step, steps, times, walk
from tests.servers.server import Server

README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
# The environment that runs the tests stands for the one that these make.
INSTALLED = {"git clone": ":", "python3 -m venv": ":", "pip install": ":"}
UNTIL_CTRL_C = {"api2db run --once": "api2db run --once", "api2db run": f"{BRIEFLY} api2db run"}
CLONED = {"git clone <this repository>": f"git clone --quiet {ROOT} api2db"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture
def installed() -> Mapping[str, str]:
    """The environment in which this very api2db is installed."""
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    return {**paths, "PYTHONWARNINGS": "error", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture
def bare() -> Mapping[str, str]:
    """An environment in which nothing is installed."""
    return {"PATH": f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": ""}


@pytest.fixture
def database(postgresql: Server) -> str:
    return postgresql.new_database()


@pytest.fixture
def tutorial(tmp_path: Path, postgresql: Server, database: str) -> Path:
    """The tutorial with the address of a server that there is."""
    text = TUTORIAL.read_text(encoding="utf-8")
    for said, there in {
        '"localhost"': f'"{postgresql.host}"',
        "5432": str(postgresql.port),
        '"postgres"': f'"{postgresql.user}"',
        'db_name="shop"': f'db_name="{database}"',
    }.items():
        assert said in text
        text = text.replace(said, there)
    page = tmp_path / TUTORIAL.name
    page.write_text(text, encoding="utf-8")
    return page


def check_readme(printed: str) -> None:
    assert "count_star()" in printed
    assert "duckdb:shop.duckdb#orders" in printed


def check_tutorial(printed: str, server: Server, database: str) -> None:
    """Look at the table to which the tutorial leads: the hour before, and the orders since the last change."""
    [(rows, ids, early)] = server.execute(
        "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE created_at < '2026-01-01') FROM orders", database
    )
    assert (rows, early) == (ids, 3599)
    assert rows > early
    assert "does not fit the column's type DOUBLE" in " ".join(printed.split())


def test_the_readme_gives_rows_in_a_table(folder: Path, installed: Mapping[str, str]) -> None:
    check_readme(walk(README, folder, INSTALLED, installed))


@pytest.mark.torture  # two dozen commands, each an interpreter of its own
def test_the_tutorial_leads_from_an_empty_folder_to_postgresql(
    tutorial: Path, folder: Path, installed: Mapping[str, str], postgresql: Server, database: str
) -> None:
    environment = {**installed, "PGPASSWORD": postgresql.password}
    check_tutorial(walk(tutorial, folder, INSTALLED | UNTIL_CTRL_C, environment), postgresql, database)


@pytest.mark.torture
def test_the_readme_can_be_followed_where_nothing_is_installed(
    folder: Path, bare: Mapping[str, str], record_property: Callable[[str, object], None]
) -> None:
    printed = walk(README, folder, CLONED, bare)
    record_property("said", "README:\n" + "\n".join(times(printed)))
    check_readme(printed)


@pytest.mark.torture
def test_the_tutorial_can_be_followed_where_nothing_is_installed(
    tutorial: Path,
    folder: Path,
    bare: Mapping[str, str],
    postgresql: Server,
    database: str,
    record_property: Callable[[str, object], None],
) -> None:
    printed = walk(tutorial, folder, CLONED | UNTIL_CTRL_C, {**bare, "PGPASSWORD": postgresql.password})
    record_property("said", "tutorial:\n" + "\n".join(times(printed)))
    check_tutorial(printed, postgresql, database)


def test_a_page_is_read_in_order(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '```python run title="a.py"\nx = 1\n```\n```console\npython a.py\n```\n```text\nnothing\n```\n'
        '```diff title="a.py"\n-x = 1\n+x = 2\n```\n',
        encoding="utf-8",
    )
    assert list(steps(page)) == [Step("x = 1\n", "a.py"), Step("python a.py"), Step("x = 2\n", "a.py")]


def test_a_page_that_fails_is_named_with_its_step(tmp_path: Path, folder: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\ntrue\nfalse\ntrue\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"page.md can't be followed:\n@@ 0 s: true\n@@ 0 s: false\n$"):
        walk(page, folder, {}, {})
