"""Whose frames are whose, where several streams share a journal."""

from collections.abc import Sequence

import pyarrow as pa

from api2db.torture.rows import COLUMNS, frame, proof

__all__ = ["COLUMNS", "EVERYONE", "expected", "frame", "lane_of", "proof", "with_floats"]

EVERYONE = "everyone"


def lane_of(n: int, kinds: Sequence[str]) -> str:
    """Whose frame a number is: two of three are everyone's, the others one stream's own, in turn."""
    return EVERYONE if n % 3 else kinds[n // 3 % len(kinds)]


def expected(numbers: Sequence[int], kind: str, kinds: Sequence[str]) -> list[int]:
    """The numbers that a stream of a kind must deliver."""
    return [n for n in numbers if lane_of(n, kinds) in {EVERYONE, kind}]


def with_floats(batch: pa.RecordBatch, column: str) -> pa.RecordBatch:
    """A frame whose integers in a column are floats of the same values."""
    place = batch.schema.get_field_index(column)
    return batch.set_column(place, column, batch.column(place).cast(pa.float64()))
