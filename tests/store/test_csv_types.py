"""CSV shards come back in the types that their frames had."""

import datetime
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from api2db import FileConverter, Store2Local, Store2Sql, Stream2Local
from api2db.formats import read
from api2db.formats.folder_types import join_types
from api2db.targets.sql import SqlTarget
from tests.store.test_plain_readers import put
from tests.stream.cases import rejected_rows

VALUES: dict[str, list[Any]] = {
    "decimals": [Decimal("1.25"), Decimal("-7.00"), None],
    "decimals of more digits": [Decimal("1.25"), Decimal("123456.125")],
    "int, then decimal": [1, Decimal("1.5")],
    "times": [datetime.time(1, 2, 3, 4), datetime.time(5)],
    "spans": [datetime.timedelta(days=-1, microseconds=5), datetime.timedelta(3)],
    "bytes": [b"abc", b"", b"\xff"],
    "far moments": [
        datetime.datetime.fromisoformat("0001-01-01T00:00:00.000005"),
        datetime.datetime.fromisoformat("9999-12-31T23:59:59.999999"),
    ],
    "far zoned moments": [datetime.datetime(1600, 1, 1, 0, 0, 0, 5, datetime.UTC)],
    "whole floats": [1.0, 0.5],
    "long numbers": [5, 2**63, 2**64 - 1],
    "texts like numbers": ["007", "1.5", ""],
    "dicts": [{"a": 1}, [1, "x"]],
    "booleans": [True, False, None],
    "dates": [datetime.date(2026, 1, 1), datetime.date(1, 1, 1)],
}


def meant(value: Any) -> Any:
    if value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


@pytest.mark.parametrize("kind", VALUES)
def test_csv_shards_are_composed_in_the_types_that_were_put(tmp_path: Path, kind: str) -> None:
    put(tmp_path, VALUES[kind], "csv")
    found = FileConverter.static_compose_df_from_dir(str(tmp_path / "STORE" / "x" / "csv"), "csv")
    assert found is not None
    values = [meant(value) for value in found["v"]]
    assert values == VALUES[kind]


@pytest.mark.parametrize("kind", VALUES)
def test_a_store_loads_csv_shards_as_parquet_shards(tmp_path: Path, kind: str) -> None:
    tables = []
    for fmt in ("csv", "parquet"):
        put(tmp_path, VALUES[kind], fmt)
        store = Store2Sql("x", 60, fmt=fmt, db_name=f"{fmt}.duckdb", dialect="duckdb", home=tmp_path)
        store.store()
        with duckdb.connect(tmp_path / f"{fmt}.duckdb") as connection:
            tables.append(connection.sql("SELECT id, v, typeof(v) FROM x ORDER BY id").fetchall())
    assert tables[0] == tables[1]
    assert len(tables[0]) == len(VALUES[kind])


def test_composed_and_moved_csv_files_keep_their_types(tmp_path: Path) -> None:
    put(tmp_path, VALUES["decimals"], "csv")
    Store2Local("x", 60, fmt="csv", move_shards_path="moved", home=tmp_path, partition_by=None).store()
    paths = [*(tmp_path / "moved").glob("*.csv"), *(tmp_path / "STORE" / "x" / "composed").glob("*.csv")]
    assert len(paths) == 4
    types = [str(read(path, "csv").schema.field("v").type) for path in paths]
    assert set(types) == {"decimal128(3, 2)", "null"}


def test_text_is_never_read_as_what_it_looks_like(tmp_path: Path) -> None:
    put(tmp_path, [Decimal("1.5"), "1.5", "YWJj", "5 seconds"], "csv")
    found = [read(path, "csv").column("v").to_pylist() for path in sorted((tmp_path / "STORE/x/csv").glob("*.csv"))]
    assert found == [["1.5"], ["1.5"], ["YWJj"], ["5 seconds"]]


def test_spans_of_two_units_come_back_in_the_finer_one(tmp_path: Path) -> None:
    counts = {"s": [5, -86_400], "ms": [5, None], "ns": [5, -1], "us": [2**63 - 1, -(2**63) + 1]}
    with Stream2Local("x", fmt="csv", home=tmp_path) as stream:
        for unit, values in counts.items():
            stream.q.put(pa.table({"v": pa.array(values, pa.duration(unit))}))
            stream.flush()
    found = [read(path, "csv").column("v") for path in sorted((tmp_path / "STORE/x/csv").glob("*.csv"))]
    assert [str(column.type) for column in found] == ["duration[ns]"] * 3 + ["duration[us]"]
    assert [column.cast(pa.int64()).to_pylist() for column in found] == [
        [5_000_000_000, -86_400_000_000_000],
        [5_000_000, None],
        [5, -1],
        [2**63 - 1, -(2**63) + 1],
    ]


ALIKE: list[list[Any]] = [
    [b"ab", "x"],
    ["x", b"ab"],
    [b"1234", Decimal("1.5")],
    [{"a": 1}, b"ab"],
    [datetime.timedelta(1), "1 day"],
    ["x", datetime.timedelta(1)],
]


@pytest.mark.parametrize("values", ALIKE, ids=str)
def test_what_csv_can_t_tell_apart_is_rejected_before_it_is_written(tmp_path: Path, values: list[Any]) -> None:
    first, second = values
    put(tmp_path, [first, second, first], "csv")
    found = FileConverter.static_compose_df_from_dir(str(tmp_path / "STORE" / "x" / "csv"), "csv")
    assert found is not None
    assert [meant(value) for value in found["v"]] == [first, first]
    [row] = rejected_rows(tmp_path, "local", "x")
    assert "'v'" in row["_api2db_reason"]
    assert 'use fmt="parquet"' in row["_api2db_reason"]


def test_an_int_beside_a_span_and_bytes_beside_an_int_stay_what_they_are(tmp_path: Path) -> None:
    values = [datetime.timedelta(1), 5, b"1234", 1234, b"123456==", datetime.timedelta(2)]
    put(tmp_path, values, "csv")
    found = [read(path, "csv").column("v").to_pylist() for path in sorted((tmp_path / "STORE/x/csv").glob("*.csv"))]
    assert [cell for [cell] in found] == values


def test_far_moments_of_a_file_without_known_types_are_microseconds(tmp_path: Path) -> None:
    path = tmp_path / "far.csv"
    path.write_text('"a","b","c"\r\n0001-01-01 00:00:00.000005,1600-01-01 00:00:00.000005Z,x-1\r\n')
    schema = read(path, "csv").schema
    assert [str(type_) for type_ in schema.types] == ["timestamp[us]", "timestamp[us, tz=UTC]", "string"]


def test_a_restart_reads_csv_shards_by_the_types_that_its_round_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, [b"first", b"second"], "csv")
    real = SqlTarget.load

    def load_once(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    def store() -> None:
        Store2Sql("x", 60, fmt="csv", db_name="x.duckdb", dialect="duckdb", home=tmp_path, chunk_size=1).store()

    with monkeypatch.context() as patched:
        patched.setattr(SqlTarget, "load", load_once)
        with pytest.raises(KeyboardInterrupt):
            store()
    # By these the second shard would hold text, which the column does not take.
    join_types(tmp_path / "STORE" / "x" / "csv", "csv", [pa.schema({"v": pa.string()})], "test")
    store()
    with duckdb.connect(tmp_path / "x.duckdb") as connection:
        assert connection.sql("SELECT v FROM x").fetchall() == [(b"first",), (b"second",)]
    assert not list((tmp_path / "STORE" / "rejected").rglob("*.parquet"))
