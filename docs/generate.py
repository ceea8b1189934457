"""Generate docs/command_line.md, docs/types.md and docs/reliability.md.

The first is made from the command line, the second from the table of types, the third from the recorded tortures in
``benchmarks/reliability.json``.
"""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer.main
from typer import Typer

from api2db.targets.types import KINDS, TARGETS, Types, ValueKind, in_words

PAGE = Path(__file__).parent / "command_line.md"
TYPES_PAGE = Path(__file__).parent / "types.md"
RELIABILITY_PAGE = Path(__file__).parent / "reliability.md"
RELIABILITY_RECORD = Path(__file__).parents[1] / "benchmarks" / "reliability.json"
OPENING = "# Command line\n\n`make pages` generates this page from `api2db --help`.\n"

TYPES_OPENING = """# Types

`make pages` generates this page from the table of types in the code, which the targets themselves use. The test suite
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


RELIABILITY_OPENING = """# Reliability

`make pages` generates this page from `benchmarks/reliability.json`, the last recorded torture of each target with each
fault. `make reliability` records all of them again. [api2db torture](command_line.md#api2db-torture) does the same to
your own target.

A process puts numbered rows, and its stream delivers them into a table or folder. Each round injects the fault once; a
process that was killed is started again. At the end everything that waits is delivered. Then a checker, which shares no
code with delivery, reads the target with the database's own client library and compares it with the log of what was
acknowledged to the producer:

- *Lost*: rows that were acknowledged, and are neither in the target nor set aside with a reason.
- *Doubled*: rows that are there more than once.
- *Out of order*: rows behind one that was put later.
- *Altered*: rows that are not as they were put, or were never put.

| fault | what happens |
|---|---|
| kill | SIGKILL to the process that puts and delivers, 1 to 500 ms after a row was acknowledged |
| cut | its connections are reset after 10 bytes to 100 kB |
| lost-commit | the answer to a COMMIT is lost, and the connection reset |
| server-kill | SIGKILL to all processes of the server, which is then started again |
| disk-full | for up to 500 ms no file of the process can grow beyond a size |
| power-cut | the disk is copied while the process is frozen, without what was not synced; delivery continues there |
"""
NAMES = {
    "duckdb": "DuckDB",
    "sqlite": "SQLite",
    "shards": "Parquet shards",
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "mysql": "MySQL",
}
WRONG = ("missing", "doubled", "out_of_order", "altered")


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


def page_of_reliability(record: Sequence[dict[str, Any]]) -> str:
    """The whole page: all of the record in one table, then where and when it was made."""
    head = ["target", "fault", "rounds", "rows acknowledged", "lost", "doubled", "out of order", "altered"]
    rows = [[NAMES[each["target"]], each["fault"], each["rounds"], *_row_counts(each["rows"])] for each in record]
    sums = ["all", "", sum(each["rounds"] for each in record), *_row_counts(_summed(record))]
    table = [f"| {' | '.join(map(_cell, row))} |" for row in [*rows, sums]]
    places = dict.fromkeys(f"- {each['at']} at commit `{each['commit']}`: {each['machine']}" for each in record)
    marks = f"|{'---|' * 2}{'---:|' * (len(head) - 2)}"
    said = [RELIABILITY_OPENING, f"| {' | '.join(head)} |", marks, *table, "", "Recorded on:", "", *places, ""]
    return "\n".join(said)


def _row_counts(rows: dict[str, int]) -> list[int]:
    return [rows["acknowledged"], *(rows[what] for what in WRONG)]


def _summed(record: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {what: sum(each["rows"][what] for each in record) for what in ("acknowledged", *WRONG)}


def _cell(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def main() -> None:
    """Write the pages."""
    command_line = importlib.import_module("api2db.program")
    PAGE.write_text(page_of(command_line.app), encoding="utf-8")
    TYPES_PAGE.write_text(page_of_types(), encoding="utf-8")
    record = json.loads(RELIABILITY_RECORD.read_text(encoding="utf-8"))
    RELIABILITY_PAGE.write_text(page_of_reliability(record), encoding="utf-8")


if __name__ == "__main__":
    main()
