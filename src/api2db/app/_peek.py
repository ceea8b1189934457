"""Show what an API gives, and how it might be polled."""

import json
from collections.abc import Sequence

import pyarrow as pa
from rich.console import Console

from api2db.app.screen import print_table
from api2db.errors import ConfigurationError
from api2db.frames import is_json
from api2db.rest import peek as peeks
from api2db.targets.types import TARGETS, Types
from api2db.texts import counted

_LONGEST = 40
_SERVERS = {
    "PostgreSQL": "postgresql",
    "MySQL": "mysql",
    "MariaDB": "mariadb",
    "SQL Server": "microsoft_sql",
    "Oracle": "oracle",
}
_FILES = " files"
_BACKTICKS = frozenset({"BigQuery", "MariaDB", "MySQL"})


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
    table = "" if types.target.endswith(_FILES) else f"{_ddl(found.schema, types, found.name)}\n\n"
    console.out(f"\n{table}{found.program(*_stream(types.target, found.name))}", highlight=False)


def _types(target: str) -> Types:
    known = {types.target.lower().removesuffix(_FILES): types for types in TARGETS}
    target = target.lower().removesuffix(_FILES)
    if target not in known:
        raise ConfigurationError(f"--to is {target!r}; it may be one of {', '.join(known)}")
    return known[target]


def _stream(target: str, name: str) -> tuple[str, str]:
    """Return the code of a stream into a target, and a comment on what that needs."""
    if target in _SERVERS:
        file = f"AUTH/{_SERVERS[target]}.json"
        code = f'Stream2Sql("{name}", db_name="api", dialect="{_SERVERS[target]}", auth_path="{file}")'
        return code, f'{file}: {{"username": …, "password": …, "host": …}}'
    if target == "HeavyDB":
        return (
            f'Stream2Omnisci("{name}", db_name="heavyai", auth_path="AUTH/omnisci.json", table="{name}")',
            'AUTH/omnisci.json: {"username": …, "password": …, "host": …}',
        )
    if target == "BigQuery":
        file = "AUTH/bigquery.json"
        code = f'Stream2Bigquery("{name}", auth_path="{file}", pid="my-project", did="my_dataset", tid="{name}")'
        return code, f"{file}: the key file of a service account"
    if target == "Delta Lake":
        return f'Stream2Delta("{name}", "LAKE/{name}")', ""
    if target == "Iceberg":
        return f'Stream2Iceberg("{name}", "LAKE")', ""
    if target.endswith(_FILES):
        return f'Stream2Local("{name}", fmt="{target.removesuffix(_FILES).lower()}")', ""
    kind = target.lower()
    return f'Stream2Sql("{name}", db_name="STORE/data.{kind}", dialect="{kind}")', ""


def _type_name(type_: pa.DataType) -> str:
    return "JSON" if is_json(type_) else str(type_)


def _sample(rows: Sequence[dict[str, object]], column: str) -> str:
    found = next((row[column] for row in rows if row.get(column) is not None), None)
    text = found if isinstance(found, str) else json.dumps(found, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _ddl(schema: pa.Schema, types: Types, name: str) -> str:
    """The table that a first frame makes; a column of nulls is added once it has a value."""
    quote = "`" if types.target in _BACKTICKS else '"'
    found = {field.name: types.column(field.type) for field in schema}
    columns = [f"    {quote}{column}{quote} {type_}" for column, type_ in found.items() if type_ is not None]
    return f"CREATE TABLE {quote}{name}{quote} (\n" + ",\n".join(columns) + "\n)"
