"""A frame of every kind of column, read back by each target's own client: exact, or inexact as is written here.

What is here is what holds today. Two kinds are kept to the microsecond by DuckDB, which is logged once for each; NaN is
null in SQLite, which has none.
"""

import datetime
import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db import FileConverter, Stream2Local, Stream2Sql
from tests.stream.kinds import KINDS, every_kind
from tests.stream.ways import DATABASES, DIALECTS, query, rejected_rows, shards, table_rows

UTC = datetime.UTC
SAME: dict[str, list[Any]] = {
    "id": [0, 1, 2],
    "int_with_null": [2**53 + 1, -(2**63), None],
    "small": [-128, 127, None],
    "float": [0.1 + 0.2, 5e-324, None],
    "infinite": [float("inf"), float("-inf"), None],
    "text": ["", "é😀\u2028\"',\n", None],
    "nul": ["a\0b", "\0", None],
    "digits": ["001", "1e5", None],
    "bytes": [b"\x00\xff", b"", None],
    "category": ["x", "y", None],
    "numbers": [10, 20, None],
    "dict": ['{"a": [1, 2.5, null], "é": {"b": true}}', "{}", None],
    "list": ["[1, 2]", "[]", None],
}
IN: dict[str, dict[str, list[Any]]] = {
    "duckdb": {
        "flag": [True, False, None],
        "unsigned": [2**63 + 1, 2**64 - 1, None],
        "decimal": [Decimal("1.10"), Decimal("-" + "9" * 30 + ".99"), None],
        "date": [datetime.date(2026, 2, 28), datetime.date(1, 1, 1), None],
        "time": [datetime.time(1, 2, 3, 4), datetime.time(23, 59, 59, 999999), None],
        # The column holds nanoseconds, as its text shows; it is the client that cuts them.
        "naive": [datetime.datetime(2026, 2, 28, 1, 2, 3, 123456), datetime.datetime(1700, 1, 1), None],  # noqa: DTZ001
        # DuckDB has no zoned timestamp and no interval of nanoseconds: cut, and said so once.
        "zoned": [
            datetime.datetime(2026, 2, 28, 6, 2, 3, 123456, UTC),
            datetime.datetime(1969, 12, 31, tzinfo=UTC),
            None,
        ],
        "delta": [datetime.timedelta(days=1), datetime.timedelta(microseconds=-1), None],
    },
    "sqlite": {
        "flag": [1, 0, None],
        "unsigned": ["9223372036854775809", "18446744073709551615", None],
        "decimal": ["1.10", "-" + "9" * 30 + ".99", None],
        "date": ["2026-02-28", "0001-01-01", None],
        "time": ["01:02:03.000004000", "23:59:59.999999000", None],
        "naive": ["2026-02-28 01:02:03.123456789", "1700-01-01 00:00:00.000000000", None],
        "zoned": ["2026-02-28 06:02:03.123456789+00:00", "1969-12-31 00:00:00.000000000+00:00", None],
        "delta": [86_400 * 10**9 + 1, -1000, None],
    },
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_kind_is_in_the_table_as_its_client_has_it(dialect: str, tmp_path: Path) -> None:
    with Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(every_kind())
    rows = table_rows(tmp_path, dialect)
    found = {name: [row[name] for row in rows] for name in rows[0]}
    wanted = SAME | IN[dialect]
    assert found.keys() == KINDS.keys() - {"null"}
    for name, values in found.items():
        assert [(type(value), value) for value in values] == [(type(value), value) for value in wanted[name]], name
    assert rejected_rows(tmp_path, f"sql.{dialect}") == []


def test_what_duckdb_can_not_hold_exactly_is_said_once_a_column(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Stream2Sql("flights", DATABASES["duckdb"], "duckdb", home=tmp_path) as stream:
        stream.stream(every_kind())
        stream.stream(every_kind())
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted(message.split(" is kept")[0] for message in said) == ["'delta'", "'zoned'"]
    assert query(tmp_path, "duckdb", "SELECT DISTINCT CAST(naive AS VARCHAR) FROM flights WHERE id = 0") == [
        ("2026-02-28 01:02:03.123456789",)
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_json_cells_are_asked_into_by_the_database_itself(dialect: str, tmp_path: Path) -> None:
    with Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(every_kind())
    [(found,)] = query(tmp_path, dialect, "SELECT dict -> '$.a' FROM flights WHERE id = 0")
    assert json.loads(found) == [1, 2.5, None]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_frame_again_goes_into_the_same_columns(dialect: str, tmp_path: Path) -> None:
    with Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.stream(every_kind())
        stream.stream(every_kind())
        stream.stream(every_kind().tail(1))
    assert len(table_rows(tmp_path, dialect)) == 7
    assert stream.status().rows_rejected == 0
    assert query(tmp_path, dialect, "SELECT * FROM _api2db_schema_changes") == []


@pytest.mark.parametrize("fmt", ["parquet", "json", "pickle"])
def test_shards_give_every_kind_back_as_it_was(fmt: str, tmp_path: Path) -> None:
    with Stream2Local("flights", fmt=fmt, home=tmp_path) as stream:
        stream.q.put(every_kind())
    [shard] = shards(tmp_path, fmt)
    found = FileConverter.static_load_df(str(shard), fmt)
    assert found is not None
    wanted = every_kind()
    assert list(found.columns) == list(wanted.columns)
    for name in wanted:
        assert _plain(found[name]) == _plain(wanted[name]), name
        if name not in {"text", "nul", "digits"}:  # text that was of dtype object comes back as pandas' own
            if name == "category":
                assert found[name].dtype.name == "category"
            else:
                assert found[name].dtype == wanted[name].dtype, name


def test_csv_holds_every_value_as_text_even_where_it_can_not_tell_its_kind(tmp_path: Path) -> None:
    with Stream2Local("flights", fmt="csv", home=tmp_path) as stream:
        stream.q.put(every_kind())
    [shard] = shards(tmp_path, "csv")
    found = FileConverter.static_load_df(str(shard), "csv")
    assert found is not None
    plain = {name: _plain(found[name]) for name in found}
    for name in ("id", "flag", "int_with_null", "small", "float", "infinite", "text", "nul", "digits", "date", "naive"):
        assert plain[name] == _plain(every_kind()[name]), name
    assert plain["unsigned"] == ["9223372036854775809", "18446744073709551615", None]
    assert plain["decimal"] == ["1.10", "-" + "9" * 30 + ".99", None]
    assert plain["time"] == ["01:02:03.000004", "23:59:59.999999", None]
    assert plain["bytes"] == ["AP8=", "", None]  # base64
    assert plain["delta"] == [86_400 * 10**9 + 1, -1000, None]  # nanoseconds
    assert plain["dict"] == SAME["dict"]
    assert str(found["zoned"].dtype) == "datetime64[ns, UTC]"


def _plain(column: "pd.Series[Any]") -> list[Any]:
    return [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in column.tolist()]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nan_that_is_no_null_stays_where_the_database_has_it(dialect: str, tmp_path: Path) -> None:
    with Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(pa.table({"id": [1, 2], "x": pa.array([float("nan"), None])}))
    # SQLite has no NaN: it stores null, which is not told yet.
    wanted = "nan" if dialect == "duckdb" else "None"
    assert [str(row["x"]) for row in table_rows(tmp_path, dialect)] == [wanted, "None"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (pa.float16(), [1.5, None]),
        (pa.float32(), [0.1, None]),
        (pa.int8(), [-128, None]),
        (pa.uint16(), [65535, None]),
        (pa.uint32(), [2**32 - 1, None]),
        (pa.date64(), [datetime.date(2026, 1, 1), None]),
        (pa.time32("s"), [datetime.time(1, 2, 3), None]),
        (pa.timestamp("s"), [datetime.datetime(2026, 1, 1), None]),  # noqa: DTZ001
        (pa.timestamp("ms", "Europe/Berlin"), [datetime.datetime(2026, 1, 1, tzinfo=UTC), None]),
        (pa.duration("ms"), [datetime.timedelta(milliseconds=5), None]),
        (pa.decimal256(60, 2), [Decimal("9" * 50), None]),
        (pa.binary(3), [b"abc", None]),
        (pa.large_string(), ["x", None]),
        (pa.list_(pa.int32()), [[1, 2], None]),
        (pa.struct([("a", pa.int32())]), [{"a": 1}, None]),
        (pa.map_(pa.string(), pa.int32()), [[("a", 1)], None]),
        (pa.dictionary(pa.int8(), pa.string()), ["x", None]),
    ],
    ids=str,
)
def test_other_arrow_types_are_delivered_too_and_nothing_is_rejected(
    dialect: str, type_: pa.DataType, values: list[Any], tmp_path: Path
) -> None:
    with Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        for _ in range(2):
            stream.stream(pa.table({"x": pa.array(values, type_)}))
    rows = [row["x"] for row in table_rows(tmp_path, dialect)]
    assert [row is None for row in rows] == [False, True] * 2
    assert rows[0] == rows[2]
    assert stream.status().rows_rejected == 0
