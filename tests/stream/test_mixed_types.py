"""Frames whose types have nothing in common: they share transactions, in order, and each row is there once."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db.targets.port import Column, LedgerUpdate
from api2db.targets.sql import SqlTarget
from tests.stream.cases import rejected_rows
from tests.stream.databases import Make, execute, table_rows

FRAMES = 200
FEW = FRAMES // 10


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each transaction loads."""
    found: list[int] = []
    real = SqlTarget.load

    def load(target: SqlTarget, rows: pa.Table, columns: list[Column], update: LedgerUpdate) -> None:
        real(target, rows, columns, update)
        found.append(rows.num_rows)

    monkeypatch.setattr(SqlTarget, "load", load)
    return found


def alternating(number: int) -> dict[str, list[Any]]:
    """Whole numbers, and numbers with a fraction, in turn; neither type holds all values of the other."""
    return {"id": [number], "x": [number if number % 2 else number + 0.5]}


def deliver(make: Make, *frames: dict[str, list[Any]], **options: Any) -> None:
    """Deliver the first frame alone, which makes the table, then the others as a backlog."""
    stream = make(**options)
    with stream:
        stream.q.put(pd.DataFrame(frames[0]))
    for each in frames[1:]:
        stream.q.put(pd.DataFrame(each))
    with stream:
        assert stream.flush(60)


def ids(tmp_path: Path, dialect: str) -> list[int]:
    return [int(row["id"]) for row in table_rows(tmp_path, dialect)]


def test_they_share_transactions_and_stay_in_order(dialect: str, make: Make, tmp_path: Path, loads: list[int]) -> None:
    deliver(make, *map(alternating, range(FRAMES)))
    found = [(int(row["id"]), float(row["x"])) for row in table_rows(tmp_path, dialect)]
    assert found == [(number, alternating(number)["x"][0]) for number in range(FRAMES)]
    assert sum(loads) == FRAMES
    assert len(loads) < FEW


def test_a_row_that_does_not_fit_is_rejected_and_the_others_stay_in_order(
    dialect: str, make: Make, tmp_path: Path, loads: list[int]
) -> None:
    frames = [alternating(number) for number in range(FRAMES)]
    frames[FRAMES // 2]["x"] = ["no number"]
    deliver(make, *frames)
    assert ids(tmp_path, dialect) == [number for number in range(FRAMES) if number != FRAMES // 2]
    assert [row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [FRAMES // 2]
    assert len(loads) < FEW


def test_a_row_that_the_server_refuses_is_rejected_and_the_others_stay_in_order(
    dialect: str, make: Make, tmp_path: Path, loads: list[int]
) -> None:
    execute(tmp_path, dialect, f"CREATE TABLE flights (id BIGINT CHECK (id <> {FRAMES // 2}), x DOUBLE PRECISION)")
    deliver(make, *map(alternating, range(FRAMES)))
    assert ids(tmp_path, dialect) == [number for number in range(FRAMES) if number != FRAMES // 2]
    assert [row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [FRAMES // 2]
    assert len(loads) < 2 * FEW


def test_a_column_that_rows_lack_gets_the_table_s_default(dialect: str, make: Make, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT, x DOUBLE PRECISION, y BIGINT DEFAULT 7)")
    frames = [alternating(number) for number in range(FEW)]
    for each in frames[::2]:
        each["y"] = [8]
    deliver(make, *frames)
    assert [(row["id"], row["y"]) for row in table_rows(tmp_path, dialect)] == [
        (number, 7 if number % 2 else 8) for number in range(FEW)
    ]


def test_by_key_the_last_row_counts_and_keeps_what_newer_frames_lack(dialect: str, make: Make, tmp_path: Path) -> None:
    first: dict[str, list[Any]] = {"id": [1, 2], "x": [0.5, 0.5], "y": [1, 2]}
    frames = [alternating(number) | {"id": [number % 3]} for number in range(FEW)]
    deliver(make, first, *frames, keys=["id"])
    found = {int(row["id"]): (float(row["x"]), row["y"]) for row in table_rows(tmp_path, dialect)}
    newest = {number % 3: float(alternating(number)["x"][0]) for number in range(FEW)}
    assert {key: x for key, (x, _) in found.items()} == newest
    assert [found[1][1], found[2][1]] == [1, 2]
