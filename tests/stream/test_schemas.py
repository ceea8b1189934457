"""Streams with ``table_schema=``: table, staging and ledger are in that schema, and in no other."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Store2Sql, Stream2Local, Stream2Sql
from api2db.errors import ConfigurationError, StreamDiedError
from api2db.targets.sql import CHANGES_TABLE, LEDGER_TABLE
from tests.stream.cases import rejected_rows
from tests.stream.databases import COLLECTOR, DATABASE, SERVERS, Make, execute, query, running, target_of, use

SCHEMA = "an?a%ly.t'ics"
WITH_SCHEMAS = ("duckdb", "postgresql", "mariadb", "mysql")
OF_DIALECTS = pytest.mark.parametrize("dialect", WITH_SCHEMAS, indirect=True)
TABLES = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name LIKE 'flights%' ORDER BY 1"


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> Any:
    dialect = use(str(request.param), request)
    drop_schemas(dialect)
    yield dialect
    drop_schemas(dialect)


def drop_schemas(dialect: str) -> None:
    for name in (SCHEMA, "analytics") if dialect in SERVERS else ():
        if dialect != "postgresql":
            running(dialect).execute(f"DROP DATABASE IF EXISTS `{name}`")
        elif running(dialect).execute(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"):
            execute(Path(), dialect, f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


def rows_in(home: Path, dialect: str, schema: str, columns: str, table: str = COLLECTOR) -> list[tuple[Any, ...]]:
    return query(home, dialect, f'SELECT {columns} FROM "{schema}"."{table}" ORDER BY 1')


@OF_DIALECTS
@pytest.mark.parametrize("options", [{}, {"keys": ["id"]}], ids=["added", "by keys"])
def test_a_table_follows_the_data_in_a_schema_that_is_made_and_one_of_its_name_elsewhere_is_let_alone(
    make: Make, dialect: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT, mine BIGINT)", "INSERT INTO flights VALUES (7, 7)")
    stream = make(table_schema=SCHEMA, **options)
    for frame in ({"id": [1, 2], "n": [1, 2]}, {"id": [3], "n": [0.5], "new": ["x"]}):
        with stream:
            stream.stream(pd.DataFrame(frame))
    assert rows_in(tmp_path, dialect, SCHEMA, "id, n, new") == [(1, 1, None), (2, 2, None), (3, 0.5, "x")]
    assert query(tmp_path, dialect, "SELECT * FROM flights") == [(7, 7)]
    assert len(rows_in(tmp_path, dialect, SCHEMA, "stream", LEDGER_TABLE)) == 1
    changed = sorted(rows_in(tmp_path, dialect, SCHEMA, "column_name", CHANGES_TABLE))
    assert changed == [("n",), ("new",)]
    assert query(tmp_path, dialect, f"SELECT * FROM {LEDGER_TABLE}") == []
    assert stream.status().rows_rejected == 0


@OF_DIALECTS
def test_replace_and_fail_look_at_the_table_of_the_schema(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (mine BIGINT)")
    with make(table_schema=SCHEMA, if_exists="fail") as stream:
        stream.stream(pd.DataFrame({"id": [1]}))
    assert rows_in(tmp_path, dialect, SCHEMA, "id") == [(1,)]
    with make(table_schema=SCHEMA, if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [2]}))
        stream.stream(pd.DataFrame({"id": [3]}))
    assert rows_in(tmp_path, dialect, SCHEMA, "id") == [(3,)]
    assert query(tmp_path, dialect, "SELECT * FROM flights") == []


@OF_DIALECTS
def test_tables_of_one_name_in_two_schemas_are_two_targets(make: Make, dialect: str, tmp_path: Path) -> None:
    streams = [make(), make(table_schema="analytics"), make(table_schema=SCHEMA)]
    assert len({stream.identity for stream in streams}) == 3
    for stream in streams:
        stream.start()
    for number, stream in enumerate(streams):
        stream.q.put([{"id": number}])
        assert stream.flush(20), stream.status()
    assert query(tmp_path, dialect, "SELECT id FROM flights") == [(0,)]
    assert rows_in(tmp_path, dialect, "analytics", "id") == [(1,)]
    assert rows_in(tmp_path, dialect, SCHEMA, "id") == [(2,)]
    assert "analytics#flights" in streams[1].describe()


@OF_DIALECTS
def test_a_dotted_name_is_refused_where_such_a_schema_is_there_and_else_a_name_with_a_dot(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    with make(table="analytics.flights") as stream:
        stream.stream(pd.DataFrame({"id": [1]}))
    execute(tmp_path, dialect, "CREATE SCHEMA analytics")
    with make(table="analytics.flights") as stream:  # the table existed before
        stream.stream(pd.DataFrame({"id": [2]}))
    assert query(tmp_path, dialect, 'SELECT id FROM "analytics.flights" ORDER BY 1') == [(1,), (2,)]
    stream = make(table="analytics.others")
    with pytest.raises(ConfigurationError, match="table='others', table_schema='analytics'"):
        stream.connect()
    stream.start()
    stream.q.put([{"id": 3}])
    with pytest.raises(StreamDiedError, match="table='others', table_schema='analytics'"):
        stream.flush(20)
    stream.stop()
    default = {"duckdb": "main", "postgresql": "public"}.get(dialect, DATABASE)
    with make(table="analytics.others", table_schema=default) as stream:
        stream.stream(pd.DataFrame({"id": [4]}))
    waiting = [] if dialect == "postgresql" else [(3,)]  # only PostgreSQL can't tell that it is the same table
    assert query(tmp_path, dialect, 'SELECT id FROM "analytics.others" ORDER BY 1') == [*waiting, (4,)]


@OF_DIALECTS
def test_a_store_loads_into_the_schema(dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "SELECT 1")  # creates the database that the client reads
    with Stream2Local(COLLECTOR, home=tmp_path) as shards:
        shards.stream(pd.DataFrame({"id": [1, 2]}))
    store = Store2Sql(name=COLLECTOR, seconds=0, home=tmp_path, table_schema=SCHEMA, **target_of(dialect))
    store.store()
    assert rows_in(tmp_path, dialect, SCHEMA, "id") == [(1,), (2,)]


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_types_of_an_extension_in_another_schema_are_there(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(
        tmp_path,
        dialect,
        "CREATE EXTENSION citext",
        "CREATE SCHEMA analytics",
        "CREATE TABLE analytics.flights (name citext, n BIGINT)",
    )
    with make(table_schema="analytics", keys=["name"]) as stream:
        stream.stream(pd.DataFrame({"name": ["a", "b"], "n": [1, 2]}))
        stream.stream(pd.DataFrame({"name": ["A", "b"], "n": [3, 4]}))
    assert rows_in(tmp_path, dialect, "analytics", "name, n") == [("a", 1), ("b", 4)]
    assert [row["n"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [3]


def test_sqlite_has_no_schemas_and_a_schema_has_a_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sqlite has no schemas"):
        Stream2Sql("flights", "x.sqlite", "sqlite", home=tmp_path, table_schema="main")
    for odd in ("", 1, "a\0b"):
        with pytest.raises(ConfigurationError, match="table_schema"):
            Stream2Sql("flights", "x.duckdb", "duckdb", home=tmp_path, table_schema=odd)  # type: ignore[arg-type]


def test_main_is_the_schema_that_a_duckdb_file_has_by_itself(tmp_path: Path) -> None:
    first, second = (
        Stream2Sql("flights", "x.duckdb", "duckdb", home=tmp_path, table_schema=schema) for schema in (None, "main")
    )
    assert first.identity == second.identity
