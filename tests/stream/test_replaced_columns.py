"""A table that is replaced has exactly the newest frame's columns, and what depends on the table still works."""

from pathlib import Path

import pandas as pd
import pytest

from api2db.targets.sql import SqlTarget
from tests.stream.cases import rejected_rows
from tests.stream.databases import DIALECTS, execute, query, stream_into, table_rows, types, use


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return use(str(request.param), request)


def test_columns_that_the_newest_frame_has_not_are_gone(dialect: str, tmp_path: Path) -> None:
    with stream_into(dialect, tmp_path, if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [1], "old": ["a"], "both": [1]}))
        stream.stream(pd.DataFrame({"id": [2], "both": [2], "new": [2.5]}))
    assert table_rows(tmp_path, dialect) == [{"id": 2, "both": 2, "new": 2.5}]
    told = query(tmp_path, dialect, "SELECT column_name FROM _api2db_schema_changes WHERE new_type IS NULL")
    assert told == [("old",)]


def test_frames_of_ever_new_names_never_stand_still(dialect: str, tmp_path: Path) -> None:
    # PostgreSQL counts columns that are gone, up to 1,600; MySQL and MariaDB count changes of a table, up to 64.
    frames, columns = (6, 60) if dialect == "postgresql" else (35, 2)
    with stream_into(dialect, tmp_path, if_exists="replace", keys=["id"]) as stream:
        for number in range(frames):
            if number == 1 and dialect == "postgresql":
                use_up_columns(tmp_path, dialect, 1_400)
            stream.stream(pd.DataFrame({"id": [number], **{f"c{number}_{each}": [each] for each in range(columns)}}))
    assert rejected_rows(tmp_path, f"sql.{dialect}") == []
    [row] = table_rows(tmp_path, dialect)
    last = f"c{frames - 1}_{columns - 1}"
    assert (row["id"], len(row), row[last]) == (frames - 1, columns + 1, columns - 1)


def test_a_column_that_a_view_or_an_index_needs_stays_and_is_told_once(
    dialect: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if dialect in {"duckdb", "sqlite"}:
        pytest.skip("the table is made again there")
    with stream_into(dialect, tmp_path, if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [1], "seen": [1], "found": [1], "old": [1]}))
        execute(
            tmp_path,
            dialect,
            "CREATE VIEW shown AS SELECT seen FROM flights",
            "CREATE INDEX by_found ON flights (found)",
        )
        for number in (2, 3):
            stream.stream(pd.DataFrame({"id": [number]}))
    assert table_rows(tmp_path, dialect) == [{"id": 3, "seen": None, "found": None}]
    assert query(tmp_path, dialect, "SELECT seen FROM shown") == [(None,)]
    warned = [record.getMessage() for record in caplog.records if "with nulls" in record.getMessage()]
    assert len(warned) == (2 if dialect == "postgresql" else 1)


def test_columns_of_nested_values_are_gone_too(dialect: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with stream_into(dialect, tmp_path, if_exists="replace") as stream:
        stream.stream(pd.DataFrame([{"id": 1, "list": [1], "the `object`\nof it": {"a": 1}}]))
        stream.stream(pd.DataFrame([{"id": 2, "new": {"b": 2}}]))
        stream.stream(pd.DataFrame([{"id": 3}]))
    assert table_rows(tmp_path, dialect) == [{"id": 3}]
    assert "with nulls" not in caplog.text


@pytest.mark.parametrize("dialect", ["mariadb"], indirect=True)
def test_a_column_that_the_check_of_another_names_stays(dialect: str, tmp_path: Path) -> None:
    execute(
        tmp_path,
        dialect,
        "CREATE TABLE flights (id BIGINT, least BIGINT CHECK (least > 0), most BIGINT CHECK (most >= least))",
    )
    with stream_into(dialect, tmp_path, if_exists="replace") as stream:
        stream.stream(pd.DataFrame([{"id": 1, "most": None}]))
        assert list(types(tmp_path, dialect)) == ["id", "least", "most"]
        stream.stream(pd.DataFrame([{"id": 2}]))
        stream.stream(pd.DataFrame([{"id": 3}]))
    assert table_rows(tmp_path, dialect) == [{"id": 3}]


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"], indirect=True)
def test_columns_left_by_a_kill_after_the_commit_are_dropped_with_the_next_load(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SqlTarget, "_drop_surplus", lambda _: None)
        with stream_into(dialect, tmp_path, if_exists="replace") as stream:
            stream.stream(pd.DataFrame({"id": [1], "old": ["a"]}))
            stream.stream(pd.DataFrame({"id": [2]}))
        assert list(types(tmp_path, dialect)) == ["id", "old"]
    with stream_into(dialect, tmp_path, if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [3]}))
    assert table_rows(tmp_path, dialect) == [{"id": 3}]


def use_up_columns(home: Path, dialect: str, number: int) -> None:
    """Add columns and drop them: PostgreSQL counts them among the 1,600 that a table may have."""
    names = [f"gone_{each}" for each in range(number)]
    for action in ("ADD COLUMN {} INT", "DROP COLUMN {}"):
        execute(home, dialect, "ALTER TABLE flights " + ", ".join(action.format(name) for name in names))


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_table_made_again_for_room_keeps_owner_grants_and_indexes(dialect: str, tmp_path: Path) -> None:
    who = "SELECT relowner::regrole::text, array_to_string(relacl, ',') FROM pg_class WHERE relname = 'flights'"
    with stream_into(dialect, tmp_path, if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [0]}))
        execute(
            tmp_path,
            dialect,
            "GRANT SELECT ON flights TO PUBLIC",
            "GRANT INSERT ON flights TO pg_monitor WITH GRANT OPTION",
        )
        execute(tmp_path, dialect, "CREATE UNIQUE INDEX ON flights (id)", "COMMENT ON TABLE flights IS 'it''s'")
        before = query(tmp_path, dialect, who)
        use_up_columns(tmp_path, dialect, 1_500)
        for number in range(3):
            stream.stream(pd.DataFrame({"id": [number], **{f"c{number}_{each}": [each] for each in range(60)}}))
    assert rejected_rows(tmp_path, f"sql.{dialect}") == []
    gone = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'flights'::regclass AND attisdropped"
    assert query(tmp_path, dialect, gone)[0][0] < 1_500, "it was made again"
    assert query(tmp_path, dialect, who) == before
    assert query(tmp_path, dialect, "SELECT count(*) FROM pg_indexes WHERE tablename = 'flights'") == [(1,)]
    assert query(tmp_path, dialect, "SELECT obj_description('flights'::regclass)") == [("it's",)]


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_a_table_that_can_t_be_made_again_refuses_with_the_remedy(dialect: str, tmp_path: Path) -> None:
    with stream_into(dialect, tmp_path, if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [0]}))
        execute(tmp_path, dialect, "CREATE VIEW shown AS SELECT id FROM flights")
        use_up_columns(tmp_path, dialect, 1_500)
        for number in range(3):
            stream.stream(pd.DataFrame({"id": [number], **{f"c{number}_{each}": [each] for each in range(40)}}))
    [row] = rejected_rows(tmp_path, f"sql.{dialect}")
    assert "view shown" in row["_api2db_reason"]
    assert "drop that" in row["_api2db_reason"]
    assert query(tmp_path, dialect, "SELECT id FROM shown") == [(1,)]
