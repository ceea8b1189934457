"""Each target as its own client sees it: rows in the order in which they were put, and no code of ours between."""

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from api2db import Stream, Stream2Local
from api2db.targets.types import CSV, DUCKDB, JSON_FILE, MARIADB, MYSQL, PARQUET, PICKLE, POSTGRESQL, SQLITE, Types
from tests.stream.databases import COLLECTOR, DATABASES, query, stream_into, types, use

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Way:
    """A target: its part of the table of types, what makes a stream into it, and what reads it back."""

    types: Types
    stream: Callable[..., Stream]
    read: Callable[[Path], Columns]
    dialect: str = ""

    @property
    def stream_type(self) -> str:
        return f"sql.{self.dialect}" if self.dialect else "local"

    def use(self, request: pytest.FixtureRequest) -> "Way":
        """Make it ready for one test."""
        if self.dialect:
            use(self.dialect, request)
        return self


def _database(types_: Types, dialect: str, read: Callable[[Path], Columns] | None = None) -> Way:
    def stream(home: Path, **options: Any) -> Stream:
        return stream_into(dialect, home, **options)

    def by_client(home: Path) -> Columns:
        return _by_column(list(types(home, dialect)), query(home, dialect, f'SELECT * FROM "{COLLECTOR}"'))

    return Way(types_, stream, read or by_client, dialect)


def _file(types_: Types, fmt: str, read: Callable[[Path], Columns]) -> Way:
    def stream(home: Path, **options: Any) -> Stream:
        return Stream2Local(COLLECTOR, fmt=fmt, drop_duplicate_keys=["number"], home=home, **options)

    def by_client(home: Path) -> Columns:
        folder = home / "STORE" / COLLECTOR / fmt
        found: Columns = {}
        for path in sorted(folder.glob(f"*.{fmt}")):
            for name, values in read(path).items():
                found.setdefault(name, []).extend(values)
        return found

    return Way(types_, stream, by_client)


def _by_column(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _of_arrow(table: pa.Table) -> Columns:
    """Arrow's own Python values; where Python's classes end at microseconds, pandas' are given."""
    return {name: _python(table.column(name).combine_chunks()) for name in table.column_names}


def _python(column: pa.Array) -> list[Any]:
    if pa.types.is_time(column.type):
        column = column.cast(pa.time64("ns")).cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def _duckdb(home: Path) -> Columns:
    with duckdb.connect(str(home / DATABASES["duckdb"])) as connection:
        return _of_arrow(connection.sql(f"FROM {COLLECTOR}").to_arrow_table())


def _csv(path: Path) -> Columns:
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    return _by_column(head, rows)


def _json(path: Path) -> Columns:
    rows = json.loads(path.read_text(encoding="utf-8"))["data"]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _pickle(path: Path) -> Columns:
    frame = pickle.loads(path.read_bytes())
    return {name: _cells(frame[name]) for name in frame}


def _cells(column: "pd.Series[Any]") -> list[Any]:
    if isinstance(column.dtype, pd.ArrowDtype) and pa.types.is_time(column.dtype.pyarrow_dtype):
        return _python(pa.array(column))  # whose own objects end at microseconds
    return column.astype(object).tolist()


def _parquet(path: Path) -> Columns:
    return _of_arrow(pyarrow.parquet.read_table(path))


WAYS = (
    _database(DUCKDB, "duckdb", _duckdb),
    _database(SQLITE, "sqlite"),
    _database(POSTGRESQL, "postgresql"),
    _database(MYSQL, "mysql"),
    _database(MARIADB, "mariadb"),
    _file(PARQUET, "parquet", _parquet),
    _file(JSON_FILE, "json", _json),
    _file(CSV, "csv", _csv),
    _file(PICKLE, "pickle", _pickle),
)
