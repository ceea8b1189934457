"""The checker: reads targets, set-aside rows and the log of what was acknowledged, each by a client of its own.

It shares no code with what it checks: DuckDB's and SQLite's own drivers, pyarrow for files.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from tests.kills.rows import COLUMNS, proof

Row = Mapping[str, Any]


@dataclass
class Verdict:
    """What is wrong with a target, by the numbers of the frames in question.

    Attributes:
        lost: L: acknowledged, and a row of it is neither in the target nor set aside.
        halved: L: not acknowledged, and only a part of it is there.
        doubled: D: a row of it is there more than once.
        swapped: O: it stands behind a later one.
        altered: N: a row that is not as it was put, or was never put.
    """

    lost: list[int] = field(default_factory=list)
    halved: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    swapped: list[int] = field(default_factory=list)
    altered: list[int] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return self == Verdict()


def judge(found: Iterable[Row], acknowledged: Iterable[int], set_aside: Iterable[Row] = ()) -> Verdict:
    """Compare what a target holds, in its own order, with what must be there."""
    verdict = Verdict()
    in_order = list(found)
    every = [*in_order, *set_aside]
    verdict.altered = sorted({row["n"] for row in every if not _is_genuine(row)})
    counts = Counter((row["n"], row["row"]) for row in every)
    verdict.doubled = sorted({n for (n, _), times in counts.items() if times > 1})
    verdict.swapped = _swapped([(row["n"], row["row"]) for row in in_order])
    sizes = {row["n"]: row["rows"] for row in every}
    there = Counter(n for n, _ in counts)
    wanted = set(acknowledged)
    verdict.lost = sorted(n for n in wanted if there[n] < sizes.get(n, 1))
    verdict.halved = sorted(n for n in there.keys() - wanted if there[n] < sizes[n])
    return verdict


def judge_newest(found: Iterable[Row], acknowledged: Sequence[int]) -> Verdict:
    """Where the newest frame replaces the others: it is there whole, and none that was acknowledged is newer."""
    rows = list(found)
    newest = max(acknowledged)
    verdict = judge(rows, [max([newest, *(row["n"] for row in rows)])])
    verdict.doubled += sorted({row["n"] for row in rows} - {max((row["n"] for row in rows), default=newest)})
    return verdict


def in_duckdb(path: Path, table: str = "flights") -> list[Row]:
    with duckdb.connect(str(path), read_only=True) as connection:
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY rowid")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def in_sqlite(path: Path, table: str = "flights") -> list[Row]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor]
    finally:
        connection.close()


def in_shards(*folders: Path) -> list[Row]:
    """The rows of all shards, also of those that a consumer has moved away, by the shards' names."""
    shards = [path for folder in folders for path in folder.rglob("[0-9]*.parquet")]
    return [row for path in sorted(shards, key=lambda path: int(path.stem)) for row in in_file(path)]


def in_file(path: Path) -> list[Row]:
    rows: list[Row] = pq.ParquetFile(path).read().to_pylist()
    return rows


def set_aside(home: Path, stream_type: str, collector: str = "flights") -> list[Row]:
    """The rejected rows of a stream; each must say why."""
    rows = in_shards(home / "STORE" / "rejected" / collector / stream_type)
    assert all(row["_api2db_reason"] for row in rows)
    return rows


def _swapped(places: Sequence[tuple[int, int]]) -> list[int]:
    return sorted(set(_behind_later(places)))


def _behind_later(places: Sequence[tuple[int, int]]) -> Iterator[int]:
    latest, seen = (-1, -1), set()
    for place in places:
        if place not in seen and place < latest:
            yield place[0]
        seen.add(place)
        latest = max(latest, place)


def _is_genuine(row: Row) -> bool:
    stream_no, n, number, rows, payload, said = (row[name] for name in COLUMNS)
    extra = n * 1_000 + number if n % 5 == 4 else None
    return said == proof(stream_no, n, number, rows, payload) and row.get("extra") == extra and 0 <= number < rows
