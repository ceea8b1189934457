"""Shards and composed files are read as a folder by programs that know nothing of api2db."""

import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from pyarrow.dataset import dataset

from api2db import FileConverter, Store2Local, Stream2Local
from api2db.formats import read

Reader = Callable[[Path], list[Any]]


def by_pandas(folder: Path) -> list[Any]:
    values = pd.read_parquet(folder).sort_values("id")["v"].tolist()
    return [None if value is None or value is pd.NaT or value != value else value for value in values]


def by_pyarrow(folder: Path) -> list[Any]:
    rows = dataset(folder, partitioning="hive").to_table().to_pylist()
    return [row["v"] for row in sorted(rows, key=lambda row: row["id"])]


def by_duckdb(folder: Path) -> list[Any]:
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT id, v FROM '{folder}/**/*.parquet' ORDER BY id").fetchall()
    return [value for _, value in rows]


READERS = pytest.mark.parametrize("reader", [by_pandas, by_pyarrow, by_duckdb])


def put(home: Path, values: list[Any], fmt: str = "parquet", start: int = 0) -> None:
    """A shard for each value, as a stream writes them; MISSING for a frame without the column."""
    for number, value in enumerate(values, start):
        with Stream2Local("x", fmt=fmt, home=home) as stream:
            stream.q.put([{"id": number} if value is MISSING else {"id": number, "v": value}])


MISSING: Any = object()
NOON, MIDNIGHT = datetime.datetime(2026, 1, 31, 12), datetime.datetime(2026, 1, 31)

DRIFTS: dict[str, tuple[list[Any], list[Any]]] = {
    "null, then text": ([None, "a", None, MISSING], [None, "a", None, None]),
    "missing, then text": ([MISSING, "a", MISSING, None], [None, "a", None, None]),
    "null, then int": ([None, 5, None], [None, 5, None]),
    "int, then 0.5": ([5, 0.5, 7, None], [5.0, 0.5, 7.0, None]),
    "0.5, then int": ([0.5, 5], [0.5, 5.0]),
    "decimals": (
        [Decimal("1.25"), Decimal("123456.125"), Decimal("2.5")],
        [Decimal("1.25"), Decimal("123456.125"), Decimal("2.5")],
    ),
    "int, then decimal": ([1, Decimal("1.5"), 2], [1, Decimal("1.5"), 2]),
    "int, then longer": ([1, 2**63, -1], [1, 2**63, -1]),
    "dict, then list": ([{"a": 1}, [1], None], [{"a": 1}, [1], None]),
    "dict, then text and numbers": ([{"a": 1}, "b", 5, True, 0.5], [{"a": 1}, "b", 5, True, 0.5]),
}


def meant(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in '{["0123456789t' else value


@READERS
@pytest.mark.parametrize("drift", DRIFTS)
def test_shards_behind_the_drift_are_read_as_a_folder(tmp_path: Path, drift: str, reader: Reader) -> None:
    values, wanted = DRIFTS[drift]
    put(tmp_path, values)
    folder = tmp_path / "STORE" / "x" / "parquet"
    widest = 2 if "longer" in drift else 1
    for path in sorted(folder.glob("*.parquet"))[:widest]:  # those before the drift are narrower
        path.unlink()
    assert [meant(value) for value in reader(folder)] == wanted[widest:]
