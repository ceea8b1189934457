"""The names of MySQL and MariaDB, and what the server's error codes mean."""

import re

from api2db.errors import BatchRefusedError

_LONGEST_NAME = 64
# InnoDB's own columns, in any case; the last one is for full-text indexes.
_SYSTEM_COLUMNS = frozenset({"db_row_id", "db_trx_id", "db_roll_ptr", "fts_doc_id"})
_SPACES = " \t\n\v\f\r"
NO_DATABASE = 1049
NO_TABLE = 1146
NOT_ALLOWED = 1142
NO_LOCAL = frozenset({1148, 3948, 3950, 4166})
NO_PRIMARY_KEY = 3750
NO_ROOM_CODES = frozenset({1040, 1203, 1226})  # of the server, or of the user
UNFIT_KEYS = frozenset({1069, 1070, 1071, 1167, 1170, 1709, 3152})
# Error codes of the server that refuse a row, from the "MySQL Error Message Reference" and MariaDB's list. Codes are
# listed even if their class tells the same, because a trigger may raise the number with another class.
_REFUSED = frozenset(
    {1048, 1062, 1118, 1136, 1138, 1264, 1265, 1292, 1300, 1364, 1366, 1406, 1411, 1416, 1451, 1452, 1467, 1586}
    | {1644, 1690, 1846, 1059, 1060, 1166, 3140, 3141, 3157, 3819, 4025, 4078, 1074, 1113, 1117, 1367}
    # Columns or tables that the server cannot create or alter as asked.
    | {1063, 1067, 1101, 1121, 1171, 1293, 1294, 1347, 1348, 1832, 1833, 1834, 3780}
    | {1164, 1166, 1425, 1426, 1439, 1478, 1542, 1713, 3105, 3730, 4092}
    | {1369, 1526}
)
# "Can't create table (errno: 185)": the engine's number tells whether the table is at fault (HA_ERR_* of my_base.h:
# no such feature, a row too large, wrong options, a foreign key, too many columns) or, for instance, the disk is full.
_FROM_ENGINE = frozenset({1005, 1025, 1030})
_REFUSED_BY_ENGINE = frozenset({138, 139, 140, 150, 185})
_ENGINE_SAYS = re.compile(r"(?:errno: |error )(\d+)")
# SQLSTATE classes: not found in a trigger, data, broken constraints, a view's CHECK OPTION, raised by a trigger.
_REFUSED_CLASSES = frozenset({"02", "22", "23", "44", "45"})
# The client's codes of a broken connection, and of a packet larger than the server accepts.
_BROKEN = frozenset(
    {0, 1053, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2055, 4031}
)


def quote(name: str) -> str:
    """A name in backquotes.

    Raises:
        BatchRefusedError: The server cannot hold such a name.
    """
    if not name or "\0" in name or len(name) > _LONGEST_NAME or name[-1] in _SPACES or _beyond(name):
        raise BatchRefusedError(
            f"MySQL can't hold the name {name!r}: it must have 1 to 64 characters below U+10000, "
            "no NUL, and no space, tab or line end at its end; rename it"
        )
    return f"`{name.replace('`', '``')}`"


def fold(name: str) -> str:
    """A name in lower case: two that are equal then are the same column to the server.

    It folds letter by letter, so that ß is not ss; İ becomes i.
    """
    return "".join(letter.lower()[0] for letter in name)


def _beyond(name: str) -> bool:
    return any(ord(letter) > 0xFFFF for letter in name)


def check_column_name(name: str) -> None:
    """Check that a column can have a name.

    Raises:
        BatchRefusedError: The server cannot hold it, or its engine has a system column of this name.
    """
    if fold(name) in _SYSTEM_COLUMNS:
        raise BatchRefusedError(f"{name!r} is the name of a system column of InnoDB; rename it")
    quote(name)


def code_of(error: Exception) -> int | None:
    """The error number of the server or the driver; None for errors of the network or of Python."""
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) and not isinstance(error, OSError) else None


def text_of(error: Exception) -> str:
    """The error's text without the number."""
    return str(error.args[1]) if len(error.args) > 1 else str(error)


def is_refused(error: Exception) -> bool:
    """Whether rows, a column or a table are refused for any user."""
    code = code_of(error)
    if code in _FROM_ENGINE:
        said = _ENGINE_SAYS.search(text_of(error))
        return said is not None and int(said[1]) in _REFUSED_BY_ENGINE
    return code in _REFUSED or str(getattr(error, "sqlstate", ""))[:2] in _REFUSED_CLASSES


def is_broken(error: Exception) -> bool:
    """Whether the connection is broken."""
    code = code_of(error)
    return code is None or code in _BROKEN
