"""Names as PostgreSQL takes them."""

from api2db.errors import BatchRefusedError
from api2db.targets.sql import standard

_LONGEST_NAME_BYTES = 63
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


def quote(name: str) -> str:
    """A name in double quotes.

    Raises:
        BatchRefusedError: PostgreSQL would cut it off, and so take one table or column for another.
    """
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        raise BatchRefusedError(f"{name!r} has more than 63 bytes, which PostgreSQL would cut off; rename it")
    return standard.quote(name)


def check_column_name(name: str) -> None:
    """See that a column can have a name.

    Raises:
        BatchRefusedError: PostgreSQL can't hold it, or has a column of its own by that name in each table.
    """
    if name in _SYSTEM_COLUMNS:
        raise BatchRefusedError(f"{name!r} is the name of a system column of PostgreSQL; rename it")
    quote(name)


def qualified(schema: str | None, table: str) -> str:
    """A table's name with its schema, both quoted; the name alone where the search path says which schema it is."""
    return quote(table) if schema is None else f"{quote(schema)}.{quote(table)}"
