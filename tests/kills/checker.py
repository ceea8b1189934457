"""The checker of the kills: that of ``api2db torture``, and readers of targets; see ``api2db.torture.checker``."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from api2db.torture import clients
from api2db.torture.checker import Row, Verdict, judge

__all__ = [
    "Row",
    "Verdict",
    "in_duckdb",
    "in_file",
    "in_shards",
    "in_sqlite",
    "judge",
    "judge_newest",
    "set_aside",
]


def judge_newest(found: Iterable[Row], acknowledged: Sequence[int]) -> Verdict:
    """Where the newest frame replaces the others: it is there whole, and none that was acknowledged is newer."""
    rows = list(found)
    newest = max(acknowledged)
    verdict = judge(rows, [max([newest, *(row["n"] for row in rows)])])
    verdict.doubled += sorted({row["n"] for row in rows} - {max((row["n"] for row in rows), default=newest)})
    return verdict


def in_duckdb(path: Path, table: str = "flights") -> list[Row]:
    return list(clients.in_duckdb(path, table))


def in_sqlite(path: Path, table: str = "flights") -> list[Row]:
    return list(clients.in_sqlite(path, table))


def in_shards(*folders: Path) -> list[Row]:
    """The rows of all shards, also of those that a consumer has moved away, by the shards' names."""
    return list(clients.in_shards(*folders))


def in_file(path: Path) -> list[Row]:
    return list(clients.in_file(path))


def set_aside(home: Path, stream_type: str, collector: str = "flights") -> list[Row]:
    """The rejected rows of a stream; each must say why."""
    rows = in_shards(home / "STORE" / "rejected" / collector / stream_type)
    assert all(row["_api2db_reason"] for row in rows)
    return rows
