"""Generate docs/command_line.md from the command line, and docs/types.md from the table of types."""

import importlib
from pathlib import Path
from typing import Any

import typer.main
from typer import Typer

from api2db.targets.types import KINDS, TARGETS, Types, ValueKind, in_words

PAGE = Path(__file__).parent / "command_line.md"
TYPES_PAGE = Path(__file__).parent / "types.md"
OPENING = "# Command line\n\n`make docs` generates this page from `api2db --help`.\n"

TYPES_OPENING = """# Types

`make docs` generates this page from the table of types in the code, which the targets themselves use. The test suite
loads every one of these types into every target and reads it back with the client that is named here. For BigQuery and
HeavyDB it uses its own servers, which are as strict as the real ones are known to be.

A missing value (None, NaN, NaT, NA) is NULL. A NaN in a float column of pandas is a missing value, as in pandas.
A value that a target can't hold is never changed to fit: its row is [rejected](operations.md#rejected-rows) with the
reason, and the others are loaded. There is one exception, which is noted here and logged once: if a column has a
resolution of microseconds, finer digits are cut. Every target rejects a row with text that holds half of a surrogate
pair, because that is not a character.

In an existing table, text is loaded into a column of another type if it is exactly a value of that type: numbers and
`true` and `false` as JSON writes them, dates and times in ISO 8601, with an offset if the column has a zone and without
one otherwise. See [which texts these are](streams.md#text-and-lists-into-columns-of-other-types), and what is loaded
into array columns. Tables that are created from text have text columns, unless the stream's
[`dtypes`](streams.md#dtypes) say otherwise.

An object of a subclass is stored as its value, at any depth of a cell: a `StrEnum` member as str, an `IntEnum` member
as int, a `defaultdict` as dict, a named tuple as list. Another Enum member is stored as its value, such as text. A path
or an IP address in a dict or list is text too. A float64 or category column of pandas with only missing values has no
type yet, like a column of None. A column of dates becomes a column of timestamps, at midnight, when the first timestamp
without a zone comes.

This table shows what frames may hold, and the Arrow type in which api2db carries it to every target:
"""


def page_of(app: Typer) -> str:
    """The whole page: a section for each command, groups before their commands."""
    return "\n".join([OPENING, *_sections(typer.main.get_command(app), "api2db")])


def _sections(command: Any, path: str) -> list[str]:
    sections = [_section(command, path)]
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            sections += _sections(child, f"{path} {name}")
    return sections


def _section(command: Any, path: str) -> str:
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    arguments = [param for param in shown if param.param_type_name == "argument"]
    options = [param for param in shown if param.param_type_name == "option"]
    tables = [_table("argument", arguments), _table("option", options)]
    return "\n".join([f"## `{path}`\n", f"{(command.help or '').strip()}\n", *(table for table in tables if table)])


def _table(kind: str, params: list[Any]) -> str:
    if not params:
        return ""
    rows = [f"| {_names(param)} | {_default(param)} | {_on_one_line(param.help or '')} |" for param in params]
    return "\n".join([f"| {kind} | default | what it does |", "|---|---|---|", *rows, ""])


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{param.metavar or param.name.upper()}`"
    return ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])


def _default(param: Any) -> str:
    if param.required:
        return "required"
    if param.default is None or callable(param.default):
        return ""
    return f"`{param.default}`"


def _on_one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def page_of_types() -> str:
    """The whole page: what frames hold, then a section for each target."""
    return "\n".join([TYPES_OPENING, *_head("in a frame", "carried as"), *_kinds(), "", *map(_target, TARGETS)])


def _head(*titles: str) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]


def _kinds() -> list[str]:
    return [f"| {kind.frame} | {_code(in_words(kind.type))} |" for kind in KINDS]


def _target(types: Types) -> str:
    rows = [
        f"| {kind.frame} | {_code(types.column(kind.type))} | {_read(types, kind)} |"
        for kind in KINDS
        if types.column(kind.type) is not None
    ]
    said = [f"- **Rejected**, row by row: {limit.says}." for limit in dict.fromkeys(types.limits)]
    if not types.has_mixed:
        said.append(
            "- **Rejected**, row by row: a number or a boolean in a column of mixed classes, where it looks like text."
        )
    if not types.signs_zero:
        said.append("- **Differs**: -0.0 is read back as 0.0.")
    if not types.has_nan:
        said.append("- **Differs**: a NaN of an Arrow table, which is distinct from null there, is stored as NULL.")
    if not types.has_empty_text:
        said.append("- **Differs**: empty text and empty bytes are stored as NULL.")
    said += [f"- {note}" for note in types.notes]
    said.append(f"- **Names of columns**: {types.names[0].lower()}{types.names[1:]}")
    head = _head("in a frame", "column", f"what `{types.client}` reads back")
    return "\n".join([f"## {types.target}\n", *head, *rows, "", *said, ""])


def _read(types: Types, kind: ValueKind) -> str:
    if kind.is_written:
        return "its text"
    cut = "; **digits below a microsecond are cut**" if types.cuts_nanoseconds(kind.type) else ""
    return f"{types.reads(kind.type)}{cut}"


def _code(name: str | None) -> str:
    return f"`{name}`" if name else "no column yet"


def main() -> None:
    """Write the pages."""
    command_line = importlib.import_module("api2db.program")
    PAGE.write_text(page_of(command_line.app), encoding="utf-8")
    TYPES_PAGE.write_text(page_of_types(), encoding="utf-8")


if __name__ == "__main__":
    main()
