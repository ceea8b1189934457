"""Whose frames are whose, where several streams share a journal."""

from collections.abc import Sequence

from api2db.torture.rows import COLUMNS, frame, proof

__all__ = ["COLUMNS", "EVERYONE", "expected", "frame", "lane_of", "proof"]

EVERYONE = "everyone"


def lane_of(n: int, kinds: Sequence[str]) -> str:
    """Whose frame a number is: two of three are everyone's, the others one stream's own, in turn."""
    return EVERYONE if n % 3 else kinds[n // 3 % len(kinds)]


def expected(numbers: Sequence[int], kind: str, kinds: Sequence[str]) -> list[int]:
    """The numbers that a stream of a kind must deliver."""
    return [n for n in numbers if lane_of(n, kinds) in {EVERYONE, kind}]
