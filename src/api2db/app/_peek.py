"""Show what an API gives, and how it might be polled."""

import json
from collections.abc import Sequence

import pyarrow as pa
from rich.console import Console

from api2db.app.screen import print_table
from api2db.errors import ConfigurationError
from api2db.frames import is_json
from api2db.ingest.counts import counted
from api2db.rest import peek as peeks
from api2db.targets.types import TARGETS, Types

_LONGEST = 40


def show_peek(url: str, auth: str | None, target: str) -> None:
    """Ask for a URL once, and print records, guesses, the table, and a program.

    Raises:
        ConfigurationError: An argument can't be used.
        PollError: The API gives no list.
    """
    types = _types(target)
    found = peeks.peek(url, auth)
    console = Console(soft_wrap=True)
    console.print(f"{counted(len(found.rows), 'record')}\n", highlight=False)
    rows = [[field.name, _type_name(field.type), _sample(found.rows, field.name)] for field in found.schema]
    print_table(console, ("column", "type", "sample"), rows)
    console.print()
    guesses = [[name, guess.code, guess.why] for name, guess in found.guesses.items()]
    print_table(console, ("argument", "guess", "why"), guesses or [["", "none", "nothing in the response tells"]])
    console.out(f"\n{_ddl(found.schema, types)}\n\n{found.program}", highlight=False)


def _types(target: str) -> Types:
    known = {types.target.lower(): types for types in TARGETS}
    if target.lower() not in known:
        raise ConfigurationError(f"--to is {target!r}; it may be one of {', '.join(known)}")
    return known[target.lower()]


def _type_name(type_: pa.DataType) -> str:
    return "JSON" if is_json(type_) else str(type_)


def _sample(rows: Sequence[dict[str, object]], column: str) -> str:
    found = next((row[column] for row in rows if row.get(column) is not None), None)
    text = found if isinstance(found, str) else json.dumps(found, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _ddl(schema: pa.Schema, types: Types) -> str:
    """The table that a first frame makes; a column of nulls is added once it has a value."""
    columns = [f'    "{field.name}" {column}' for field in schema if (column := types.column(field.type)) is not None]
    return "CREATE TABLE (\n" + ",\n".join(columns) + "\n)"
