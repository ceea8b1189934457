"""Each target as its own client sees it: rows in the order in which they were put, and no code of ours between."""

import csv
import dataclasses
import datetime
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from api2db import Stream, Stream2Local
from api2db.targets.sqlalchemy import KNOWN
from api2db.targets.types import (
    BIGQUERY,
    CSV,
    DELTA,
    DUCKDB,
    HEAVYDB,
    ICEBERG,
    JSON_FILE,
    MARIADB,
    MICROSOFT_SQL,
    MYSQL,
    ORACLE,
    PARQUET,
    PICKLE,
    POSTGRESQL,
    SQLITE,
    Types,
    sqlalchemy_types,
)
from tests.stream.bigqueries import bigquery_columns, bigquery_stream, running_bigquery, use_bigquery, use_bqemulator
from tests.stream.buckets import bucket_tables, stream_into_bucket, use_bucket
from tests.stream.databases import (
    BY_SQLALCHEMY,
    COLLECTOR,
    DATABASES,
    client_of,
    execute,
    query,
    stream_into,
    types,
    use,
)
from tests.stream.lakes import DELTA as DELTA_FOLDER
from tests.stream.lakes import ICEBERG as WAREHOUSE
from tests.stream.lakes import delta_table, iceberg_table, stream_into_delta, stream_into_iceberg
from tests.stream.omnisci import omnisci_columns, running_omnisci, stream_into_omnisci, use_omnisci
from tests.stream.strange import StrangeDialect

Columns = dict[str, list[Any]]
_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 - of the moments that have no zone


def _nothing(_: object) -> None:
    return None


def _no_column(_home: Path, _name: str, _type: pa.DataType) -> list[Any]:
    raise AssertionError("only tables are asked for a column")


@dataclass(frozen=True)
class TargetCase:
    """A target: its part of the table of types, what makes a stream into it, and what reads it back.

    Attributes:
        stream_type: Its folder below ``rejected``.
        column: Reads what one column of a table has but for nulls, times as counts of days or microseconds.
        ready: Makes its server ready for a test.
        drop: Drops the table.
        dialect: Of what is asked in SQL.
    """

    types: Types
    stream: Callable[..., Stream]
    read: Callable[[Path], Columns]
    stream_type: str = "local"
    column: Callable[[Path, str, pa.DataType], list[Any]] = _no_column
    ready: Callable[[pytest.FixtureRequest], object] = _nothing
    drop: Callable[[Path], object] = _nothing
    dialect: str = ""

    @property
    def is_table(self) -> bool:
        return self.column is not _no_column

    def use(self, request: pytest.FixtureRequest) -> "TargetCase":
        """Make it ready for one test."""
        self.ready(request)
        return self


def _database(types_: Types, dialect: str, read: Callable[[Path], Columns] | None = None) -> TargetCase:
    def by_client(home: Path) -> Columns:
        return _by_column(list(types(home, dialect)), query(home, dialect, f'SELECT * FROM "{COLLECTOR}"'))

    return TargetCase(
        types_,
        partial(stream_into, dialect),
        read or by_client,
        "sql.sqlalchemy" if dialect.startswith(BY_SQLALCHEMY) else f"sql.{dialect}",
        partial(_asked_in_sql, dialect),
        partial(use, dialect),
        lambda home: execute(home, dialect, f"DROP TABLE IF EXISTS {COLLECTOR}"),
        dialect,
    )


def _bigquery(use: Callable[[pytest.FixtureRequest], object] = use_bigquery, **options: Any) -> TargetCase:
    return TargetCase(
        BIGQUERY,
        partial(bigquery_stream, **options),
        lambda _: bigquery_columns(),
        "bigquery",
        lambda _home, name, type_: [_ticks(value, type_) for value in bigquery_columns()[name] if value is not None],
        use,
        lambda _: running_bigquery().clear(),
    )


def _omnisci() -> TargetCase:
    return TargetCase(
        HEAVYDB,
        stream_into_omnisci,
        lambda _: omnisci_columns(),
        "omnisci",
        _of_heavydb,
        use_omnisci,
        lambda _: running_omnisci().clear(),
    )


def _lake(
    types_: Types, stream: Callable[..., Stream], read: Callable[[Path], pa.Table], folder: str, kind: str
) -> TargetCase:
    def column(home: Path, name: str, type_: pa.DataType) -> list[Any]:
        held = read(home / folder).column(name).combine_chunks().drop_null()
        if pa.types.is_timestamp(held.type) or pa.types.is_date(held.type):
            held = held.cast(pa.int32() if pa.types.is_date(held.type) else pa.int64())
        return list(held.to_pylist())

    return TargetCase(
        types_,
        stream,
        lambda home: _of_arrow(read(home / folder)),
        kind,
        column,
        drop=lambda home: shutil.rmtree(home / folder, ignore_errors=True),
    )


def _file(types_: Types, fmt: str, read: Callable[[Path], Columns]) -> TargetCase:
    def stream(home: Path, **options: Any) -> Stream:
        return Stream2Local(COLLECTOR, fmt=fmt, drop_duplicate_keys=["number"], home=home, **options)

    def by_client(home: Path) -> Columns:
        folder = home / "STORE" / COLLECTOR / fmt
        found: Columns = {}
        for path in sorted(folder.glob(f"*.{fmt}")):
            for name, values in read(path).items():
                found.setdefault(name, []).extend(values)
        return found

    return TargetCase(types_, stream, by_client)


def _bucket() -> TargetCase:
    def by_client(home: Path) -> Columns:
        found: Columns = {}
        for table in bucket_tables(home):
            for name, values in _of_arrow(table).items():
                found.setdefault(name, []).extend(values)
        return found

    return TargetCase(
        dataclasses.replace(PARQUET, target=f"{PARQUET.target} in S3"),
        partial(stream_into_bucket, drop_duplicate_keys=["number"]),
        by_client,
        ready=use_bucket,
    )


_MICROSECONDS = {
    "duckdb": "epoch_us({})",
    "postgresql": "extract(epoch FROM date_trunc('second', {0})) * 1000000"
    " + extract(microseconds FROM {0})::bigint % 1000000",
    "mysql": "timestampdiff(MICROSECOND, '1970-01-01', {})",
    "mariadb": "timestampdiff(MICROSECOND, '1970-01-01', {})",
}
_DAYS = {
    "duckdb": "{} - DATE '1970-01-01'",
    "postgresql": "{} - DATE '1970-01-01'",
    "mysql": "to_days({}) - to_days('1970-01-01')",
    "mariadb": "to_days({}) - to_days('1970-01-01')",
}


def _asked_in_sql(dialect: str, home: Path, name: str, type_: pa.DataType) -> list[Any]:
    """In the database's own words: Python's times end with the year 9999."""
    words = _MICROSECONDS if pa.types.is_timestamp(type_) else _DAYS if pa.types.is_date(type_) else {}
    asked = words.get(client_of(dialect), "{}").format(f'"{name}"')
    found = query(home, dialect, f'SELECT {asked} FROM "{COLLECTOR}" WHERE "{name}" IS NOT NULL')
    return [_ticks(value, type_) for (value,) in found]


def _of_heavydb(_home: Path, name: str, type_: pa.DataType) -> list[Any]:
    """From the server's own store what the client can't give: times beyond the year 9999, all digits of a decimal."""
    if not (pa.types.is_temporal(type_) or pa.types.is_decimal(type_)):
        return [value for value in omnisci_columns([name])[name] if value is not None]
    stored = running_omnisci().sql(f'SELECT "{name}_t" FROM "{COLLECTOR}_stream" WHERE "{name}_t" IS NOT NULL')
    [held] = stored.combine_chunks().columns
    if pa.types.is_decimal(held.type):
        return list(held.to_pylist())
    ticks = held.combine_chunks().cast(pa.int32() if pa.types.is_date(held.type) else pa.int64()).to_pylist()
    return [int(each) for each in ticks]


def _ticks(value: Any, type_: pa.DataType) -> Any:
    if not pa.types.is_temporal(type_):
        return value
    if isinstance(value, datetime.datetime):
        return (value.replace(tzinfo=None) - _EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return (value - _EPOCH.date()).days
    if not isinstance(value, str):
        return int(value)
    moment = np.datetime64(value.removesuffix("+00:00"))
    return int(moment.astype("datetime64[D]" if pa.types.is_date(type_) else "datetime64[us]").astype(np.int64))


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


CASES = (
    _database(DUCKDB, "duckdb", _duckdb),
    _database(SQLITE, "sqlite"),
    _database(POSTGRESQL, "postgresql"),
    _database(MYSQL, "mysql"),
    _database(MARIADB, "mariadb"),
    _bigquery(),
    _omnisci(),
    _file(PARQUET, "parquet", _parquet),
    _file(JSON_FILE, "json", _json),
    _file(CSV, "csv", _csv),
    _file(PICKLE, "pickle", _pickle),
)
LAKES = (
    _lake(DELTA, stream_into_delta, delta_table, DELTA_FOLDER, "delta"),
    _lake(ICEBERG, stream_into_iceberg, iceberg_table, WAREHOUSE, "iceberg"),
)
BUCKETS = (_bucket(),)
_make_dialect: Any = StrangeDialect
_STRANGE = dataclasses.replace(sqlalchemy_types(_make_dialect()), target="PostgreSQL of strange name")
# The general target on databases that the others have too.
GENERAL = (
    *(
        _database(dataclasses.replace(known.types, target=f"{known.types.target} by SQLAlchemy"), f"sqlalchemy_{name}")
        for name, known in KNOWN.items()
    ),
    _database(_STRANGE, "sqlalchemy_strange"),
)
_VENDORS = ((MICROSOFT_SQL, "sqlalchemy_mssql"), (ORACLE, "sqlalchemy_oracle"))
LIVE = tuple(pytest.param(_database(*case), marks=pytest.mark.live) for case in _VENDORS)
GENERAL_IN_SHORT = tuple(case for case in GENERAL if case.dialect.endswith("strange"))
TABLES = tuple(case for case in CASES if case.is_table)
# Their random frames and poison take long, so they are left to torture.
LONG = tuple(pytest.param(case, marks=pytest.mark.torture) for case in LAKES)
LOAD_JOBS = _bigquery(if_exists="replace")
BQEMULATOR = _bigquery(use_bqemulator)
