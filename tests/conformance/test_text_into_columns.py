"""JSON into a table of the user's own, and frames whose types a stream was told: every table takes what is exact."""

import datetime
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from tests.conformance.clients import LAKES, TABLES, TargetCase
from tests.servers.bigquery import BigqueryServer
from tests.stream.bigqueries import DATASET, running_bigquery
from tests.stream.cases import rejected_rows
from tests.stream.databases import COLLECTOR, execute
from tests.stream.lakes import make_delta_table, make_iceberg_table
from tests.stream.omnisci import running_omnisci

ROW: dict[str, Any] = {
    "seen": "2026-03-29T01:30:00Z",
    "d": "2026-03-29",
    "price": "19.99",
    "ok": "true",
    "tags": ["a", "b"],
    "n": [1, 2],
}
VALUES = {
    "seen": datetime.datetime(2026, 3, 29, 1, 30),  # noqa: DTZ001
    "d": datetime.date(2026, 3, 29),
    "price": Decimal("19.99"),
    "ok": True,
    "tags": ["a", "b"],
    "n": [1, 2],
}
_SERVER = "seen timestamp(6) NULL, d date, price numeric(12,2), ok boolean, tags json, n json, t longtext"
_ARRAYS = "seen timestamptz, d date, price numeric(12,2), ok boolean, tags text[], n int[], t text"
COLUMNS = {
    "duckdb": _ARRAYS,
    "postgresql": _ARRAYS,
    "mysql": _SERVER,
    "mariadb": _SERVER,
    "sqlite": "seen timestamptz, d date, price numeric(12,2), ok boolean, tags json, n json, t text",
}
BIGQUERY = (
    {"name": "seen", "type": "TIMESTAMP"},
    {"name": "d", "type": "DATE"},
    {"name": "price", "type": "NUMERIC", "precision": "12", "scale": "2"},
    {"name": "ok", "type": "BOOLEAN"},
    {"name": "tags", "type": "STRING", "mode": "REPEATED"},
    {"name": "n", "type": "INTEGER", "mode": "REPEATED"},
    {"name": "t", "type": "STRING"},
)
DELTA = {
    "seen": "timestamp",
    "d": "date",
    "price": "decimal(12,2)",
    "ok": "boolean",
    "tags": ["string"],
    "n": ["integer"],
    "t": "string",
}
ICEBERG = {**DELTA, "seen": "timestamptz", "price": "decimal(12, 2)", "n": ["int"]}
HEAVYDB = (
    "seen_t TIMESTAMP(6), d_t DATE, price_t DECIMAL(12,2), ok_t BOOLEAN, tags_t TEXT ENCODING DICT(32),"
    " n_t TEXT ENCODING DICT(32), t_t TEXT ENCODING DICT(32)"
)
ODD: dict[str, Any] = {
    "a day that is none": {"seen": "2026-02-30T01:30:00Z"},
    "finer than the column": {"seen": "2026-03-29T01:30:00.1234567Z"},
    "another form of date": {"d": "29.03.2026"},
    "digits that the scale cuts": {"price": "19.999999999999999999999"},
    "a comma": {"price": "19,99"},
    "yes": {"ok": "yes"},
}


@pytest.fixture(params=[*TABLES, *LAKES], ids=lambda case: case.types.target)
def case(request: pytest.FixtureRequest) -> TargetCase:
    chosen: TargetCase = request.param
    return chosen.use(request)


def make_table(case: TargetCase, home: Path) -> None:
    if case.dialect:
        execute(home, case.dialect, f"CREATE TABLE {COLLECTOR} ({COLUMNS[case.dialect]})")
    elif case.stream_type == "bigquery":
        server = running_bigquery()
        assert isinstance(server, BigqueryServer)
        catalog = server.catalog
        if DATASET not in catalog.datasets:
            catalog.make_dataset({"datasetReference": {"datasetId": DATASET}})
        catalog.make_table(DATASET, {"tableReference": {"tableId": COLLECTOR}, "schema": {"fields": list(BIGQUERY)}})
    elif case.stream_type == "delta":
        make_delta_table(home, DELTA)
    elif case.stream_type == "iceberg":
        make_iceberg_table(home, ICEBERG)
    else:
        running_omnisci().reach.execute(f"CREATE TABLE {COLLECTOR}_stream ({HEAVYDB})")


def row_for(case: TargetCase, **cells: Any) -> dict[str, Any]:
    """HeavyDB's moments have no zone, so that an offset there is one too many."""
    row = {**ROW, **cells}
    return {**row, "seen": row["seen"].removesuffix("Z")} if case.types.target == "HeavyDB" else row


def value_of(name: str, cell: Any) -> Any:
    """A value as any client may have it, in one form."""
    if name == "seen":
        stamp = pd.Timestamp(cell)
        return (stamp.tz_convert("UTC").tz_localize(None) if stamp.tz else stamp).to_pydatetime()
    if name == "d":
        return datetime.date.fromisoformat(str(cell)[:10])
    if name == "price":
        return Decimal(str(cell)).quantize(Decimal("0.01"))
    if name == "ok":
        assert int(cell) in {0, 1}
        return bool(cell)
    return json.loads(cell) if isinstance(cell, str) else list(cell)


def held(case: TargetCase, home: Path) -> list[dict[str, Any]]:
    found = case.read(home)
    names = [name for name in VALUES if name in found]
    return [{name: value_of(name, found[name][place]) for name in names} for place in range(len(found["seen"]))]


def reasons(case: TargetCase, home: Path) -> list[str]:
    return [row["_api2db_reason"] for row in rejected_rows(home, case.stream_type)]


def test_json_goes_into_a_table_of_the_user_s_own(case: TargetCase, tmp_path: Path) -> None:
    make_table(case, tmp_path)
    with case.stream(tmp_path) as stream:
        stream.stream(pd.DataFrame([row_for(case), row_for(case)]))
    assert reasons(case, tmp_path) == []
    assert held(case, tmp_path) == [VALUES, VALUES]


@pytest.mark.parametrize("odd", ODD)
def test_text_of_no_exact_meaning_rejects_its_own_row_and_says_what_is_taken(
    case: TargetCase, tmp_path: Path, odd: str
) -> None:
    make_table(case, tmp_path)
    with case.stream(tmp_path) as stream:
        stream.stream(pd.DataFrame([row_for(case), row_for(case, **ODD[odd]), row_for(case)]))
    assert held(case, tmp_path) == [VALUES, VALUES]
    [reason] = reasons(case, tmp_path)
    [name] = ODD[odd]
    assert reason.startswith(f"'{name}")
    assert "; text is taken as " in reason


def test_a_moment_without_the_offset_that_its_column_needs_or_with_one_too_many_is_rejected(
    case: TargetCase, tmp_path: Path
) -> None:
    make_table(case, tmp_path)
    wrong = row_for(case)["seen"]
    wrong = wrong.removesuffix("Z") if wrong.endswith("Z") else f"{wrong}Z"
    with case.stream(tmp_path) as stream:
        stream.stream(pd.DataFrame([{**row_for(case), "seen": wrong}, row_for(case)]))
    assert held(case, tmp_path) == [VALUES]
    assert ["offset" in reason for reason in reasons(case, tmp_path)] == [True]


def test_a_number_never_becomes_text_but_where_the_stream_is_told_so(case: TargetCase, tmp_path: Path) -> None:
    make_table(case, tmp_path)
    with case.stream(tmp_path, stream_id="one") as stream:
        stream.stream(pd.DataFrame([{**row_for(case), "t": 7}]))
    assert case.read(tmp_path)["seen"] == []
    assert ["dtypes={" in reason and "'str'}" in reason for reason in reasons(case, tmp_path)] == [True]
    with case.stream(tmp_path, stream_id="two", dtypes={"t": "str"}) as stream:
        stream.stream(pd.DataFrame([{**row_for(case), "t": 7}]))
    assert case.read(tmp_path)["t"] == ["7"]


DTYPES: Mapping[str, Any] = {
    "seen": "datetime64[us, UTC]",
    "d": pd.ArrowDtype(pa.date32()),
    "price": pd.ArrowDtype(pa.decimal128(12, 2)),
    "ok": "boolean",
}


def _declared(case: TargetCase) -> dict[str, str | None]:
    kinds: Mapping[str, Callable[[], pa.DataType]] = {
        "seen": lambda: pa.timestamp("us", "UTC"),
        "d": pa.date32,
        "price": lambda: pa.decimal128(12, 2),
        "ok": pa.bool_,
    }
    return {name: str(case.types.column(kind())).lower() for name, kind in kinds.items()}


def _columns(stream: Any) -> dict[str, str]:
    target = stream._target()
    columns = target.columns() or ()
    target.close()
    return {column.name.removesuffix("_t"): column.declared.lower() for column in columns}


def test_a_frame_without_rows_makes_its_table_where_the_dtypes_are_given_and_rows_take_them(
    case: TargetCase, tmp_path: Path
) -> None:
    with case.stream(tmp_path, dtypes=DTYPES) as stream:
        stream.stream(pd.DataFrame({name: [] for name in DTYPES}))
        assert {name: _columns(stream).get(name) for name in DTYPES} == _declared(case)
        stream.stream(
            pd.DataFrame(
                [{name: ROW[name] for name in DTYPES}, {**{name: ROW[name] for name in DTYPES}, "price": "n/a"}]
            )
        )
        status = stream.status()
    assert (status.rows_delivered, status.rows_rejected) == (1, 1)
    assert held(case, tmp_path) == [{name: VALUES[name] for name in DTYPES}]
    [rejected] = rejected_rows(tmp_path, case.stream_type)
    assert rejected["price"] == "n/a"
    assert "dtypes=" in rejected["_api2db_reason"]
