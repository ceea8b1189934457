"""The projects in examples/, as their READMEs say."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT
from tests.servers.nats import program

EXAMPLES = ROOT / "examples"
PROJECTS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and (path / "README.md").exists())

Ran = Callable[..., str]


@pytest.fixture
def ran(request: pytest.FixtureRequest, tmp_path: Path) -> Ran:
    """Runs a command in a copy of the example that the test is named after; gives what it prints."""
    name = next(project for project in PROJECTS if project in request.node.name)
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("STORE", "CACHE", "LOGS", "__pycache__"))
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"}

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, **environment, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return " ".join(ended.stdout.split())

    return run


def test_the_list_of_examples_has_each() -> None:
    said = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"]({project}/README.md)" in said for project in PROJECTS)
    assert len(PROJECTS) == 5


def test_github_issues_has_one_row_for_each_issue(ran: Ran) -> None:
    ran("-m", "api2db", "run", "--once")
    ran("-m", "api2db", "run", "--once")
    said = ran("look.py")
    assert "│ closed │" in said
    assert "│ open │" in said
    assert said.endswith("│ 0 │ └───────┘")


def test_ticker_is_queried(ran: Ran) -> None:
    ran("-m", "api2db", "run", "--once")
    said = ran("query.py", "--once")
    assert all(symbol in said for symbol in ("AAA", "BBB", "CCC"))


def test_iot_has_every_sensor_in_one_table(ran: Ran) -> None:
    ran("-c", "import main; main.Run(main.collectors[:10]).run(once=True)")
    said = ran("look.py")
    assert "│ 10 │" in said
    assert said.endswith("│ 0 │ └───────┘")


@pytest.mark.torture
def test_iot_has_all_sensors_in_one_table(ran: Ran) -> None:
    ran("-m", "api2db", "run", "--once")
    assert "│ 200 │" in ran("look.py")


def test_stores_compose_by_day_and_leave_no_small_file(ran: Ran) -> None:
    ran("-m", "api2db", "run", "--once")
    ran("-m", "api2db", "store", "readings", "--once")
    said = ran("look.py")
    assert "│ 2026-01-30 │ 240 │" in said
    assert "│ 2026-01-31 │ 260 │" in said
    assert said.endswith("small files left: 0")


@pytest.mark.torture
def test_cluster_has_every_number_once_when_a_worker_was_killed(ran: Ran) -> None:
    assert program()
    said = ran("show.py")
    assert said.count("rows, 0 twice, 0 missing") == 2
