"""Docs, --help and code agree. What does not exist yet is not held against anything; once it does, it is."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from docs.generate import (
    PAGE,
    RELIABILITY_PAGE,
    RELIABILITY_RECORD,
    TYPES_PAGE,
    page_of,
    page_of_reliability,
    page_of_types,
)
from tests.docs.agreement import class_of_heading, disagreement_of_command, disagreement_of_option, options_left_out
from tests.docs.markdown import PAGES, ROOT, Block, OptionRow, blocks, commands, option_rows
from tests.docs.program_server import ProgramServer

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [(block, line) for block in BLOCKS if block.info.partition(" ")[0] != "python" for line in commands(block)]
PYTHON = [block for block in BLOCKS if block.info.partition(" ")[0] in {"python", "py"}]
RUN = [block for block in PYTHON if "run" in block.info.split()[1:]]
OPTIONS = [row for page in PAGES if page != PAGE for row in option_rows(page)]


def exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def the_command_line() -> Any:
    return typer.main.get_command(importlib.import_module("api2db.program").app)


def the_classes() -> dict[str, type]:
    """The classes of api2db.stream, and the others that api2db itself offers."""
    rooms = [importlib.import_module(name) for name in ("api2db", "api2db.stream") if exists(name)]
    return {name: value for room in rooms for name in dir(room) if isinstance(value := getattr(room, name), type)}


def numbered(pair: tuple[Block, str]) -> str:
    block, line = pair
    return f"{block}: {line}"


@pytest.mark.parametrize("pair", sorted(set(map(numbered, COMMANDS))))
def test_a_command_in_the_docs_exists_with_its_options(pair: str) -> None:
    assert (problem := disagreement_of_command(pair.partition(": ")[2], the_command_line())) is None, problem


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_in_the_docs_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.fixture(scope="module")
def programs() -> Iterator[ProgramServer]:
    server = ProgramServer()
    yield server
    server.close()


@pytest.mark.parametrize("block", RUN, ids=str)
def test_python_that_the_docs_say_runs_does_so_in_an_empty_home(
    block: Block, tmp_path: Path, programs: ProgramServer
) -> None:
    program = tmp_path / "main.py"
    program.write_text(block.text, encoding="utf-8")
    assert (failure := programs.run(program)) is None, failure


@pytest.mark.torture
@pytest.mark.parametrize("block", RUN, ids=str)
def test_python_that_the_docs_say_runs_needs_no_other_import(block: Block, tmp_path: Path) -> None:
    program = tmp_path / "main.py"
    program.write_text(block.text, encoding="utf-8")
    environment = os.environ | {"API2DB_HOME": str(tmp_path), "HOME": str(tmp_path), "PYTHONWARNINGS": "error"}
    ended = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(not exists("api2db.program"), reason="there is no command line yet")
def test_the_page_on_the_command_line_says_what_help_says() -> None:
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    app = importlib.import_module("api2db.program").app
    assert written == page_of(app), f"{PAGE.relative_to(ROOT)} is stale: make pages"


def test_the_page_on_types_says_what_the_code_does() -> None:
    written = TYPES_PAGE.read_text(encoding="utf-8") if TYPES_PAGE.exists() else ""
    assert written == page_of_types(), f"{TYPES_PAGE.relative_to(ROOT)} is stale: make pages"


def test_the_page_on_reliability_says_what_was_recorded() -> None:
    record = json.loads(RELIABILITY_RECORD.read_text(encoding="utf-8"))
    written = RELIABILITY_PAGE.read_text(encoding="utf-8")
    assert written == page_of_reliability(record), f"{RELIABILITY_PAGE.relative_to(ROOT)} is stale: make pages"


@pytest.mark.parametrize("row", OPTIONS, ids=str)
def test_an_option_in_the_docs_is_one_of_the_class_with_that_default(row: OptionRow) -> None:
    assert (problem := disagreement_of_option(row, the_classes())) is None, problem


@pytest.mark.parametrize("heading", sorted({row.heading for row in OPTIONS}))
def test_a_table_of_options_leaves_none_out(heading: str) -> None:
    described = class_of_heading(heading, the_classes())
    assert described is not None, f"no class in the heading {heading!r}"
    assert options_left_out(described, OPTIONS, the_classes()) == []
