"""Names as MySQL and MariaDB take them."""

from api2db.errors import BatchRefusedError

_LONGEST_NAME = 64
# InnoDB's own, in whatever case; the last one is for full-text indexes.
_SYSTEM_COLUMNS = frozenset({"db_row_id", "db_trx_id", "db_roll_ptr", "fts_doc_id"})
_SPACES = " \t\n\v\f\r"


def quote(name: str) -> str:
    """A name in backquotes.

    Raises:
        BatchRefusedError: The server holds no such name.
    """
    if not name or "\0" in name or len(name) > _LONGEST_NAME or name[-1] in _SPACES or _beyond(name):
        raise BatchRefusedError(
            f"MySQL can't hold the name {name!r}: it has to be of 1 to 64 characters below U+10000, "
            "without NUL, and without a space, a tab or the end of a line as its last; rename it"
        )
    return f"`{name.replace('`', '``')}`"


def fold(name: str) -> str:
    """A name without its capitals: two that are one here are one column to the server.

    It folds letter by letter, so that ß is no ss; of İ it makes i.
    """
    return "".join(letter.lower()[0] for letter in name)


def _beyond(name: str) -> bool:
    return any(ord(letter) > 0xFFFF for letter in name)


def check_column_name(name: str) -> None:
    """See that a column can have a name.

    Raises:
        BatchRefusedError: The server can't hold it, or its engine has a column of its own by that name in each table.
    """
    if fold(name) in _SYSTEM_COLUMNS:
        raise BatchRefusedError(f"{name!r} is the name of a system column of InnoDB; rename it")
    quote(name)
