"""Columns that the server can't have: only rows with a value there are rejected, or it goes into ``_extra``."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stream.bigqueries import bigquery_rows, bigquery_stream, use_bigquery
from tests.stream.cases import rejected_rows
from tests.stream.databases import DIALECTS, execute, stream_into, table_rows, use
from tests.stream.omnisci import omnisci_rows, stream_into_omnisci, use_omnisci

_POSTGRESQL = ["xmin", "ctid", "tableoid", "cmin", "cmax", "xmax", "x" * 64, "é" * 32, ""]
_MYSQL = ["DB_ROW_ID", "db_trx_id", "DB_ROLL_PTR", "FTS_DOC_ID", "x" * 65, "😀", "a ", "ID", ""]
NAMES = {"postgresql": _POSTGRESQL, "mariadb": _MYSQL, "mysql": _MYSQL, "duckdb": ["ID", ""], "sqlite": ["ID", ""]}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return use(str(request.param), request)


def mixed(names: list[str]) -> list[dict[str, Any]]:
    """Return a good row, then one row for each name, then a good one."""
    odd = [{"id": 2 + number, name: number} for number, name in enumerate(names)]
    return [{"id": 1, "good": "a"}, *odd, {"id": 99, "good": "b"}]


def by_id(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {int(row["id"]): row for row in rows}


@pytest.mark.parametrize("made_before", [[], ["CREATE TABLE flights (id BIGINT)"]], ids=["new", "there"])
def test_only_rows_with_a_value_in_such_a_column_are_rejected(
    dialect: str, made_before: list[str], tmp_path: Path
) -> None:
    names = NAMES[dialect]
    execute(tmp_path, dialect, *made_before)
    with stream_into(dialect, tmp_path) as stream:
        stream.q.put(mixed(names))
    there = table_rows(tmp_path, dialect)
    assert [row["id"] for row in there] == [1, 99]
    assert set(there[0]) == {"id", "good"}
    rejected = by_id(rejected_rows(tmp_path, f"sql.{dialect}"))
    for number, name in enumerate(names, 2):
        reason = rejected[number]["_api2db_reason"]
        assert repr(name) in reason
        assert "rename" in reason


def test_with_on_conflict_json_such_a_value_goes_into_the_extra_column(dialect: str, tmp_path: Path) -> None:
    names = NAMES[dialect]
    with stream_into(dialect, tmp_path, on_conflict="json") as stream:
        stream.q.put(mixed(names))
    there = by_id(table_rows(tmp_path, dialect))
    assert [*there] == [1, *range(2, 2 + len(names)), 99]
    for number, name in enumerate(names):
        extra = there[2 + number]["_extra"]
        assert (json.loads(extra) if isinstance(extra, str) else extra) == {name: number}
    assert rejected_rows(tmp_path, f"sql.{dialect}") == []


def test_twins_of_two_frames_are_one_column_still(dialect: str, tmp_path: Path) -> None:
    if dialect == "postgresql":
        pytest.skip("they are two there")
    with stream_into(dialect, tmp_path) as stream:
        stream.q.put([{"id": 1}])
        stream.q.put([{"ID": 2}])
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1, 2]
    assert rejected_rows(tmp_path, f"sql.{dialect}") == []


def test_bigquery_rejects_only_rows_with_a_value_there(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    use_bigquery(request)
    with bigquery_stream(tmp_path) as stream:
        stream.q.put(mixed(["a.b", "ID", "_TABLE_x"]))
    assert [row["id"] for row in bigquery_rows(tmp_path)] == [1, 99]
    assert [row["id"] for row in rejected_rows(tmp_path, "bigquery")] == [2, 3, 4]


def test_heavydb_rejects_only_rows_with_a_value_there(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    use_omnisci(request)
    with stream_into_omnisci(tmp_path) as stream:
        stream.q.put(mixed(['a"b', "ID", "a\nb"]))
    assert [row["id"] for row in omnisci_rows(tmp_path)] == [1, 99]
    assert [row["id"] for row in rejected_rows(tmp_path, "omnisci")] == [2, 3, 4]
