"""Names as MySQL and MariaDB take them."""

from api2db.errors import BatchRefusedError

__all__ = ["fold", "quote"]

_LONGEST_NAME = 64
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
