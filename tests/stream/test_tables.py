"""How a table follows the data, and what happens to rows that it refuses: on every database."""

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db import Stream2Sql
from api2db.errors import ConfigurationError, TargetUnavailableError
from api2db.targets.sql import SqlTarget
from api2db.targets.sql._ledger import LEDGER_TABLE
from tests.stream.cases import frame, rejected_rows
from tests.stream.databases import (
    DATABASE,
    DATABASES,
    DIALECTS,
    SERVERS,
    Make,
    execute,
    query,
    running,
    stream_into,
    table_rows,
    types,
)
from tests.stream.eventually import eventually

FOLDING = [dialect for dialect in DIALECTS if dialect != "postgresql"]  # they ignore the case of names


@pytest.fixture
def deliver(make: Make, dialect: str, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Put frames one after another through a new stream, and return the table."""

    def deliver(*frames: object, **options: Any) -> list[dict[str, Any]]:
        with make(**options) as stream:
            for each in frames:
                stream.q.put(each)
                assert stream.flush(20)
        return table_rows(tmp_path, dialect)

    return deliver


Deliver = Callable[..., list[dict[str, Any]]]


def test_a_new_column_is_added_and_older_rows_are_null_there(deliver: Deliver, dialect: str, tmp_path: Path) -> None:
    rows = deliver(frame(1), pd.DataFrame({"id": [2], "new": [2.5]}))
    assert rows == [{"id": 1, "text": "row 1", "new": None}, {"id": 2, "text": None, "new": 2.5}]
    changes = query(tmp_path, dialect, "SELECT table_name, column_name, old_type FROM _api2db_schema_changes")
    assert changes == [("flights", "new", None)]


def test_columns_that_come_and_go_within_one_batch_are_one_table(
    make: Make, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = make()
    for number in range(6):
        stream.q.put(pd.DataFrame({"id": [number], f"only_{number % 3}": [number]}))
    stream.start()
    assert stream.flush(20)
    rows = table_rows(tmp_path, dialect)
    assert [row["id"] for row in rows] == list(range(6))
    assert [row["only_1"] for row in rows] == [None, 1, None, None, 4, None]


def test_a_frozen_table_takes_what_fits_and_rejects_the_rest_with_the_reason(
    deliver: Deliver, dialect: str, tmp_path: Path
) -> None:
    deliver(frame(1))
    odd = pd.DataFrame({"id": [2, 3], "text": ["row 2", "row 3"], "new": [None, "x"]})
    assert [row["id"] for row in deliver(odd, schema="freeze")] == [1, 2]
    assert list(types(tmp_path, dialect)) == ["id", "text"]
    [row] = rejected_rows(tmp_path, f"sql.{dialect}")
    assert (row["id"], row["text"], row["new"]) == (3, "row 3", "x")
    assert row["_api2db_reason"] == "the table has no column 'new'"
    assert row["_api2db_frame_ns"] > 0


def test_a_row_of_nothing_but_nulls_in_unknown_columns_is_still_a_row(deliver: Deliver) -> None:
    rows = deliver(frame(1), pd.DataFrame({"other": [None, None]}))
    assert rows == [{"id": 1, "text": "row 1"}, {"id": None, "text": None}, {"id": None, "text": None}]


def test_a_smaller_integer_column_becomes_a_larger(deliver: Deliver) -> None:
    small, large = pd.DataFrame({"n": pd.array([1, None], "Int8")}), pd.DataFrame({"n": [2**62]})
    assert [row["n"] for row in deliver(small, large)] == [1, None, 2**62]


def test_an_integer_column_becomes_float_where_all_its_rows_stay_exact(deliver: Deliver) -> None:
    assert [row["n"] for row in deliver(pd.DataFrame({"n": [1, 2**53]}), pd.DataFrame({"n": [0.5]}))] == [1, 2**53, 0.5]


def test_an_integer_column_beyond_floats_stays_and_the_fraction_is_rejected(
    deliver: Deliver, dialect: str, tmp_path: Path
) -> None:
    rows = deliver(pd.DataFrame({"n": [2**53 + 1]}), pd.DataFrame({"n": [0.5, 3.0]}))
    assert [row["n"] for row in rows] == [2**53 + 1, 3]
    [row] = rejected_rows(tmp_path, f"sql.{dialect}")
    assert row["n"] == 0.5
    assert "'n': double does not fit" in row["_api2db_reason"]


def test_a_column_of_nulls_takes_the_first_real_type(deliver: Deliver, dialect: str, tmp_path: Path) -> None:
    nulls = pd.DataFrame({"id": [1], "when": [None]})
    real = pd.DataFrame({"id": [2], "when": [pd.Timestamp("2026-01-02 03:04:05")]})
    rows = deliver(nulls, real)
    assert rows[0]["when"] is None
    assert str(rows[1]["when"]) == "2026-01-02 03:04:05" + (".000000" if dialect == "sqlite" else "")
    assert {"TIMESTAMP", "DATETIME"} & set(types(tmp_path, dialect)["when"].upper().replace("_", " ").split())


def test_a_first_frame_of_nulls_alone_does_not_fix_a_type(deliver: Deliver) -> None:
    rows = deliver(pd.DataFrame({"n": [None, None]}), pd.DataFrame({"n": [7]}))
    assert [row["n"] for row in rows] == [None, None, 7]
    assert type(rows[2]["n"]) is int


def test_values_of_another_kind_are_rejected_row_by_row_and_nothing_waits_behind_them(
    deliver: Deliver, dialect: str, tmp_path: Path
) -> None:
    rows = deliver(
        pd.DataFrame({"n": [1]}),
        pd.DataFrame({"n": ["two", None]}),
        pd.DataFrame({"n": [True]}),
        pd.DataFrame({"n": [4]}),
    )
    assert [row["n"] for row in rows] == [1, None, 4]
    rejected = rejected_rows(tmp_path, f"sql.{dialect}")
    assert [row["n"] for row in rejected] == ["two", True]
    assert [row["_api2db_reason"].split(" does")[0].replace("large_", "") for row in rejected] == [
        "'n': text",
        "'n': bool",
    ]


def test_several_faults_of_one_row_are_all_named(deliver: Deliver, dialect: str, tmp_path: Path) -> None:
    deliver(pd.DataFrame({"a": [1], "b": [1]}), pd.DataFrame({"a": ["x"], "b": ["y"]}))
    [row] = rejected_rows(tmp_path, f"sql.{dialect}")
    assert row["_api2db_reason"].startswith("'a'")
    assert "; 'b'" in row["_api2db_reason"]


def test_rejected_rows_are_counted_and_delivered_ones_too(make: Make) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame({"n": [1]}))
        stream.stream(pd.DataFrame({"n": ["two", None, "three"]}))
        status = stream.status()
    assert (status.rows_delivered, status.rows_rejected, status.frames_delivered) == (2, 2, 2)


@pytest.mark.parametrize("dialect", FOLDING, indirect=True)
def test_columns_that_differ_only_in_case_are_rejected_with_both_named(
    deliver: Deliver, dialect: str, tmp_path: Path
) -> None:
    clash = pd.DataFrame({"id": [2, 3], "Text": ["a", "b"], "tEXT": ["c", "d"]})
    assert [row["id"] for row in deliver(frame(1), clash, frame(4))] == [1, 4]
    rows = rejected_rows(tmp_path, f"sql.{dialect}")
    assert [(row["id"], row["Text"], row["tEXT"]) for row in rows] == [(2, "a", "c"), (3, "b", "d")]
    assert all("'Text' and 'tEXT' are one column" in row["_api2db_reason"] for row in rows)


@pytest.mark.parametrize("dialect", FOLDING, indirect=True)
def test_frames_that_differ_in_the_case_of_a_column_share_the_column(make: Make, dialect: str, tmp_path: Path) -> None:
    stream = make()
    for number, name in enumerate(["text", "TEXT", "Text"]):
        stream.q.put(pd.DataFrame({"id": [number], name: [f"row {number}"]}))
    stream.start()
    assert stream.flush(20)
    assert [row["text"] for row in table_rows(tmp_path, dialect)] == ["row 0", "row 1", "row 2"]
    assert stream.status().rows_rejected == 0


def test_rows_that_break_a_rule_of_the_table_are_found_one_by_one(make: Make, dialect: str, tmp_path: Path) -> None:
    make().flush(0)
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT CHECK (id % 10 <> 7), text VARCHAR(99))")
    stream = make(stream_id="new")
    stream.q.put(frame(*range(100)))
    stream.q.put(frame(*range(100, 130)))
    stream.start()
    assert stream.flush(30)
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [n for n in range(130) if n % 10 != 7]
    rows = rejected_rows(tmp_path, f"sql.{dialect}")
    assert sorted(row["id"] for row in rows) == list(range(7, 130, 10))
    assert all("constraint" in row["_api2db_reason"].lower() for row in rows)
    assert stream.status().rows_rejected == 13


def test_of_rows_that_clash_with_each_other_the_first_is_kept(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT UNIQUE, text VARCHAR(99))")
    stream = make()
    stream.q.put(pd.DataFrame({"id": [1, 2, 1], "text": ["a", "b", "c"]}))
    stream.q.put(pd.DataFrame({"id": [3, 2], "text": ["d", "e"]}))
    stream.start()
    assert stream.flush(30)
    assert [(row["id"], row["text"]) for row in table_rows(tmp_path, dialect)] == [(1, "a"), (2, "b"), (3, "d")]
    assert sorted(row["text"] for row in rejected_rows(tmp_path, f"sql.{dialect}")) == ["c", "e"]


def test_a_replacing_frame_whose_rows_clash_replaces_with_the_others(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT UNIQUE, text VARCHAR(99))")
    with make(if_exists="replace") as stream:
        stream.stream(pd.DataFrame({"id": [1, 1], "text": ["a", "b"]}))
        stream.stream(pd.DataFrame({"id": [2, 3, 2], "text": ["c", "d", "e"]}))
    assert [row["text"] for row in table_rows(tmp_path, dialect)] == ["c", "d"]
    assert [row["text"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == ["b", "e"]


@pytest.mark.parametrize("dialect", FOLDING, indirect=True)
def test_a_replacing_frame_that_is_refused_as_a_whole_replaces_nothing(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    with make(if_exists="replace") as stream:
        stream.stream(frame(1))
        stream.stream(pd.DataFrame({"id": [2], "ID": [2]}))
        assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1]
        stream.stream(frame(3))
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [3]
    assert stream.status().rows_rejected == 1


@pytest.mark.disk_journal  # in a cluster rejected rows are not files
def test_no_temporary_file_of_rejected_rows_is_left(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT CHECK (id <> 7))")
    with make(schema="freeze") as stream:
        stream.stream(pd.DataFrame({"id": [6, 7, 8], "new": ["x", None, None]}))
    folder = tmp_path / "STORE" / "rejected" / "flights" / f"sql.{dialect}"
    assert [path.suffix for path in folder.iterdir()] == [".parquet"]
    assert sorted(row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")) == [6, 7]


def test_a_transaction_has_at_most_chunk_size_rows(
    make: Make, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    load = SqlTarget.load

    def counted(self: SqlTarget, rows: Any, columns: Any, claim: Any) -> None:
        sizes.append(rows.num_rows)
        load(self, rows, columns, claim)

    monkeypatch.setattr(SqlTarget, "load", counted)
    stream = make(chunk_size=4)
    stream.q.put(frame(*range(10)))
    stream.q.put(frame(10, 11, 12))
    stream.start()
    assert stream.flush(20)
    assert max(sizes) == 4
    assert sum(sizes) == 13
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == list(range(13))
    assert stream.status().frames_delivered == 2


def test_a_table_may_have_a_name_of_its_own(make: Make, dialect: str, tmp_path: Path) -> None:
    with make(table="arrivals") as one, make() as other:
        one.q.put(frame(1))
        other.q.put(frame(2))
    assert [row["id"] for row in table_rows(tmp_path, dialect, "arrivals")] == [1]
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [2]


def test_fail_goes_on_with_the_table_that_it_made_before_it_died(
    make: Make, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise TargetUnavailableError("cut off before the first load")

    with monkeypatch.context() as patched:
        patched.setattr(SqlTarget, "load", die)
        dying = make(if_exists="fail")
        dying.start()
        dying.q.put(frame(1))
        eventually(lambda: "cut off" in str(dying.status().last_error))
        dying.stop()
    with make(if_exists="fail") as stream:
        assert stream.flush(20), stream.status()
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1]


def test_fail_waits_while_a_table_of_others_stands_there_and_then_delivers_once(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT)")
    with make(if_exists="fail") as stream:
        stream.q.put(frame(1))
        error = eventually(lambda: stream.status().last_error or "")
        assert "if_exists='fail'" in error
        assert "rename or drop" in error
        assert stream.status().rows_delivered == 0
        execute(tmp_path, dialect, "ALTER TABLE flights RENAME TO older")
        stream.check_failures()
        assert stream.flush(20)
        assert eventually(lambda: stream.status().last_error is None)
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1]
    with make(if_exists="fail") as again:
        again.stream(frame(2))
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1, 2]
    assert not list((tmp_path / "STORE").glob("upload_failed/*/*/*"))


def test_append_goes_on_with_a_table_of_others(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT, mine VARCHAR(99) DEFAULT 'mine')")
    execute(tmp_path, dialect, "INSERT INTO flights (id) VALUES (1)")
    with make() as stream:
        stream.stream(frame(2))
    rows = [(row["id"], row["mine"], row["text"]) for row in table_rows(tmp_path, dialect)]
    assert rows == [(1, "mine", None), (2, "mine", "row 2")]


def test_a_column_that_a_frame_lacks_gets_its_default_whatever_frames_go_with_it(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT, Mine VARCHAR(9) DEFAULT 'mine', n BIGINT)")
    stream = make()
    for put in ({"id": 1, "Mine": "x"}, {"id": 2, "n": 5}, {"id": 3}, {"id": 4, "Mine": None}):
        stream.q.put([{name.lower() if dialect == "postgresql" else name: value for name, value in put.items()}])
    with stream:
        assert stream.flush(20), stream.status()
    assert [tuple(row.values()) for row in table_rows(tmp_path, dialect)] == [
        (1, "x", None),
        (2, "mine", 5),
        (3, "mine", None),
        (4, None, None),
    ]


def test_a_table_that_is_dropped_while_a_stream_runs_is_made_again(make: Make, dialect: str, tmp_path: Path) -> None:
    with make() as stream:
        stream.stream(frame(1))
        execute(tmp_path, dialect, "DROP TABLE flights")
        stream.stream(pd.DataFrame({"other": ["x"]}))
    assert table_rows(tmp_path, dialect) == [{"other": "x"}]


def test_a_column_that_somebody_alters_while_a_stream_runs_is_kept_to(make: Make, dialect: str, tmp_path: Path) -> None:
    with make() as stream:
        stream.stream(frame(1))
        execute(tmp_path, dialect, "ALTER TABLE flights RENAME COLUMN text TO words")
        stream.stream(pd.DataFrame({"id": [2], "words": ["row 2"]}))
    assert table_rows(tmp_path, dialect) == [{"id": 1, "words": "row 1"}, {"id": 2, "words": "row 2"}]


def test_streams_of_several_collectors_share_one_database(make: Make, dialect: str, tmp_path: Path) -> None:
    names = [f"collector {number}" for number in range(4)]
    streams = [stream_into(dialect, tmp_path, name=name) for name in names]
    for stream in streams:
        stream.start()

    def put_twenty(stream: Stream2Sql) -> None:
        for number in range(20):
            stream.q.put(frame(number))

    threads = [threading.Thread(target=put_twenty, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(stream.flush(30) for stream in streams)
    for stream in streams:
        stream.stop()
    for name in names:
        assert [row["id"] for row in table_rows(tmp_path, dialect, name)] == list(range(20))
    assert len(query(tmp_path, dialect, f"SELECT * FROM {LEDGER_TABLE}")) == 4


def test_decimals_of_other_scales_widen_the_column(deliver: Deliver, dialect: str) -> None:
    rows = deliver(pd.DataFrame({"d": [Decimal("1.5")]}), pd.DataFrame({"d": [Decimal("1000.125")]}))
    found = [Decimal(row["d"]) for row in rows]
    assert found == [Decimal("1.5"), Decimal("1000.125")]


def test_connect_says_whether_the_database_can_be_reached_and_makes_con(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    from sqlalchemy import text

    stream = make()
    assert (stream.connected, stream.con) == (False, None)
    assert stream.connect() is True
    assert stream.connected is True
    assert stream.con is not None
    stream.stream(frame(1))
    with stream.con.connect() as connection:
        assert connection.execute(text("SELECT id FROM flights")).fetchall() == [(1,)]
    stream.con.dispose()


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_stream_whose_rows_can_not_be_stored_any_more_is_not_connected(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    stream = make()
    assert stream.connect() is True
    assert stream.con is not None
    stream.con.dispose()
    (tmp_path / DATABASES[dialect]).write_bytes(b"this is no database, " * 1000)
    stream.start()
    stream.q.put(frame(1))
    eventually(lambda: stream.status().last_error)
    assert stream.connected is False


@pytest.mark.parametrize("dialect", DATABASES, indirect=True)
def test_connect_answers_false_where_the_file_is_no_database(
    make: Make, dialect: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / DATABASES[dialect]).write_bytes(b"this is no database, " * 1000)
    stream = make()
    assert stream.connect() is False
    assert stream.connected is False
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert str(tmp_path / DATABASES[dialect]) in record.getMessage()


@pytest.mark.parametrize("dialect", DATABASES, indirect=True)
def test_a_file_that_is_no_database_is_waited_for_and_told_and_nothing_is_lost(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    path = tmp_path / DATABASES[dialect]
    path.write_bytes(b"this is no database, " * 1000)
    with make() as stream:
        stream.q.put(frame(1))
        assert str(path) in eventually(lambda: stream.status().last_error or "")
        assert path.read_bytes() == b"this is no database, " * 1000
        path.unlink()
        stream.check_failures()
        assert stream.flush(20)
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1]


@pytest.mark.parametrize("table", ["_api2db_ledger", "_API2DB_schema_changes", "a\0b", "half \ud800"])
def test_names_that_no_table_of_ours_may_have_are_refused(make: Make, table: str) -> None:
    with pytest.raises(ConfigurationError, match="table"):
        make(table=table)


@pytest.mark.parametrize(
    ("column", "first", "then"),
    [("BIGINT UNIQUE", [1], [0.5]), ("VARCHAR(99) UNIQUE", [None], [2])],
    ids=["number", "nulls"],
)
def test_where_an_index_forbids_a_wider_type_the_rows_are_rejected_and_nothing_waits(
    make: Make, dialect: str, tmp_path: Path, column: str, first: list[object], then: list[object]
) -> None:
    execute(tmp_path, dialect, f"CREATE TABLE flights (id BIGINT, n {column})")
    with make() as stream:
        stream.stream(pd.DataFrame({"id": [1], "n": first}))
        stream.stream(pd.DataFrame({"id": [2], "n": then}))
        stream.stream(pd.DataFrame({"id": [3]}))
    # A number column of SQLite holds any number, and the servers rebuild an index; a user's text column stays text.
    widened = first == [1] and dialect != "duckdb"
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == ([1, 2, 3] if widened else [1, 3])
    assert [row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == ([] if widened else [2])


@pytest.mark.parametrize(
    ("first", "then", "fits"),
    [
        ([1], pa.array([2**64 - 1, 5], pa.uint64()), [5]),
        ([1], pa.array([Decimal("12345678901234567890.123"), Decimal(5)]), [5]),
        ([0.5], pa.array([Decimal("12345678901234567890.123"), Decimal("0.25")]), [0.25]),
        ([0.5], pa.array([2**62 + 1, 3]), [3]),
        ([2**62 + 1], pa.array([0.1, 3.0]), [3]),
    ],
    ids=["unsigned", "decimal", "decimal into floats", "integer into floats", "float into integers"],
)
def test_no_number_is_rounded_to_fit_a_column(
    dialect: str, deliver: Deliver, tmp_path: Path, first: list[Any], then: pa.Array, fits: list[Any]
) -> None:
    found = [row["n"] for row in deliver(pa.table({"n": first}), pa.table({"n": then}))]
    rows = [Decimal(n) if isinstance(n, str) else n for n in found]  # SQLite keeps a decimal as text
    rejected = [row["n"] for row in rejected_rows(tmp_path, f"sql.{dialect}")]
    assert sorted([*rows, *rejected]) == sorted([*first, *then.to_pylist()])
    assert rows[0] == first[0]
    assert set(fits) <= set(rows)


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
def test_postgresql_tells_columns_apart_by_their_case_alone(deliver: Deliver, dialect: str, tmp_path: Path) -> None:
    rows = deliver(pd.DataFrame({"id": [1], "ID": [None]}), pd.DataFrame({"ID": [2], "Id": ["x"]}))
    assert rows == [{"id": 1, "ID": None, "Id": None}, {"id": None, "ID": 2, "Id": "x"}]
    deliver(pd.DataFrame({"iD": [3]}), schema="freeze")
    assert [row["iD"] for row in rejected_rows(tmp_path, "sql.postgresql")] == [3]


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_streams_of_several_processes_make_the_ledger_at_the_same_time(dialect: str, tmp_path: Path) -> None:
    """PostgreSQL then reports a violated unique index of its catalogue, for which no row is at fault."""
    for number in range(5):
        with ThreadPoolExecutor(4) as pool:
            streams = [stream_into(dialect, tmp_path / f"{number}{n}", db_name=f"{DATABASE} {number}") for n in "abcd"]
            list(pool.map(lambda stream, n=number: stream.stream(frame(n)), streams))
        for stream in streams:
            stream.stop()
        assert [stream.status().rows_delivered for stream in streams] == [1] * 4
        running(dialect).execute(f"DROP DATABASE {running(dialect).engine.quote(f'{DATABASE} {number}')}")


EXTREMES = {
    "timestamp[us]": pa.array([-(2**63) + 1, 2**63 - 1, 0]).view(pa.timestamp("us")),
    "timestamp[us, UTC]": pa.array([-(2**63) + 1, 2**63 - 1, 10**6]).view(pa.timestamp("us", "UTC")),
    "timestamp[s]": pa.array([-(2**63) + 1, 2**63 - 1, 0]).view(pa.timestamp("s")),
    "timestamp[ns]": pa.array([-(2**63) + 1, 2**63 - 1, 0]).view(pa.timestamp("ns")),
    "date32": pa.array([-(2**31) + 1, 2**31 - 1, 0], pa.int32()).view(pa.date32()),
    "date64": pa.array([-(2**63) + 1, 2**63 - 1, 0]).view(pa.date64()),
    "duration[s]": pa.array([-(2**63) + 1, 2**63 - 1, 0]).view(pa.duration("s")),
    "duration[us]": pa.array([-(2**63) + 1, 2**63 - 1, 0]).view(pa.duration("us")),
    "time64[us]": pa.array([-1, 2**62, 0]).view(pa.time64("us")),
    "time32[s]": pa.array([-1, 2**31 - 1, 0], pa.int32()).view(pa.time32("s")),
    "decimal128(5, -2)": pa.array([Decimal(100), Decimal(-1234500), None], pa.decimal128(5, -2)),
    "decimal128(9, -30)": pa.array([Decimal("1e30"), Decimal("-1.2e37"), None], pa.decimal128(9, -30)),
    "decimal256(76, -9)": pa.array([Decimal("1e9"), Decimal("-1e76"), None], pa.decimal256(76, -9)),
}


@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_no_value_of_any_type_ends_a_worker_or_stops_its_stream(
    make: Make, dialect: str, tmp_path: Path, values: pa.Array
) -> None:
    with make() as stream:
        stream.q.put(pa.table({"id": [1, 2, 3], "x": values}))
        stream.q.put(frame(4))
        assert stream.flush(20), stream.status()
        status = stream.status()
    assert status.rows_delivered + status.rows_rejected == 4
    assert (4,) in query(tmp_path, dialect, "SELECT id FROM flights")
    assert status.rows_rejected < 3


@pytest.mark.parametrize("dialect", ["sqlite", "mysql", "mariadb"], indirect=True)
def test_a_row_that_the_encoder_chokes_on_is_set_aside_and_the_stream_goes_on(
    deliver: Deliver, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"api2db.targets.{'sqlite' if dialect == 'sqlite' else 'mysql._values'}")
    whole = module._plain

    def chokes(column: Any) -> Any:
        if 13 in column.to_pylist():
            raise pa.ArrowInvalid("planted")
        return whole(column)

    monkeypatch.setattr(module, "_plain", chokes)
    rows = deliver(pd.DataFrame({"n": [12, 13, 14]}), pd.DataFrame({"n": [15]}))
    assert sorted(row["n"] for row in rows) == [12, 14, 15]
    [rejected] = rejected_rows(tmp_path, f"sql.{dialect}")
    assert (rejected["n"], "planted" in rejected["_api2db_reason"]) == (13, True)


def test_streams_that_begin_together_in_one_new_duckdb_file_hinder_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    streams = [Stream2Sql(f"flights{number}", "new.duckdb", "duckdb", home=tmp_path) for number in range(6)]
    for stream in streams:
        stream.q.put(frame(1))
    for stream in streams:
        stream.start()
    for stream in streams:
        assert stream.flush(20)
        stream.stop()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_duckdb_table_has_the_rows_of_many_row_groups_in_the_order_in_which_they_were_put(tmp_path: Path) -> None:
    rows = pd.DataFrame({"n": range(300_000)}).assign(text=lambda all_rows: "row " + all_rows["n"].astype(str))
    with stream_into("duckdb", tmp_path) as stream:
        for start in range(0, len(rows), 70_000):
            stream.q.put(rows.iloc[start : start + 70_000])
    found = query(tmp_path, "duckdb", "SELECT n, text FROM flights ORDER BY rowid")
    assert found == list(rows.itertuples(index=False, name=None))
