"""The parts of a Markdown page that can be held against the code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))] if path.exists()]

FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<text>.*?)^ *(?P=fence)[`~]*\s*$",
    re.MULTILINE | re.DOTALL,
)
HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)
IN_BACKTICKS = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, what its fence says, and its lines."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{self.line}"


@dataclass(frozen=True)
class OptionRow:
    """A row of an options table: the heading that it stands under, the option, and its default as written."""

    page: Path
    heading: str
    option: str
    default: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.heading}:{self.option}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        lines = [line.removeprefix(found["indent"]) for line in found["text"].splitlines()]
        yield Block(page, text.count("\n", 0, found.start()) + 1, found["info"].strip(), "\n".join(lines) + "\n")


def commands(block: Block) -> list[str]:
    """The lines of a shell block that call api2db, without prompt and path."""
    joined = block.text.replace("\\\n", " ")
    called = re.findall(r"^(?:\$ )?(?:\S*/)?(api2db(?:[ \t].*)?)$", joined, re.MULTILINE)
    return [line.strip() for line in called]


def option_rows(page: Path) -> Iterator[OptionRow]:
    """The rows of each table whose head begins with option and default."""
    heading, in_table = "", False
    for line in FENCE.sub("", page.read_text(encoding="utf-8")).splitlines():
        if found := HEADING.match(line):
            heading = found["text"]
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []
        if cells[:2] == ["option", "default"]:
            in_table = True
        elif not cells:
            in_table = False
        elif in_table and set(cells[0]) - set("-: "):
            yield from _rows(page, heading, cells)


def _rows(page: Path, heading: str, cells: list[str]) -> Iterator[OptionRow]:
    for option in IN_BACKTICKS.findall(cells[0]) or [cells[0]]:
        yield OptionRow(page, heading, option, cells[1].strip("`"))
