"""The statements that it understands."""

import re
from collections.abc import Callable

import pyarrow as pa

from tests.servers.omnisci.columns import ColumnType, RefusedError, parse_type
from tests.servers.omnisci.tables import Table, Tables
from tests.servers.omnisci.words import name_of

_NAME = r'("[^"]*"|[A-Za-z_][\w$]*)'
_NOTHING = pa.table({})
_Statement = Callable[[Tables, re.Match[str]], pa.Table]


def execute(tables: Tables, sql: str) -> pa.Table:
    """Carry out one statement, and give its rows."""
    text = sql.strip().rstrip(";")
    for pattern, statement in _STATEMENTS:
        if found := pattern.fullmatch(text):
            return statement(tables, found)
    raise RefusedError(f"SQL Error: Encountered {text[:60]!r}")


def _select(tables: Tables, found: re.Match[str]) -> pa.Table:
    return tables.run(found[0])


def _create(tables: Tables, found: re.Match[str]) -> pa.Table:
    columns = dict(_column(each) for each in _parts(found[3]) if not each.strip().upper().startswith("SHARD KEY"))
    tables.create(Table(name_of(found[2], "table"), columns, _shards(found[4])), only_new=bool(found[1]))
    return _NOTHING


def _shards(options: str | None) -> int:
    found = re.search(r"shard_count\s*=\s*(\d+)", options or "", re.IGNORECASE)
    return int(found[1]) if found else 0


def _drop(tables: Tables, found: re.Match[str]) -> pa.Table:
    name = found[2].strip('"')
    if not found[1] or name.upper() in {known.upper() for known in tables.names()}:
        tables.drop(name)
    return _NOTHING


def _add_column(tables: Tables, found: re.Match[str]) -> pa.Table:
    tables.add_column(_table(tables, found), *_column(found[2]))
    return _NOTHING


def _drop_column(tables: Tables, found: re.Match[str]) -> pa.Table:
    tables.drop_column(_table(tables, found), found[2].strip('"'))
    return _NOTHING


def _rename_column(tables: Tables, found: re.Match[str]) -> pa.Table:
    tables.rename_column(_table(tables, found), found[2].strip('"'), name_of(found[3], "column"))
    return _NOTHING


def _change_type(tables: Tables, found: re.Match[str]) -> pa.Table:
    tables.change_type(_table(tables, found), found[2].strip('"'), parse_type(found[3]))
    return _NOTHING


def _change(tables: Tables, found: re.Match[str]) -> pa.Table:
    tables.change(_table(tables, found), found[0])
    return _NOTHING


def _table(tables: Tables, found: re.Match[str]) -> Table:
    return tables.find(found[1].strip('"'))


def _column(declared: str) -> tuple[str, ColumnType]:
    found = re.fullmatch(rf"\s*{_NAME}\s+(.+?)\s*", declared, re.DOTALL)
    if found is None:
        raise RefusedError(f"SQL Error: Encountered {declared!r}")
    return name_of(found[1], "column"), parse_type(found[2])


def _parts(listed: str) -> list[str]:
    """What commas part, outside of brackets and quotes."""
    parts, depth, quoted = [""], 0, False
    for character in listed:
        quoted ^= character == '"'
        depth += 0 if quoted else {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text.replace("<NAME>", _NAME).replace(" ", r"\s+"), re.IGNORECASE | re.DOTALL)


_STATEMENTS: tuple[tuple[re.Pattern[str], _Statement], ...] = (
    (_pattern(r"SELECT\b.*"), _select),
    (_pattern(r"CREATE TABLE (IF NOT EXISTS )?<NAME>\s*\((.*?)\)(\s*WITH\s*\([^()]*\))?"), _create),
    (_pattern(r"DROP TABLE (IF EXISTS )?<NAME>"), _drop),
    (_pattern(r"ALTER TABLE <NAME> ADD COLUMN (.+)"), _add_column),
    (_pattern(r"ALTER TABLE <NAME> DROP COLUMN <NAME>"), _drop_column),
    (_pattern(r"ALTER TABLE <NAME> RENAME COLUMN <NAME> TO <NAME>"), _rename_column),
    (_pattern(r"ALTER TABLE <NAME> ALTER COLUMN <NAME> TYPE (.+)"), _change_type),
    (_pattern(r"INSERT INTO <NAME>\b.*"), _change),
    (_pattern(r"DELETE FROM <NAME>\b.*"), _change),
    (_pattern(r"UPDATE <NAME>\b.*"), _change),
)
