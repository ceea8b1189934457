"""Limits of tables: a frame over a limit is refused with the reason, and the next frames are delivered."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.stream.cases import rejected_rows
from tests.stream.databases import SERVERS, execute, query, stream_into, use

# More columns than the server allows in a table; MariaDB reports it with two errors.
TOO_MANY = [("sqlite", 2_001), ("postgresql", 1_601), ("mariadb", 1_018), ("mariadb", 4_097), ("mysql", 1_018)]
GOOD = pd.DataFrame({"id": [7]})


def wide(columns: int, value: Any = 1) -> pd.DataFrame:
    return pd.DataFrame({f"c{number}": [value] for number in range(columns)})


def reasons(home: Path, dialect: str) -> list[str]:
    return [row["_api2db_reason"] for row in rejected_rows(home, f"sql.{dialect}")]


@pytest.mark.parametrize(("dialect", "columns"), TOO_MANY)
def test_a_first_frame_of_too_many_columns_is_rejected_and_the_next_goes_in(
    dialect: str, columns: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use(dialect, request)
    with stream_into(dialect, tmp_path) as stream:
        stream.stream(wide(columns))
        stream.stream(GOOD)
    assert query(tmp_path, dialect, "SELECT id FROM flights") == [(7,)]
    [reason] = reasons(tmp_path, dialect)
    assert "olumns" in reason


@pytest.mark.parametrize("dialect", ["sqlite", *SERVERS])
def test_a_first_frame_whose_keys_no_index_takes_is_rejected(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use(dialect, request)
    frame = wide(2_001 if dialect == "sqlite" else 33)
    with stream_into(dialect, tmp_path, keys=list(frame)) as stream:
        stream.stream(frame)
    [reason] = reasons(tmp_path, dialect)
    assert "index" in reason or "key" in reason or "columns" in reason
    assert query(tmp_path, dialect, "SELECT * FROM flights") == []


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"])
def test_a_first_frame_whose_row_the_engine_can_t_hold_is_rejected(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use(dialect, request)
    with stream_into(dialect, tmp_path) as stream:
        stream.stream(wide(900, "text"))
        stream.stream(GOOD)
    assert query(tmp_path, dialect, "SELECT id FROM flights") == [(7,)]
    assert "Row size too large" in reasons(tmp_path, dialect)[0]


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"])
def test_a_key_that_the_table_s_row_format_can_t_index_is_rejected(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use(dialect, request)
    execute(tmp_path, dialect, "SET GLOBAL innodb_default_row_format = 'compact'")
    try:
        with stream_into(dialect, tmp_path, keys=["id"]) as stream:
            stream.stream(pd.DataFrame({"id": ["a"]}))
    finally:
        execute(tmp_path, dialect, "SET GLOBAL innodb_default_row_format = 'dynamic'")
    [reason] = reasons(tmp_path, dialect)
    assert "767 bytes" in reason
