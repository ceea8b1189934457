"""Each command of the program: its help, its example, and how its errors look."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from api2db.program import app
from tests.app.commands import Command, command_of
from tests.docs.agreement import disagreement_of_command

PROGRAM = typer.main.get_command(app)


def walked(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walked(child, (*path, name))


ALL = dict(walked(PROGRAM))


@pytest.fixture
def api2db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return command_of(monkeypatch, capfd)


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "api2db")
def test_each_command_has_help_with_an_example_that_it_understands(api2db: Command, path: tuple[str, ...]) -> None:
    ended = api2db(*path, "--help")
    assert ended.code == 0
    assert all(param.help for param in ALL[path].params if param.name not in {"install_completion", "show_completion"})
    found = re.search(r"Example: (api2db .+)", ALL[path].help)
    assert found, f"the help of {' '.join(path)} has no example"
    assert found[1].split()[0] in ended.out
    for line in found[1].split(" && "):
        if line.startswith("api2db"):
            assert (problem := disagreement_of_command(line, PROGRAM)) is None, problem
    assert path == () or " ".join(path) in found[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_click_s_own(api2db: Command, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_API2DB_COMPLETE", f"source_{shell}")
    ended = api2db()
    assert ended.code == 0
    assert "_API2DB_COMPLETE" in ended.out


@pytest.mark.parametrize("where", ["before", "behind"])
def test_an_error_is_one_line_and_has_its_traceback_only_with_debug(api2db: Command, where: str) -> None:
    ended = api2db("run", "nowhere.py")
    assert ended.code == 2
    assert ended.error.startswith("api2db: there is no file nowhere.py; ")
    assert ended.error.count("\n") == 1
    debugged = api2db("--debug", "run", "nowhere.py") if where == "before" else api2db("run", "nowhere.py", "--debug")
    assert debugged.code == 2
    assert debugged.error.startswith("Traceback (most recent call last)")
    assert debugged.error.endswith(ended.error)


def test_an_unforeseen_error_is_one_line_too(api2db: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **options: object) -> bool:
        raise KeyError("password=geheim")

    monkeypatch.setattr("api2db.app._storing.compose_folder", fail)
    ended = api2db("compose", "folder")
    assert ended.code == 1
    assert ended.error.startswith("api2db: KeyError")
    assert ended.error.count("\n") == 1
    assert "api2db --debug" in ended.error
    assert "geheim" not in ended.error
