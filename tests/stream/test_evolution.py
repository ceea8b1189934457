"""A table follows an API that changes, exactly, or mismatches are reported: on every database."""

import datetime
import json
import logging
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from api2db import FileConverter, Stream2Local
from api2db.errors import ConfigurationError
from api2db.frames import decode_cell, encode_cell
from tests.stream.cases import rejected_rows
from tests.stream.databases import Make, execute, query, stream_into, table_rows, types
from tests.stream.eventually import eventually

CHANGES = "SELECT table_name, column_name, old_type, new_type, frame_ns, changed_at FROM _api2db_schema_changes"


def column_of(home: Path, dialect: str, name: str) -> list[Any]:
    return [row[name] for row in table_rows(home, dialect)]


def cells(found: list[Any], dialect: str) -> list[Any]:
    """Return parsed JSON cells; psycopg has parsed them already."""
    return found if dialect == "postgresql" else [None if cell is None else json.loads(cell) for cell in found]


def reasons(home: Path, dialect: str) -> list[str]:
    return [row["_api2db_reason"] for row in rejected_rows(home, f"sql.{dialect}")]


NARROW = {
    "small": pa.array([-5], pa.int8()),
    "unsigned": pa.array([200], pa.uint8()),
    "large": pa.array([-1]),
    "digits": pa.array([2**62 + 1]),
    "fine": pa.array([Decimal("1.5")]),
    "real": pa.array([0.1], pa.float32()),
    "whole": pa.array([2**53]),
}
WIDE = {
    "small": pa.array([2**62]),
    "unsigned": pa.array([-1], pa.int16()),
    "large": pa.array([2**64 - 1], pa.uint64()),
    "digits": pa.array([Decimal("0.25")]),
    "fine": pa.array([Decimal("12345678.12345")]),
    "real": pa.array([0.1]),
    "whole": pa.array([0.5]),
}


def test_every_exact_widening_is_done_in_place(make: Make, dialect: str, tmp_path: Path) -> None:
    with make() as stream:
        stream.stream(pa.table(NARROW))
        stream.stream(pa.table(WIDE))
    assert reasons(tmp_path, dialect) == []
    rows = table_rows(tmp_path, dialect)
    assert set(rows[0]) == set(NARROW)
    for name, narrow in NARROW.items():
        found = [Decimal(str(row[name])) if name != "real" else float(row[name]) for row in rows]
        real = [narrow[0].as_py(), 0.1]  # a float64 has more digits than a real
        assert found == (real if name == "real" else [_decimal(narrow), _decimal(WIDE[name])]), name


def _decimal(values: pa.Array) -> Decimal:
    return Decimal(str(values[0].as_py()))


def test_a_change_is_a_row_and_a_log_line_with_values_but_no_secrets(
    make: Make, dialect: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with make() as stream:
        stream.stream(pd.DataFrame({"n": pd.array([1, 2], "Int16")}))
        stream.stream(pd.DataFrame({"n": [2**40, 5, 2**41, 2**42, 2**43], "token": ["hidden"] * 5}))
    changes = query(tmp_path, dialect, CHANGES)
    lines = [record.getMessage() for record in caplog.records if "the column" in record.getMessage()]
    by_column = {column: (table, old, new, frame) for table, column, old, new, frame, _ in changes}
    wider = dialect != "sqlite"  # INTEGER of SQLite holds them all
    assert set(by_column) == ({"n", "token"} if wider else {"token"})
    assert by_column["token"][1] is None
    assert by_column["token"][3] > 10**18
    assert len(lines) == len(changes)
    assert "hidden" not in caplog.text
    if wider:
        table, old, new, frame = by_column["n"]
        assert (table, frame) == ("flights", by_column["token"][3])
        assert old.lower() == "smallint"
        assert new.lower() == "bigint"
        [line] = [line for line in lines if "'n'" in line]
        assert f"n={2**40}, n={2**41}, n={2**42}" in line
        assert str(2**43) not in line
        assert str(frame) in line


def test_dicts_lists_and_whatever_comes_after_them_stay_in_one_json_column(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    values: list[Any] = [{"a": 1}, [1, {"b": None}], ["x", 1], "n/a", 7, 0.5, True, {}]
    with make() as stream:
        for number, value in enumerate(values):
            stream.stream(pd.DataFrame([{"id": number, "v": value}]))
        stream.stream(pd.DataFrame([{"id": 8, "v": "x"}, {"id": 9, "v": 1}]))
    assert list(types(tmp_path, dialect)) == ["id", "v"]
    assert cells(column_of(tmp_path, dialect, "v"), dialect) == [*values, "x", 1]
    assert reasons(tmp_path, dialect) == []


def test_of_a_frame_of_mixed_values_each_goes_where_it_fits(make: Make, dialect: str, tmp_path: Path) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame([{"id": 0, "n": 1, "t": "x", "f": True}]))
        stream.stream(
            pd.DataFrame(
                [
                    {"id": 1, "n": 3, "t": "y", "f": False},
                    {"id": 2, "n": "n/a", "t": "z", "f": True},
                    {"id": 3, "n": 4, "t": 5, "f": True},
                    {"id": 4, "n": 2.0, "t": "z", "f": "yes"},
                ]
            )
        )
    rows = [(row["id"], row["n"], row["t"], bool(row["f"])) for row in table_rows(tmp_path, dialect)]
    assert rows == [(0, 1, "x", True), (1, 3, "y", False)]
    assert sorted(row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")) == [2, 3, 4]


EVERY_CLASS: dict[str, Any] = {
    "day": datetime.date(2020, 1, 2),
    "naive": pd.Timestamp("2020-01-02 03:04:05").to_pydatetime(),
    "zoned": datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    "clock": datetime.time(3, 4, 5),
    "span": datetime.timedelta(seconds=90),
    "exact": Decimal("1.25"),
    "blob": b"x\xff",
    "real": 0.5,
}


@pytest.mark.parametrize("name", EVERY_CLASS)
def test_beside_an_odd_value_those_of_the_columns_own_class_go_in_and_so_does_text_that_says_one_exactly(
    name: str, make: Make, dialect: str, tmp_path: Path
) -> None:
    value = EVERY_CLASS[name]
    with make() as stream:
        stream.stream(pd.DataFrame([{"id": 0, "v": value}]))
        as_text = decode_cell(encode_cell(value))
        values = [value, "n/a", f"{as_text}", None]
        stream.stream(pd.DataFrame({"id": [1, 2, 3, 4], "v": pd.Series(values, dtype=object)}))
    rows = sorted((row["id"], row["v"]) for row in table_rows(tmp_path, dialect))
    said = name not in {"span", "blob"}
    assert [number for number, _ in rows] == ([0, 1, 3, 4] if said else [0, 1, 4])
    assert len({value for number, value in rows if number != 4}) == 1
    assert sorted(row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")) == ([2] if said else [2, 3])


def test_a_number_in_json_is_a_number_whatever_stands_beside_it(make: Make, dialect: str, tmp_path: Path) -> None:
    values = [-5, 2**63, -7, Decimal("1.5"), Decimal("1.25"), 3]
    with make(on_conflict="json") as stream:
        stream.stream(pd.DataFrame([{"id": 0, "v": {"a": 1}, "t": "x"}]))
    stream = make(on_conflict="json")
    for number, value in enumerate(values, 1):
        stream.q.put([{"id": number, "v": value, "t": value}])
    with stream:
        assert stream.flush(20)
    rows = sorted(table_rows(tmp_path, dialect), key=lambda row: int(row["id"]))
    assert cells([row["v"] for row in rows], dialect) == [{"a": 1}, *values]
    assert cells([row["_extra"] for row in rows], dialect) == [None, *({"t": value} for value in values)]


def test_a_number_of_more_digits_than_there_is_a_type_for_turns_no_numbers_into_text(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame({"d": [Decimal("1.5")]}))
        before = types(tmp_path, dialect)
        stream.stream(pd.DataFrame({"d": [Decimal("9" * 50), Decimal("2.5")]}))
    assert [Decimal(value) for value in column_of(tmp_path, dialect, "d")][:2] == [Decimal("1.5"), Decimal("2.5")] or (
        dialect == "sqlite"  # SQLite holds decimals as text anyway
    )
    assert types(tmp_path, dialect) == before


def test_a_view_on_the_column_stays_right_and_no_row_is_lost(make: Make, dialect: str, tmp_path: Path) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame({"id": [1], "n": pd.array([1], "Int16")}))
        execute(tmp_path, dialect, "CREATE VIEW looks AS SELECT id, n FROM flights")
        stream.stream(pd.DataFrame({"id": [2, 3], "n": pd.array([2**40, 5], "Int64")}))
        stream.stream(pd.DataFrame({"id": [4], "n": pd.array([6], "Int64"), "new": ["x"]}))
    seen = query(tmp_path, dialect, "SELECT id, n FROM looks ORDER BY id")
    if dialect == "postgresql":
        assert seen == [(1, 1), (3, 5), (4, 6)]
        [reason] = reasons(tmp_path, dialect)
        assert "which can't be changed: cannot alter type of a column used by a view" in reason
    else:
        assert seen == [(1, 1), (2, 2**40), (3, 5), (4, 6)]
        assert reasons(tmp_path, dialect) == []


def test_a_table_is_widened_while_others_read_and_write_it(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT, n SMALLINT)")
    first, second = make(stream_id="first"), make(stream_id="second", name="others", table="flights")
    first.start()
    second.start()
    done = threading.Event()
    counts: list[int] = []

    def read() -> None:
        while not done.is_set():
            counts.extend(int(count) for (count,) in query(tmp_path, dialect, "SELECT count(*) FROM flights"))

    reader = threading.Thread(
        target=read if dialect != "duckdb" else done.wait
    )  # only one process can open a DuckDB file
    reader.start()
    try:
        for number in range(20):
            wide = 2 ** (15 + number)
            first.q.put(pd.DataFrame({"id": [number], "n": [wide]}))
            second.q.put(pd.DataFrame({"id": [100 + number], "n": [0.5 if number == 10 else number]}))
        assert first.flush(60)
        assert second.flush(60)
    finally:
        done.set()
        reader.join()
    assert counts == sorted(counts)
    rows = {row["id"]: row["n"] for row in table_rows(tmp_path, dialect)}
    assert rows == {n: 2 ** (15 + n) for n in range(20)} | {100 + n: 0.5 if n == 10 else n for n in range(20)}
    assert reasons(tmp_path, dialect) == []


def test_odd_values_go_into_one_json_column_where_that_is_asked_for(make: Make, dialect: str, tmp_path: Path) -> None:
    with make(on_conflict="json") as stream:
        stream.stream(pd.DataFrame({"id": [1], "n": [2**53 + 1], "t": ["a"]}))
        assert "_extra" not in types(tmp_path, dialect)
        stream.stream(pd.DataFrame([{"id": 2, "n": 0.5, "t": "b"}, {"id": 3, "n": 1.0, "t": "c"}]))
        stream.stream(pd.DataFrame([{"id": 4, "n": "n/a", "t": 7}, {"id": 5, "n": 5, "t": "e"}]))
        stream.stream(pd.DataFrame({"id": [6], "n": [6], "t": ["f"]}))
    rows = table_rows(tmp_path, dialect)
    assert [(row["id"], row["n"], row["t"]) for row in rows] == [
        (1, 2**53 + 1, "a"),
        (2, None, "b"),
        (3, 1, "c"),
        (4, None, None),
        (5, 5, "e"),
        (6, 6, "f"),
    ]
    odd = cells([row["_extra"] for row in rows], dialect)
    assert odd == [None, {"n": 0.5}, None, {"n": "n/a", "t": 7}, None, None]
    assert reasons(tmp_path, dialect) == []
    assert [change[1] for change in query(tmp_path, dialect, CHANGES)] == ["_extra"]


def test_by_key_a_newer_row_takes_the_odd_values_of_the_older_away(make: Make, dialect: str, tmp_path: Path) -> None:
    with make(on_conflict="json", keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": [1, 2], "n": [1, 2]}))
        stream.stream(pd.DataFrame([{"id": 1, "n": "odd"}, {"id": 2, "n": "odd"}, {"id": "odd", "n": 3}]))
        stream.stream(pd.DataFrame({"id": [1], "n": [5]}))
    rows = sorted((row["id"], row["n"], *cells([row["_extra"]], dialect)) for row in table_rows(tmp_path, dialect))
    assert rows == [(1, 5, None), (2, None, {"n": "odd"})]
    [reason] = reasons(tmp_path, dialect)
    assert reason.startswith("'id'")


def test_a_frame_with_a_column_of_that_name_is_rejected_with_the_reason(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    with make(on_conflict="json") as stream:
        stream.stream(pd.DataFrame({"id": [1]}))
        stream.stream(pd.DataFrame({"id": [2], "_extra": ["mine"]}))
        stream.stream(pd.DataFrame({"id": [3]}))
    assert column_of(tmp_path, dialect, "id") == [1, 3]
    [reason] = reasons(tmp_path, dialect)
    assert "'_extra'" in reason


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_frozen_table_gets_no_column_for_odd_values(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="freeze"):
        make(on_conflict="json", schema="freeze")
    with pytest.raises(ConfigurationError, match="on_conflict must be one of reject, json"):
        make(on_conflict="ignore")


def test_a_frozen_table_that_somebody_alters_is_seen_as_it_is_now(make: Make, dialect: str, tmp_path: Path) -> None:
    with make(schema="freeze") as stream:
        stream.stream(pd.DataFrame({"id": [1]}))
        stream.stream(pd.DataFrame({"id": [2], "n": [5]}))
        eventually(lambda: altered(tmp_path, dialect))
        stream.stream(pd.DataFrame({"id": [3], "n": [6]}))
    assert sorted((row["id"], row["n"]) for row in table_rows(tmp_path, dialect)) == [(1, None), (3, 6)]
    assert [row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [2]


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"], indirect=True)
def test_no_row_is_odd_by_a_table_that_somebody_has_dropped(make: Make, dialect: str, tmp_path: Path) -> None:
    with make(schema="freeze") as stream:
        stream.stream(pd.DataFrame({"id": [1]}))
        execute(tmp_path, dialect, "DROP TABLE flights")
        stream.stream(pd.DataFrame({"id": ["x"]}))
    assert table_rows(tmp_path, dialect) == [{"id": "x"}]


def altered(home: Path, dialect: str) -> bool:
    try:
        execute(home, dialect, "ALTER TABLE flights ADD COLUMN n BIGINT")
    except duckdb.IOException:
        return False  # the stream has the file open
    return True


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_sqlite_widens_columns_that_indexes_stand_on_and_the_indexes_stay(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    with make(keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": [1], "n": [1]}))
        execute(tmp_path, dialect, "CREATE INDEX mine ON flights (n) WHERE n > 0")
        stream.stream(pd.DataFrame({"id": [2**63], "n": [2**63]}))
        stream.stream(pd.DataFrame({"id": [1], "n": [7]}))
    rows = sorted((row["id"], row["n"]) for row in table_rows(tmp_path, dialect))
    assert rows == [("1", "7"), (str(2**63), str(2**63))]
    indexes = query(tmp_path, dialect, "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'flights'")
    assert sorted(indexes) == [("flights_key",), ("mine",)]


@pytest.mark.parametrize("more", ["NOT NULL", "DEFAULT 7", "CHECK (id < 100)"])
def test_sqlite_makes_no_column_anew_that_would_lose_what_its_maker_gave_it(tmp_path: Path, more: str) -> None:
    created = f"CREATE TABLE flights (id INTEGER {more}, n INTEGER)"
    execute(tmp_path, "sqlite", created, "INSERT INTO flights VALUES (1, 1)")
    with stream_into("sqlite", tmp_path) as stream:
        stream.stream(pa.table({"id": pa.array([2, 2**63], pa.uint64()), "n": [2, 2]}))
    assert query(tmp_path, "sqlite", "SELECT sql FROM sqlite_schema WHERE name = 'flights'") == [(created,)]
    assert column_of(tmp_path, "sqlite", "id") == [1, 2]
    assert ["widen it yourself" in reason for reason in reasons(tmp_path, "sqlite")] == [True]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_what_forbids_sqlite_to_widen_is_said_in_the_table_s_own_names(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id INTEGER, n INTEGER UNIQUE)")
    with make() as stream:
        stream.stream(pd.DataFrame({"id": [1], "n": [2**63]}))
    [reason] = reasons(tmp_path, dialect)
    assert 'cannot drop UNIQUE column: "n"' in reason
    assert "_api2db" not in reason


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite", "postgresql"], indirect=True)
def test_a_table_that_is_replaced_tells_its_changes_too(make: Make, dialect: str, tmp_path: Path) -> None:
    with make(if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [1], "old": [1]}))
        stream.stream(pd.DataFrame({"id": [1], "new": ["x"]}))
    changes = {column: (old is None, new is None) for _, column, old, new, _, _ in query(tmp_path, dialect, CHANGES)}
    assert changes == {"old": (False, True), "new": (True, False)}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_the_dtypes_follow_and_are_what_astype_takes(make: Make, tmp_path: Path) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame({"a": [1], "late": [None], "gone": [True]}))
        stream.stream(pd.DataFrame({"a": pd.Series([2**53 + 1, None], dtype="Int64"), "late": [0.5, None]}))
    again = make(stream_id="again")
    assert again.dtypes == again.build_dtypes() == {"a": "Int64", "late": "float64", "gone": "boolean"}
    frame = pd.DataFrame({"a": [2**53 + 1, None], "late": [1, None], "gone": [None, None]}, dtype=object)
    assert frame.astype(again.dtypes)["a"].tolist() == [2**53 + 1, pd.NA]


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_the_dtypes_are_those_of_all_streams_of_the_collector(make: Make, tmp_path: Path) -> None:
    with make() as stream, Stream2Local("flights", home=tmp_path) as shards:
        shards.stream(pd.DataFrame({"a": [1]}))
        stream.stream(pd.DataFrame({"b": [1.5]}))
        shards.stream(pd.DataFrame({"a": [1], "c": [True]}))
        stream.stream(pd.DataFrame({"b": [2.5]}))
    again = make(stream_id="again")
    assert again.dtypes == {"a": "Int64", "b": "float64", "c": "boolean"}
    first = min((tmp_path / "STORE" / "flights" / "parquet").iterdir())
    older = FileConverter.static_load_df(str(first), "parquet", again.dtypes)
    assert older is not None
    assert older.dtypes.astype(str).to_dict() == {"a": "Int64"}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_dtypes_that_can_not_be_kept_are_told_once_and_kept_as_soon_as_they_can(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = make()
    path = tmp_path / "CACHE" / "flights_dtypes.json"
    path.mkdir(parents=True)
    with stream:
        stream.stream(pd.DataFrame({"a": [1]}))
        stream.stream(pd.DataFrame({"a": [2]}))
        assert [record.getMessage().count(str(path)) for record in caplog.records if "dtypes" in record.message] == [1]
        path.rmdir()
        stream.stream(pd.DataFrame({"a": [3]}))
    assert json.loads(path.read_text()) == {"a": "int64"}


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_damaged_file_of_dtypes_is_named_when_a_stream_is_made(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "CACHE" / "flights_dtypes.json"
    path.parent.mkdir()
    path.write_text('{"a": "no dtype"}')
    with pytest.raises(ConfigurationError, match=str(path)):
        make()
    assert FileConverter().build_dtypes() is None
