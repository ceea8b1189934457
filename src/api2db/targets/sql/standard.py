"""SQL that several databases write alike."""

from collections.abc import Sequence

from sqlalchemy.engine.default import DefaultDialect

from api2db.errors import BatchRefusedError
from api2db.targets.port import Column
from api2db.targets.sql.port import Session

_quote_identifier = DefaultDialect().identifier_preparer.quote_identifier


def quote(name: str) -> str:
    """A name in double quotes.

    Raises:
        BatchRefusedError: No database holds such a name.
    """
    if not name or "\0" in name:
        raise BatchRefusedError(f"a column can't be named {name!r}; rename it before it is put")
    return str(_quote_identifier(name))


def on_conflict_do_nothing(insert: str) -> str:
    """An INSERT statement that does nothing where its key is there already."""
    return f"{insert} ON CONFLICT DO NOTHING"


def update_from(table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
    """The UPDATE of rows by the staged rows with the same keys; names are quoted."""
    sets = ", ".join(f"{value} = new.{value}" for value in values)
    same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
    return f"UPDATE {table} AS old SET {sets} FROM {staged} AS new WHERE {same}"


def colliding_keys(table: str, staged: str, keys: Sequence[str], texts: Sequence[str], letters: str) -> str:
    """The query for a staged row whose key is that of a row of the table, but for the letters of some texts.

    Args:
        letters: An expression of a text's very letters, which no collation takes for others.
    """
    same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
    differs = " OR ".join(f"{letters.format(f'old.{text}')} <> {letters.format(f'new.{text}')}" for text in texts)
    return f"SELECT 1 FROM {table} AS old JOIN {staged} AS new ON {same} WHERE {differs} LIMIT 1"


def recreate(session: Session, table: str, columns: Sequence[Column]) -> None:
    """Drop a table and make it anew, where both belong to the transaction; its name is quoted."""
    declared = ", ".join(f"{quote(column.name)} {column.declared}" for column in columns)
    session.run(f"DROP TABLE {table}")
    session.run(f"CREATE TABLE {table} ({declared})")


def create_table(table: str, columns: Sequence[str]) -> str:
    """The CREATE TABLE statement; the name is quoted."""
    return f"CREATE TABLE {table} ({', '.join(columns)})"


def unique_index(name: str, table: str, keys: Sequence[str]) -> str:
    """The statement that makes keys unique; names are quoted, and an empty one is for the database to choose."""
    return f"CREATE UNIQUE INDEX {name} ON {table} ({', '.join(keys)})"
