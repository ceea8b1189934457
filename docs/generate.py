"""Writes docs/command_line.md from the command line itself, so that the two can't disagree."""

import importlib
from pathlib import Path
from typing import Any

import typer.main
from typer import Typer

PAGE = Path(__file__).parent / "command_line.md"
OPENING = "# Command line\n\nWritten by `make docs` from what `api2db --help` says.\n"


def page_of(app: Typer) -> str:
    """The whole page: a section a command, groups before what they hold."""
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


def main() -> None:
    """Write the page."""
    command_line = importlib.import_module("api2db.app.command_line")
    PAGE.write_text(page_of(command_line.app), encoding="utf-8")


if __name__ == "__main__":
    main()
