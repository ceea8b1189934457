"""Names: what may be one without quotes, and which words are reserved."""

import re

from tests.servers.omnisci.columns import RefusedError

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9$_]*")
# Some of those that HEAVY.AI's documentation lists.
_WORDS = """
    ABS ACCESS ADD ALL ALTER AND ANY AS ASC AT AVG BEGIN BETWEEN BIGINT BOOLEAN BOTH BY CASE CAST CHAR CHECK COLUMN COPY
    COUNT CREATE CROSS CURRENT CURRENT_DATE CURSOR DASHBOARD DATABASE DATE DATETIME DAY DECIMAL DECLARE DEFAULT DELETE
    DESC DISTINCT DOUBLE DROP DUMP EDIT ELSE END EXISTS EXTRACT FALSE FETCH FIRST FLOAT FLOOR FOR FOREIGN FROM FULL
    FUNCTION GET GRANT GROUP HAVING HOUR IF ILIKE IN INNER INSERT INT INTEGER INTO IS JOIN LAST LEFT LIKE LIMIT MAX MIN
    MINUTE MONTH NOT NULL NUMERIC OFFSET ON OPTIMIZE OR ORDER OUTER PARTITION PRECISION PRIMARY RESTORE REVOKE RIGHT
    ROLE ROW ROWS SECOND SELECT SESSIONS SET SHARD SHOW SMALLINT SOME START SUM SYSTEM TABLE TEXT THEN TIME TIMESTAMP
    TINYINT TO TRUE TRUNCATE UNION UNIQUE UPDATE USER USING VALUE VALUES VARCHAR VIEW WHEN WHERE WITH YEAR
"""
RESERVED = frozenset(_WORDS.split())


def name_of(written: str, what: str) -> str:
    """A name from SQL; a reserved one is refused even in quotes, which is stricter than is known."""
    quoted = written.startswith('"')
    name = written.strip('"')
    if not quoted and not _PLAIN.fullmatch(name):
        raise RefusedError(f"SQL Error: Encountered {written!r}")
    if not name or '"' in name:
        raise RefusedError(f"SQL Error: {written!r} is no name of a {what}")
    if name.upper() in RESERVED:
        raise RefusedError(f"Cannot create {what}: {name} is a reserved word")
    return name
