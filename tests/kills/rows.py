"""Rows that prove themselves: whose they are, which put they came with, and that nobody has altered them."""

import hashlib
import random
from collections.abc import Sequence

import pyarrow as pa

EVERYONE = "everyone"
COLUMNS = ("stream_no", "n", "row", "rows", "payload", "proof")
_LARGE_ROWS = 2_000
_ALPHABET = "abc XYZ 019 '\"\\%,;\n\téß漢🜚"


def frame(stream_no: str, n: int, rows: int | None = None) -> pa.RecordBatch:
    """The frame of a number: always the same; of 1 to 7 rows, now and then of 2,000; every fifth has a column more."""
    dice = random.Random(n)
    count = rows or (_LARGE_ROWS if n % 61 == 60 else dice.randint(1, 7))
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


def proof(stream_no: str, n: int, row: int, rows: int, payload: str) -> str:
    """What only the row as it was put has."""
    return hashlib.sha256(f"{stream_no}|{n}|{row}|{rows}|{payload}".encode()).hexdigest()[:16]


def lane_of(n: int, kinds: Sequence[str]) -> str:
    """Whose frame a number is: two of three are everyone's, the others one stream's own, in turn."""
    return EVERYONE if n % 3 else kinds[n // 3 % len(kinds)]


def expected(numbers: Sequence[int], kind: str, kinds: Sequence[str]) -> list[int]:
    """The numbers that a stream of a kind must deliver."""
    return [n for n in numbers if lane_of(n, kinds) in {EVERYONE, kind}]
