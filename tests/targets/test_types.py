"""Each Arrow type has a column type in every embedded database, which is read back as a type that holds the same."""

import itertools
import sqlite3
from collections.abc import Callable
from contextlib import closing

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from api2db.frames import JSON, widened
from api2db.targets.types import DUCKDB, HEAVYDB, SQLITE, from_duckdb, from_heavydb, from_sqlite
from api2db.targets.types._rules import endless, outside, with_nul

TYPES = [
    pa.bool_(),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary(4), pa.binary_view()),
    *(pa.decimal128(5, 2), pa.decimal128(38, 0), pa.decimal128(38, 38), pa.decimal256(20, 3), pa.decimal256(60, 2)),
    *(pa.date32(), pa.date64()),
    *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
    *(pa.timestamp(unit, "Asia/Tokyo") for unit in ("s", "us", "ns")),
    *(pa.duration(unit) for unit in ("s", "us", "ns")),
    JSON,
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int32(), pa.int64()),
]
# Kept to the microsecond, which delivery says once a column.
CUT_IN_DUCKDB = {pa.timestamp("ns", "Asia/Tokyo"), pa.duration("ns")}
TEXT_FOR_WANT_OF_DIGITS = {pa.decimal256(60, 2)}


def _holds(column: pa.DataType, type_: pa.DataType) -> bool:
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_decimal256(plain):
        plain = pa.decimal128(plain.precision, plain.scale)
    both = widened(column, plain)
    texts = (pa.string(), pa.large_string(), pa.string_view())
    blobs = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    if column in texts:
        return plain in texts
    if pa.types.is_binary(column):
        return any(is_kind(plain) for is_kind in blobs)
    if pa.types.is_date(column):
        return bool(pa.types.is_date(plain))
    return both is not None and (both == column or (column.id == both.id and getattr(both, "unit", 0) == column.unit))


@pytest.mark.parametrize("type_", TYPES, ids=str)
@pytest.mark.parametrize(("name", "back"), [(DUCKDB.column, from_duckdb), (SQLITE.column, from_sqlite)])
def test_the_declared_type_is_read_back_as_one_that_holds_every_value(
    type_: pa.DataType, name: Callable[[pa.DataType], str], back: Callable[[str], pa.DataType]
) -> None:
    column = back(name(type_))
    if type_ in TEXT_FOR_WANT_OF_DIGITS:
        assert column == pa.string()
    elif not (name == DUCKDB.column and type_ in CUT_IN_DUCKDB):
        assert _holds(column, type_), f"{type_} → {name(type_)} → {column}"


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_duckdb_takes_the_name_and_says_it_back(type_: pa.DataType) -> None:
    with closing(duckdb.connect()) as connection:
        connection.execute(f"CREATE TABLE t (x {DUCKDB.column(type_)})")
        [(declared,)] = connection.execute("SELECT data_type FROM duckdb_columns() WHERE table_name = 't'").fetchall()
    assert declared == DUCKDB.column(type_)


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_sqlite_takes_the_name_with_an_affinity_that_changes_no_value(type_: pa.DataType) -> None:
    name = str(SQLITE.column(type_))
    text, number = "0012.50", 12
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (x {name})")
        assert connection.execute("SELECT type FROM pragma_table_info('t')").fetchall() == [(name,)]
        connection.execute("INSERT INTO t VALUES (?)", (text if "TEXT" in name else number,))
        [(found,)] = connection.execute("SELECT x FROM t").fetchall()
    assert found == (text if "TEXT" in name else number)


def test_a_column_of_nulls_has_no_type_yet() -> None:
    assert (DUCKDB.column(pa.null()), SQLITE.column(pa.null())) == (None, None)


@pytest.mark.parametrize(
    ("declared", "type_"),
    [
        ("varchar(20)", pa.string()),
        ("NVARCHAR(100)", pa.string()),
        ("CLOB", pa.string()),
        ("bigint", pa.int64()),
        ("UNSIGNED BIG INT", pa.int64()),
        ("DOUBLE PRECISION", pa.float64()),
        ("FLOAT", pa.float64()),
        ("BLOB", pa.binary()),
        ("NUMERIC", pa.float64()),
        ("DECIMAL(10,2)", pa.float64()),
        ("DECIMAL TEXT(10, 2)", pa.decimal128(10, 2)),
        ("CHARINT", pa.int64()),
    ],
)
def test_a_sqlite_column_of_others_is_what_its_affinity_holds(declared: str, type_: pa.DataType) -> None:
    assert from_sqlite(declared) == type_


def test_an_array_of_duckdb_is_a_list_of_its_items() -> None:
    assert from_duckdb("INTEGER[]") == from_duckdb("INTEGER[3]") == pa.list_(pa.int32())
    assert from_duckdb("VARCHAR[][]") == pa.list_(pa.list_(pa.string()))


def test_a_duckdb_type_that_is_none_of_ours_is_text() -> None:
    assert from_duckdb("UUID") == pa.string()
    assert from_duckdb("STRUCT(a INTEGER)[]") == pa.string()


# What HeavyDB has no type for is text there, or a number, as the table of types says; zoned times are in UTC.
AS_TEXT_IN_HEAVYDB = {
    *(type_ for type_ in TYPES if pa.types.is_decimal(type_) and type_.precision > 18),
    *(pa.binary(), pa.large_binary(), pa.binary(4), pa.binary_view(), pa.uint64(), JSON),
    *(pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
}


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_heavydb_s_type_is_read_back_as_one_that_holds_every_value(type_: pa.DataType) -> None:
    declared = str(HEAVYDB.column(type_))
    column = from_heavydb(declared)
    if type_ in AS_TEXT_IN_HEAVYDB:
        assert declared == "TEXT ENCODING DICT(32)"
    elif pa.types.is_duration(type_):
        assert column == pa.int64()
    elif pa.types.is_timestamp(type_):
        assert (column.unit, column.tz) == ("ns" if type_.unit == "ns" else "us", None)
    else:
        assert _holds(column, type_), f"{type_} → {declared} → {column}"


@pytest.mark.parametrize(
    ("declared", "type_"),
    [
        ("BIGINT ENCODING FIXED(16)", pa.int16()),
        ("BIGINT NOT NULL", pa.int64()),
        ("DECIMAL(5,2)", pa.decimal128(5, 2)),
        ("TIMESTAMP(3)", pa.timestamp("ms")),
        ("TIMESTAMP(0) ENCODING FIXED(32)", pa.timestamp("s")),
        ("DATE ENCODING DAYS(16)", pa.date32()),
        ("TEXT ENCODING NONE", pa.string()),
        ("POINT", pa.string()),
        ("BIGINT[]", pa.null()),
    ],
)
def test_a_heavydb_column_of_others_is_what_it_holds(declared: str, type_: pa.DataType) -> None:
    assert from_heavydb(declared) == type_


_FIRST, _LAST = "-4712-01-01", "294276-12-31"
_SECONDS_OF_A_DAY = 86_400
_MOMENTS = [
    pytest.param(pa.timestamp(unit), 64, _SECONDS_OF_A_DAY * ticks, id=unit)
    for unit, ticks in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
]


@pytest.mark.parametrize(("type_", "bits", "ticks_of_a_day"), [*_MOMENTS, pytest.param(pa.date32(), 32, 1, id="date")])
def test_whatever_stands_beside_them_those_beyond_a_limit_are_found_and_no_others(
    type_: pa.DataType, bits: int, ticks_of_a_day: int
) -> None:
    first, last = (int(np.datetime64(day, "D").astype(np.int64)) * ticks_of_a_day for day in (_FIRST, _LAST))
    last += ticks_of_a_day - 1
    most = 2 ** (bits - 1) - 1
    near = [first - 1, first, 0, last, last + 1]
    chosen = [-most - 1, -most, 1 - most, most - 1, most, *(tick for tick in near if abs(tick) < most)]
    for one, other in itertools.product([*chosen, None], repeat=2):
        values = pa.array([None, one, other], pa.int64() if bits == 64 else pa.int32()).view(type_)[1:]
        is_outside = [tick is not None and not first <= tick <= last for tick in (one, other)]
        is_endless = [tick in (-most, most) for tick in (one, other)]
        assert outside(_FIRST, _LAST)(values).fill_null(False).to_pylist() == is_outside
        assert endless(values).fill_null(False).to_pylist() == is_endless


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()], ids=str)
@pytest.mark.parametrize("texts", [[], [None], [""], ["a", None, "c"], ["a", "b\0", "", None, "\0"]], ids=str)
def test_a_nul_is_found_in_each_part_of_a_column(type_: pa.DataType, texts: list[str | None]) -> None:
    column = pa.array(texts, type_)
    for first in range(len(texts) + 1):
        for end in range(first, len(texts) + 1):
            found = with_nul(column[first:end]).fill_null(False)
            assert found.to_pylist() == ["\0" in (text or "") for text in texts[first:end]]
