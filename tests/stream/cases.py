"""The cases of the behaviour suite: every target with its options, and a function that reads back its rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import FileConverter, Stream, Stream2Local
from tests.journals.rejected import rejected_tables
from tests.stream.bigqueries import bigquery_rows, bigquery_stream, live_bigquery, use_bigquery, use_bqemulator
from tests.stream.buckets import bucket_rows, stream_into_bucket, use_bucket
from tests.stream.databases import (
    BY_SQLALCHEMY,
    COLLECTOR,
    DATABASES,
    GENERAL,
    LIVE_URLS,
    client_of,
    execute,
    query,
    stream_into,
    table_rows,
    use,
)
from tests.stream.lakes import delta_rows, iceberg_rows, stream_into_delta, stream_into_iceberg
from tests.stream.omnisci import omnisci_rows, stream_into_omnisci, use_omnisci

__all__ = [
    "APPENDING",
    "BY_URL",
    "BY_URL_IN_SHORT",
    "CASES",
    "COLLECTOR",
    "DATABASES",
    "DIALECTS",
    "EMULATED",
    "LIVE",
    "LONG",
    "OBJECTS",
    "REPLACING",
    "TargetCase",
    "execute",
    "files",
    "frame",
    "query",
    "records",
    "rejected_rows",
    "shards",
    "sql",
    "table_rows",
]


@dataclass(frozen=True)
class TargetCase:
    """A target with its options.

    Attributes:
        stream_type: Its folder below ``upload_failed`` and ``rejected``.
        make: Makes the stream; takes the home, and more options.
        rows: Reads the rows in the target, in its order.
        newest_only: Whether only the newest frame counts.
        dialect: The dialect of a database.
        in_order: Whether the rows are read in the order in which they were put.
        is_emulator: Whether its server is an emulator that others wrote.
        is_live: Whether its server is Google's own.
    """

    name: str
    stream_type: str
    make: Callable[..., Stream]
    rows: Callable[[Path], list[dict[str, Any]]]
    newest_only: bool = field(default=False)
    dialect: str | None = field(default=None)
    in_order: bool = field(default=True)
    is_emulator: bool = field(default=False)
    is_live: bool = field(default=False)

    def use(self, request: pytest.FixtureRequest) -> "TargetCase":
        """Make its server ready for one test, if it has one."""
        if self.is_live:
            live_bigquery().begin()
        elif self.is_emulator:
            use_bqemulator(request)
        elif self.stream_type == "bigquery":
            use_bigquery(request)
        elif self.name.endswith("_in_s3"):
            use_bucket(request)
        if self.dialect == "omnisci":
            use_omnisci(request)
        elif self.dialect:
            use(self.dialect, request)
        return self

    def ids(self, home: Path) -> list[int]:
        found = [int(row["id"]) for row in self.rows(home)]
        return found if self.in_order else sorted(found)

    def rejected(self, home: Path) -> list[dict[str, Any]]:
        return rejected_rows(home, self.stream_type)

    def expected(self, frames: Sequence[Sequence[int]]) -> list[int]:
        """Return the numbers that the target has after these frames."""
        there = frames[-1:] if self.newest_only else frames
        numbers = [number for frame in there for number in frame]
        return numbers if self.in_order else sorted(numbers)


@contextmanager
def making(home: Path) -> Iterator[Callable[..., Stream]]:
    """Makes streams of cases in one home, and stops them in any case."""
    made: list[Stream] = []

    def make(case: TargetCase, **options: object) -> Stream:
        made.append(case.make(home=home, **options))
        return made[-1]

    yield make
    for stream in made:
        stream.stop()


def frame(*numbers: int) -> pd.DataFrame:
    return pd.DataFrame({"id": list(numbers), "text": [f"row {number}" for number in numbers]})


def rejected_rows(home: Path, stream_type: str, collector: str = COLLECTOR) -> list[dict[str, Any]]:
    tables = rejected_tables(home, f"/{collector}/{stream_type}/")
    return [row for table in tables for row in records(table.to_pandas())]


def records(df: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in df.to_dict("records")]


def shards(home: Path, fmt: str) -> list[Path]:
    folder = home / "STORE" / COLLECTOR / fmt
    return sorted(folder.glob(f"[0-9]*.{fmt}"), key=lambda path: int(path.stem))


def _shard_rows(home: Path, fmt: str) -> list[dict[str, Any]]:
    return [row for path in shards(home, fmt) for row in _file_rows(path, fmt)]


def _static_rows(home: Path, fmt: str) -> list[dict[str, Any]]:
    path = home / "CACHE" / f"{COLLECTOR}_static.{fmt}"
    return _file_rows(path, fmt) if path.exists() else []


def _file_rows(path: Path, fmt: str) -> list[dict[str, Any]]:
    loaded = FileConverter.static_load_df(str(path), fmt)
    assert loaded is not None
    return records(loaded)


def sql(dialect: str, if_exists: str = "append", keys: Sequence[str] = ()) -> TargetCase:
    words = [dialect, *([if_exists] if if_exists != "append" else []), *(["by_key"] if keys else [])]
    return TargetCase(
        "_".join(words),
        "sql.sqlalchemy" if dialect.startswith(BY_SQLALCHEMY) else f"sql.{dialect}",
        partial(stream_into, dialect, if_exists=if_exists, keys=keys),
        partial(table_rows, dialect=dialect),
        newest_only=if_exists == "replace",
        dialect=dialect,
        in_order=client_of(dialect) not in LIVE_URLS,
    )


def bigquery(if_exists: str = "append", keys: Sequence[str] = (), server: str = "bigquery") -> TargetCase:
    words = [server, *([if_exists] if if_exists != "append" else []), *(["by_key"] if keys else [])]
    return TargetCase(
        "_".join(words),
        "bigquery",
        partial(bigquery_stream, if_exists=if_exists, keys=keys),
        bigquery_rows,
        newest_only=if_exists == "replace",
        is_emulator=server != "bigquery",
    )


def _live(if_exists: str, keys: Sequence[str] = ()) -> TargetCase:
    """Google's own BigQuery, if the environment names a key file."""
    return TargetCase(
        f"bigquery_live_{'by_key' if keys else if_exists}",
        "bigquery",
        lambda home, **options: live_bigquery().stream(home, **{"if_exists": if_exists, "keys": keys, **options}),
        lambda home: live_bigquery().rows(home),
        newest_only=if_exists == "replace",
        in_order=False,
        is_live=True,
    )


def delta(if_exists: str = "append", keys: Sequence[str] = ()) -> TargetCase:
    words = ["delta", *([if_exists] if if_exists != "append" else []), *(["by_key"] if keys else [])]
    return TargetCase(
        "_".join(words),
        "delta",
        partial(stream_into_delta, if_exists=if_exists, keys=keys),
        delta_rows,
        newest_only=if_exists == "replace",
        in_order=not keys,
    )


def iceberg(if_exists: str = "append", keys: Sequence[str] = ()) -> TargetCase:
    words = ["iceberg", *([if_exists] if if_exists != "append" else []), *(["by_key"] if keys else [])]
    return TargetCase(
        "_".join(words),
        "iceberg",
        partial(stream_into_iceberg, if_exists=if_exists, keys=keys),
        iceberg_rows,
        newest_only=if_exists == "replace",
        in_order=not keys,
    )


def files(mode: str, fmt: str) -> TargetCase:
    return TargetCase(
        f"{mode}_{fmt}",
        "local",
        partial(Stream2Local, COLLECTOR, mode=mode, fmt=fmt),
        partial(_shard_rows if mode == "shard" else _static_rows, fmt=fmt),
        newest_only=mode == "replace",
    )


def objects(mode: str) -> TargetCase:
    """Files in S3, as moto plays it; each home has a folder of its own there."""
    return TargetCase(
        f"{mode}_in_s3",
        "local",
        partial(stream_into_bucket, mode=mode),
        partial(bucket_rows, mode=mode),
        newest_only=mode == "replace",
    )


def omnisci() -> TargetCase:
    return TargetCase("omnisci", "omnisci", stream_into_omnisci, omnisci_rows, dialect="omnisci")


CASES = (
    sql("duckdb"),
    sql("sqlite"),
    sql("postgresql"),
    sql("mariadb"),
    sql("mysql"),
    sql("duckdb", "fail"),
    sql("sqlite", "fail"),
    sql("duckdb", "replace"),
    sql("sqlite", "replace"),
    sql("postgresql", "replace"),
    sql("mariadb", "replace"),
    sql("mysql", "replace"),
    sql("duckdb", keys=["id"]),
    sql("sqlite", keys=["id"]),
    sql("postgresql", keys=["id"]),
    sql("mariadb", keys=["id"]),
    sql("mysql", keys=["id"]),
    omnisci(),
    files("shard", "parquet"),
    files("shard", "json"),
    files("shard", "csv"),
    files("shard", "pickle"),
    files("update", "parquet"),
    files("update", "csv"),
    files("replace", "parquet"),
    bigquery(),
    bigquery("fail"),
    bigquery("replace"),
    bigquery(keys=["id"]),
    delta(),
    delta(keys=["id"]),
    iceberg(),
    iceberg(keys=["id"]),
)
LONG = (delta("fail"), delta("replace"), iceberg("fail"), iceberg("replace"), objects("update"), objects("replace"))
OBJECTS = objects("shard")
EMULATED = (
    bigquery(server="bqemulator"),
    bigquery("fail", server="bqemulator"),
    bigquery("replace", server="bqemulator"),
)
# The general target: its whole matrix, and the part of it that each run of the suite has.
BY_URL = (
    *(sql(dialect) for dialect in GENERAL),
    *(sql(dialect, "replace") for dialect in GENERAL),
    *(sql(dialect, keys=["id"]) for dialect in GENERAL),
)
BY_URL_IN_SHORT = tuple(case for case in BY_URL if case.name == "sqlalchemy_sqlite_by_key")
LIVE = (
    *(_live("append"), _live("replace"), _live("append", keys=["id"])),
    *(sql(f"{BY_SQLALCHEMY}{name}") for name in LIVE_URLS),
    *(sql(f"{BY_SQLALCHEMY}{name}", "replace") for name in LIVE_URLS),
    *(sql(f"{BY_SQLALCHEMY}{name}", keys=["id"]) for name in LIVE_URLS),
)
APPENDING = tuple(case for case in CASES if not case.newest_only)
REPLACING = tuple(case for case in CASES if case.newest_only)
DIALECTS = tuple(DATABASES)
