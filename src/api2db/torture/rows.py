"""Rows that prove themselves: which put they came with, their place in it, and that nobody has altered them."""

import hashlib
import random
from typing import Final

import pyarrow as pa

COLUMNS: Final = ("stream_no", "n", "row", "rows", "payload", "proof")
_LARGE_ROWS: Final = 2_000
_ALPHABET: Final = "abc XYZ 019 '\"\\%,;\n\téß漢🜚"


def frame(stream_no: str, n: int, rows: int | None = None) -> pa.RecordBatch:
    """Return the frame of a number, which is always the same.

    It has 1 to 7 rows; one of 61 has 2,000. Every fifth has one more column.

    Args:
        stream_no: Whose frame it is.
        n: The number.
        rows: Another number of rows.
    """
    dice = random.Random(n)  # noqa: S311 - the same rows each time
    count = rows or _drawn_rows(n, dice)
    payloads = ["".join(dice.choices(_ALPHABET, k=dice.randint(0, 30))) for _ in range(count)]
    columns = {
        "stream_no": pa.array([stream_no] * count),
        "n": pa.array([n] * count, pa.int64()),
        "row": pa.array(range(count), pa.int32()),
        "rows": pa.array([count] * count, pa.int32()),
        "payload": pa.array(payloads),
        "proof": pa.array([proof(stream_no, n, row, count, payload) for row, payload in enumerate(payloads)]),
    }
    if n % 5 == 4:
        columns["extra"] = pa.array([n * 1_000 + row for row in range(count)], pa.int64())
    return pa.record_batch(columns)


def rows_in(n: int) -> int:
    """Return how many rows the frame of a number has."""
    return _drawn_rows(n, random.Random(n))  # noqa: S311 - as in frame


def proof(stream_no: str, n: int, row: int, rows: int, payload: str) -> str:
    """Return what only the row as it was put has."""
    return hashlib.sha256(f"{stream_no}|{n}|{row}|{rows}|{payload}".encode()).hexdigest()[:16]


def _drawn_rows(n: int, dice: random.Random) -> int:
    return _LARGE_ROWS if n % 61 == 60 else dice.randint(1, 7)
