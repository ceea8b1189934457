"""Assumptions of the tests' HeavyDB server, checked on a real HeavyDB and on that server, so that the tests hold."""

import os
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db import Stream2Omnisci
from api2db.targets.heavydb import HeavydbTarget
from api2db.targets.heavydb._client import RefusedByServerError, Session
from api2db.targets.heavydb._values import encoded
from api2db.targets.port import Column, LoadPlan
from api2db.targets.server import Password, Server
from tests.servers.omnisci.reach import Reach, given
from tests.stream.cases import frame, rejected_rows
from tests.stream.kinds import every_kind

URL = "API2DB_TEST_HEAVYDB_URL"


@pytest.fixture(params=["of the tests", pytest.param("real", marks=pytest.mark.live)])
def there(request: pytest.FixtureRequest) -> Reach:
    if request.param == "of the tests":
        reach: Reach = request.getfixturevalue("omnisci").reach
        return reach
    if URL not in os.environ:
        pytest.skip(f"{URL} names no server")
    return given(os.environ[URL])


@pytest.fixture
def name(there: Reach) -> Iterator[str]:
    """A collector with a new name; its table is dropped at the end."""
    name = f"api2db_test_{uuid.uuid4().hex[:12]}"
    yield name
    there.drop(f"{name}_stream")


@pytest.fixture
def session(there: Reach) -> Iterator[Session]:
    session = another_session(there)
    yield session
    session.close()


def another_session(there: Reach) -> Session:
    server = Server(there.host, there.port, there.user, there.database, Password(lambda: there.password))
    return Session(server, "binary" if there.protocol == "binary" else "http", 30)


def one_number(number: int) -> bytes:
    return encoded(pa.table({"n_t": pa.array([number])}), [Column("n_t", pa.int64(), "BIGINT")])


def put(there: Reach, name: str, home: Path, *frames: Any, **options: Any) -> None:
    with Stream2Omnisci(name, home=home, **there.options, **options) as stream:
        for each in frames:
            stream.q.put(each)
            assert stream.flush(60), stream.status()


def test_frames_arrive_and_columns_are_added(there: Reach, name: str, tmp_path: Path) -> None:
    put(there, name, tmp_path, frame(1, 2), frame(3).assign(more=[2.5]))
    assert there.rows(f"{name}_stream") == [
        {"id_t": 1, "text_t": "row 1", "more_t": None},
        {"id_t": 2, "text_t": "row 2", "more_t": None},
        {"id_t": 3, "text_t": "row 3", "more_t": 2.5},
    ]


def test_a_frame_of_every_kind_is_taken(there: Reach, name: str, tmp_path: Path) -> None:
    put(there, name, tmp_path, every_kind())
    [first, last] = there.rows(f"{name}_stream")
    assert first["unsigned_t"] == str(2**63 + 1)
    assert first["dict_t"] == '{"a": [1, 2.5, null], "é": {"b": true}}'
    assert first["delta_t"] == 86_400 * 10**9 + 1
    assert first["int_with_null_t"] == 2**53 + 1
    assert first["text_t"] is None, "a text of no characters is NULL"
    assert {key: value for key, value in last.items() if value is not None} == {"id_t": 2}
    assert len(rejected_rows(tmp_path, "omnisci", name)) == 1


def test_decimals_are_sent_as_their_digits(there: Reach, name: str, tmp_path: Path) -> None:
    put(there, name, tmp_path, pd.DataFrame({"v": [Decimal("-1.25"), Decimal("9.50")]}))
    assert [row["v_t"] for row in there.rows(f"{name}_stream")] == [-1.25, 9.5]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_each_unit_arrive_as_they_were(there: Reach, name: str, tmp_path: Path, unit: str) -> None:
    put(there, name, tmp_path, pa.table({"v": pa.array([1_700_000_000], pa.timestamp("s")).cast(pa.timestamp(unit))}))
    [row] = there.rows(f"{name}_stream")
    assert pd.Timestamp(row["v_t"]) == pd.Timestamp(1_700_000_000, unit="s")


def test_an_epoch_moves_by_one_with_each_load_and_not_with_one_that_is_refused(
    there: Reach, name: str, session: Session, tmp_path: Path
) -> None:
    table = f"{name}_stream"
    put(there, name, tmp_path, pd.DataFrame({"n": [1]}))
    before = session.ask("get_table_epoch_by_name", table)
    session.do("load_table_binary_arrow", table, one_number(2), True)
    assert session.ask("get_table_epoch_by_name", table) == before + 1
    with pytest.raises(RefusedByServerError):
        session.do("load_table_binary_arrow", table, b"no Arrow stream", True)
    assert session.ask("get_table_epoch_by_name", table) == before + 1


def test_a_column_that_is_not_there_is_not_dropped_and_the_epoch_stays(
    there: Reach, name: str, session: Session, tmp_path: Path
) -> None:
    table = f"{name}_stream"
    put(there, name, tmp_path, pd.DataFrame({"n": [1]}))
    before = session.ask("get_table_epoch_by_name", table)
    with pytest.raises(RefusedByServerError):
        session.execute(f'ALTER TABLE "{table}" DROP COLUMN "_api2db_none"')
    assert session.ask("get_table_epoch_by_name", table) == before


def test_a_session_that_another_has_ended_loads_nothing(
    there: Reach, name: str, session: Session, tmp_path: Path
) -> None:
    put(there, name, tmp_path, pd.DataFrame({"n": [1]}))
    session.connect()
    other = another_session(there)
    other.connect()
    other.end(session.id)
    other.close()
    with pytest.raises(Exception, match="session"):
        session.do("load_table_binary_arrow", f"{name}_stream", one_number(2), True)
    assert [row["n_t"] for row in there.rows(f"{name}_stream")] == [1]


def test_a_plan_tells_whether_its_load_was_carried_out(
    there: Reach, name: str, session: Session, tmp_path: Path
) -> None:
    table = f"{name}_stream"
    put(there, name, tmp_path, pd.DataFrame({"n": [1]}))
    server = Server(there.host, there.port, there.user, there.database, Password(lambda: there.password))
    target = HeavydbTarget(server, table, "evolve", "binary" if there.protocol == "binary" else "http")
    target.connect()
    plan = target.plan(pa.table({"n": [1]}), [])
    plan = LoadPlan(plan.ends, {**plan.details, "session": "of somebody long gone"})
    assert target.rows_committed(plan) == 0
    session.do("load_table_binary_arrow", table, one_number(2), True)
    assert target.rows_committed(plan) == 1
    target.close()


def test_a_type_is_widened_or_its_rows_are_rejected(there: Reach, name: str, tmp_path: Path) -> None:
    put(there, name, tmp_path, pd.DataFrame({"v": [1]}), pd.DataFrame({"v": [2.5]}))
    found = [row["v_t"] for row in there.rows(f"{name}_stream")]
    assert found == [1.0, 2.5] or (found == [1] and len(rejected_rows(tmp_path, "omnisci", name)) == 1)


def test_an_all_null_first_frame_does_not_fix_a_type(there: Reach, name: str, tmp_path: Path) -> None:
    put(there, name, tmp_path, pd.DataFrame({"v": [None]}), pd.DataFrame({"v": [7]}))
    assert [row["v_t"] for row in there.rows(f"{name}_stream")] == [None, 7]
