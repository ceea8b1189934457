"""What the errors of PostgreSQL say, by their SQLSTATE."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

_NO_DATABASE = "3D000"
_TOO_MANY = "53300"
NAME_TAKEN, FORBIDDEN, LOCKED = "42701", "42501", "55P03"
# Classes and codes of PostgreSQL's appendix of error codes that speak of the rows or the table: data exceptions, broken
# constraints, check options, limits, what triggers raise; binary data of another type, features that are not there,
# types that don't fit, objects that others depend on, names that are taken or that nothing may have, altering a view.
_REFUSED_CLASSES = ("22", "23", "44", "54", "P0")
_REFUSED_CODES = frozenset(
    {"08P01", "0A000", "42804", "42846", "2BP01", "42611", "42P10", "42P16", "428C9"}
) | frozenset({"42602", "42622", "42809", "42939", "42P17"})


def is_refused(error: "psycopg.Error") -> bool:
    """Whether rows or the table are refused for themselves, whoever asks."""
    state = error.sqlstate or ""
    return state.startswith(_REFUSED_CLASSES) or state in _REFUSED_CODES


def is_missing(error: "psycopg.Error") -> bool:
    """Whether there is no such database.

    Libpq gives no code for a refused connection, so the text has to tell.
    """
    return error.sqlstate == _NO_DATABASE or ("database" in str(error) and "does not exist" in str(error))


def has_no_room(error: "psycopg.Error") -> bool:
    """Whether the server, the database or the user has as many connections as it may; the text tells, as above."""
    said = str(error)
    return error.sqlstate == _TOO_MANY or any(words in said for words in ("too many c", "remaining connection slots"))
