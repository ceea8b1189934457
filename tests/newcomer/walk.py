"""A page's commands and files, done in order in an empty folder, as a newcomer does them.

A block ``console`` is a list of commands. A block with ``title="FILE"`` is a file to save; a block ``diff`` with a
title changes lines of that file. All other blocks are for reading. Commands share one shell, so ``cd`` lasts.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.docs.markdown import Block, blocks

BRIEFLY: Final = f"{sys.executable} {Path(__file__).with_name('briefly.py')}"
_TITLE: Final = re.compile(r'title="([^"]+)"')
_MARK: Final = "@@"


@dataclass(frozen=True)
class Step:
    """A command, or a file to save.

    Attributes:
        file: The file's name; None for a command.
    """

    text: str
    file: str | None = None

    def __str__(self) -> str:
        return f"save {self.file}" if self.file else self.text


def steps(page: Path) -> Iterator[Step]:
    """The commands and files of a page, in order."""
    saved: dict[str, str] = {}
    for block in blocks(page):
        kind = block.info.partition(" ")[0]
        titled = _TITLE.search(block.info)
        if kind == "console":
            joined = block.text.replace("\\\n", " ")
            yield from (Step(line) for line in joined.splitlines() if line.strip())
        elif titled:
            name = titled[1]
            saved[name] = _changed(saved[name], block) if kind == "diff" else block.text
            yield Step(saved[name], name)


def _changed(text: str, block: Block) -> str:
    lines = block.text.splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if line.startswith("-"))
    new = "".join(f"{line[1:]}\n" for line in lines if line.startswith("+"))
    assert text.count(old) == 1, f"{block}: these lines are not in the file once"
    return text.replace(old, new)


def walk(page: Path, folder: Path, commands: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Do all that a page says, in a folder; return what was printed, with the seconds that each step took.

    Args:
        page: The page.
        folder: An empty folder.
        commands: What to run in place of commands that begin with a text. Others are run as they are.
        environment: Variables for the commands, beside those of this process.
    """
    room = folder.with_name(f"{folder.name}-files")
    room.mkdir()
    script = "\n".join(["set -euo pipefail", *_lines(page, room, commands)])
    began = {**os.environ, "HOME": str(folder), **environment}
    ended = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=began, capture_output=True, text=True, check=False, timeout=900
    )
    assert ended.returncode == 0, f"{page.name} can't be followed:\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def _lines(page: Path, room: Path, commands: Mapping[str, str]) -> Iterator[str]:
    for number, step in enumerate(steps(page)):
        yield f"echo {_MARK} $SECONDS s: {shlex.quote(str(step))}"
        if step.file:
            kept = room / str(number)
            kept.write_text(step.text, encoding="utf-8")
            yield f"install -m 644 -D {kept} {shlex.quote(step.file)}"
        else:
            yield next((run for begin, run in commands.items() if step.text.startswith(begin)), step.text)
    yield f"echo {_MARK} $SECONDS s: done"


def times(printed: str) -> list[str]:
    """The steps with the seconds after which each began."""
    return [line.removeprefix(f"{_MARK} ") for line in printed.splitlines() if line.startswith(_MARK)]
