"""One frame with every kind of column: a usual value, one at the limit of the kind, and a null."""

import datetime
from decimal import Decimal
from typing import Any

import pandas as pd

DATE = datetime.date
TIME = datetime.time
NOTHING = float("nan")
KINDS: dict[str, Any] = {
    "id": [0, 1, 2],
    "flag": pd.array([True, False, None], "boolean"),
    "int_with_null": pd.array([2**53 + 1, -(2**63), None], "Int64"),
    "small": pd.array([-128, 127, None], "Int8"),
    "unsigned": pd.array([2**63 + 1, 2**64 - 1, None], "UInt64"),
    "float": [0.1 + 0.2, 5e-324, NOTHING],
    "infinite": [float("inf"), float("-inf"), NOTHING],
    "text": pd.Series(["", "é😀\u2028\"',\n", None], dtype=object),
    "nul": pd.Series(["a\0b", "\0", None], dtype=object),
    "digits": pd.Series(["001", "1e5", None], dtype=object),
    "bytes": pd.Series([b"\x00\xff", b"", None], dtype=object),
    "decimal": pd.Series([Decimal("1.10"), Decimal("-" + "9" * 30 + ".99"), None], dtype=object),
    "date": pd.Series([DATE(2026, 2, 28), DATE(1, 1, 1), None], dtype=object),
    "time": pd.Series([TIME(1, 2, 3, 4), TIME(23, 59, 59, 999999), None], dtype=object),
    "naive": pd.Series([pd.Timestamp("2026-02-28 01:02:03.123456789"), pd.Timestamp("1700-01-01"), None]),
    "zoned": pd.DatetimeIndex(
        pd.Series([pd.Timestamp("2026-02-28 06:02:03.123456789Z"), pd.Timestamp("1969-12-31", tz="UTC"), None])
    ).tz_convert("America/New_York"),
    "delta": pd.to_timedelta([86_400 * 10**9 + 1, -1000, None]),
    "category": pd.Categorical(["x", "y", None], categories=["y", "unused", "x"]),
    "numbers": pd.Categorical([10, 20, None]),
    "dict": pd.Series([{"a": [1, 2.5, None], "é": {"b": True}}, {}, None], dtype=object),
    "list": pd.Series([[1, 2], [], None], dtype=object),
    "null": pd.Series([None, None, None], dtype=object),
}


def every_kind() -> pd.DataFrame:
    return pd.DataFrame(KINDS)
