"""Shards of one round whose columns change their type: a store does what a stream does, loads the rest and ends."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Store, Store2Bigquery, Store2Omnisci, Store2Sql, Stream
from api2db.formats import FORMATS, write_frame
from tests.servers.bigquery import BigqueryServer
from tests.servers.omnisci import OmnisciServer
from tests.store.homes import left, shards
from tests.stream.bigqueries import bigquery_columns, bigquery_stream, target_of_bigquery, use_bigquery
from tests.stream.cases import rejected_rows
from tests.stream.databases import DATABASES, DIALECTS, stream_into, table_rows, target_of, types, use
from tests.stream.omnisci import stream_into_omnisci, use_omnisci

DAY = datetime.date(2026, 1, 31)
NOON = datetime.datetime.fromisoformat("2026-01-31T12:00:00.000005")
FAR = datetime.datetime.fromisoformat("9999-12-31T00:00:00")
DRIFTS: dict[str, list[Any]] = {
    "decimal then float": [Decimal("1.50"), 0.1],
    "dict then int": [{"a": 1}, 5],
    "dict then bool": [{"a": 1}, True],
    "dict then date": [{"a": 1}, DAY],
    "dict then text": [{"a": 1}, "x"],
    "list then int": [[1, 2], 5],
    "date then datetime": [DAY, NOON],
    "long int then float": [2**53 + 1, 0.5],
    "int then decimal": [7, Decimal("1.50")],
    "int then beyond 64 bits": [7, 2**63 + 1],
    "datetime then a far one": [pd.Timestamp("2026-01-31T12:00:00.000000001"), FAR],
    "int then text": [7, "x"],
    "int, text, int and float": [7, "x", 8, 0.5],
    "bool then int": [True, 5],
    "naive then zoned": [NOON, NOON.replace(tzinfo=datetime.UTC)],
    "text then dict": ["x", {"a": 1}],
    "text then bytes": ["x", b"\xff"],
    "int then mixed": [7, 8.5, ["y"]],
}
EVERYWHERE = [*DIALECTS, "bigquery", "omnisci"]
ON_SERVERS = {
    "decimal then float",
    "dict then text",
    "date then datetime",
    "long int then float",
    "int then decimal",
    "datetime then a far one",
    "int, text, int and float",
}
HELD_BY_ONE_TYPE = {"int then decimal", "int then beyond 64 bits"}
PAIRS = [(target, drift) for target in EVERYWHERE for drift in DRIFTS if target in DATABASES or drift in ON_SERVERS]


@dataclass(frozen=True)
class Both:
    """A store and a stream into two tables of one target."""

    store: Callable[..., Store]
    stream: Callable[..., Stream]
    kept: Callable[[Path, str], Any]
    stream_type: str
    tables: tuple[str, str] = ("stored", "flights")

    def rejected(self, home: Path, prefix: str = "") -> list[tuple[Any, ...]]:
        """The reasons and values of what is set aside."""
        found = rejected_rows(home, f"{prefix}{self.stream_type}")
        return [tuple(str(row[name]) for name in ("_api2db_reason", "id", "v")) for row in found]


def of_database(dialect: str) -> Both:
    def store(home: Path, **options: Any) -> Store:
        return Store2Sql("flights", 60, home=home, table="stored", **target_of(dialect), **options)

    def kept(home: Path, table: str) -> Any:
        rows = sorted(table_rows(home, dialect, table), key=lambda row: int(row["id"]))
        return types(home, dialect, table), [{name: str(value) for name, value in row.items()} for row in rows]

    return Both(store, lambda home, **options: stream_into(dialect, home, **options), kept, f"sql.{dialect}")


def of_bigquery(server: BigqueryServer) -> Both:
    return Both(
        lambda home, **options: Store2Bigquery(
            "flights", 60, home=home, **target_of_bigquery(server, "stored"), **options
        ),
        bigquery_stream,
        lambda _home, table: bigquery_columns(table),
        "bigquery",
    )


def of_omnisci(server: OmnisciServer) -> Both:
    def kept(_home: Path, table: str) -> Any:
        rows = server.reach.rows(table)
        return server.reach.columns(table), rows

    return Both(
        lambda home, **options: Store2Omnisci("flights", 60, home=home, **server.reach.options, **options),
        stream_into_omnisci,
        kept,
        "omnisci",
        ("flights_store", "flights_stream"),
    )


@pytest.fixture
def both(request: pytest.FixtureRequest) -> Both:
    if request.param == "bigquery":
        return of_bigquery(use_bigquery(request))
    if request.param == "omnisci":
        use_omnisci(request)
        return of_omnisci(request.getfixturevalue("omnisci"))
    return of_database(use(request.param, request))


def put(home: Path, values: list[Any], fmt: str = "parquet") -> list[pd.DataFrame]:
    """A shard for each value, the rows of it with a number of their own."""
    shards(home, fmt).mkdir(parents=True, exist_ok=True)
    frames = [
        pd.DataFrame({"id": [2 * n, 2 * n + 1], "v": pd.Series([value, None], dtype=object)})
        if not isinstance(value, (int, float, pd.Timestamp))
        else pd.DataFrame([{"id": 2 * n, "v": value}])
        for n, value in enumerate(values)
    ]
    for n, frame in enumerate(frames):
        write_frame(frame, shards(home, fmt) / f"{n:03}.{fmt}", fmt)
    return frames


@pytest.mark.parametrize(("both", "drift"), PAIRS, indirect=["both"])
def test_a_store_leaves_what_a_stream_leaves_of_the_same_frames(both: Both, tmp_path: Path, drift: str) -> None:
    frames = put(tmp_path, DRIFTS[drift])
    both.store(tmp_path).store()
    assert left(tmp_path) == []
    with both.stream(tmp_path) as stream:
        for frame in frames:
            stream.stream(frame)
    stored, streamed = (both.kept(tmp_path, table) for table in both.tables)
    if drift in HELD_BY_ONE_TYPE:  # in which a store makes the table, where some targets can't widen it later
        assert both.rejected(tmp_path, "store.") == []
        return
    assert stored == streamed
    assert both.rejected(tmp_path, "store.") == both.rejected(tmp_path)


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("both", ["sqlite"], indirect=True)
def test_each_row_is_stored_or_set_aside(both: Both, tmp_path: Path, drift: str, fmt: str) -> None:
    frames = put(tmp_path, DRIFTS[drift], fmt)
    store = both.store(tmp_path, fmt=fmt)
    store.store()
    assert left(tmp_path, fmt) == []
    status = store.status()
    assert status.rows_delivered + status.rows_rejected == sum(map(len, frames))
    assert status.rows_rejected == len(both.rejected(tmp_path, "store."))
    assert status.rows_delivered >= len(frames[0])


@pytest.mark.parametrize("both", DIALECTS, indirect=True)
def test_values_that_fit_no_column_go_into_extra_where_that_is_asked_for(both: Both, tmp_path: Path) -> None:
    put(tmp_path, [7, "x", 8])
    both.store(tmp_path, on_conflict="json").store()
    _, rows = both.kept(tmp_path, "stored")
    assert [row["v"] for row in rows] == ["7", "None", "None", "8"]
    assert "x" in rows[1]["_extra"]
    assert both.rejected(tmp_path, "store.") == []


@pytest.mark.parametrize("both", EVERYWHERE, indirect=True)
def test_a_frozen_table_keeps_its_types_and_the_odd_rows_are_set_aside(both: Both, tmp_path: Path) -> None:
    put(tmp_path, [7])
    both.store(tmp_path).store()
    put(tmp_path, [8, "x", 0.5])
    both.store(tmp_path, schema="freeze").store()
    assert left(tmp_path) == []
    assert [row[2] for row in both.rejected(tmp_path, "store.")] == ["x", "0.5"]
