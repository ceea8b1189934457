"""Streams with ``keys=``: the target has the last row of each key, once, whatever came before it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from api2db import Stream2Sql
from api2db.errors import ConfigurationError
from api2db.stream.commands import retry
from api2db.targets.mysql import MysqlDatabase
from api2db.targets.port import LedgerRow, LedgerUpdate
from api2db.targets.server import Password
from api2db.targets.server import Server as ServerPlace
from api2db.targets.sql import SqlTarget
from tests.journals.rejected import rejected_files
from tests.stream.cases import rejected_rows
from tests.stream.databases import (
    DATABASE,
    SERVERS,
    Make,
    execute,
    query,
    running,
    table_rows,
    types,
)
from tests.stream.eventually import eventually

UNIQUE = {
    "duckdb": "SELECT count(*) FROM duckdb_indexes()",
    "sqlite": "SELECT count(*) FROM pragma_index_list('flights') WHERE \"unique\" = 1",
    "postgresql": "SELECT count(*) FROM pg_index WHERE indrelid = 'flights'::regclass AND indisunique",
}
MYSQL_UNIQUE = (
    "SELECT count(DISTINCT index_name) FROM information_schema.statistics"
    " WHERE table_schema = DATABASE() AND table_name = 'flights' AND non_unique = 0"
)


@pytest.fixture
def make(make: Make) -> Make:
    def keyed(*keys: str, **options: Any) -> Stream2Sql:
        return make(**{"keys": keys or ["id"], **options})

    return keyed


def put(stream: Stream2Sql, *frames: dict[str, list[Any]]) -> None:
    """Deliver each frame as one batch."""
    with stream:
        for each in frames:
            stream.stream(pd.DataFrame(each))


def rows_by(home: Path, dialect: str, *columns: str) -> list[tuple[Any, ...]]:
    found = [tuple(row[name] for name in columns) for row in table_rows(home, dialect)]
    return sorted(found, key=lambda row: tuple((value is not None, value) for value in row))


def test_of_rows_with_one_key_the_last_is_there_within_a_frame_a_batch_and_across_them(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    stream = make()
    stream.q.put(pd.DataFrame({"id": [1, 2, 1], "text": ["a", "b", "c"]}))
    stream.q.put(pd.DataFrame({"id": [3, 2], "text": ["d", "e"]}))
    stream.start()
    assert stream.flush(20)
    assert rows_by(tmp_path, dialect, "id", "text") == [(1, "c"), (2, "e"), (3, "d")]
    put(stream, {"id": [1, 4, 4], "text": ["f", "g", None]}, {"id": [3], "text": ["h"]})
    assert rows_by(tmp_path, dialect, "id", "text") == [(1, "f"), (2, "e"), (3, "h"), (4, None)]
    status = stream.status()
    assert status.frames_delivered == 4
    assert status.rows_delivered + status.duplicates_dropped == 9
    assert status.duplicates_dropped == 3


def test_a_column_that_a_frame_lacks_keeps_what_it_had_and_a_null_is_a_value(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    put(
        make(),
        {"id": [1, 2], "a": ["x", "y"], "b": [1, 2]},
        {"id": [1, 3], "b": [5, 6]},
        {"id": [2], "a": [None], "c": [7]},
    )
    assert rows_by(tmp_path, dialect, "id", "a", "b", "c") == [(1, "x", 5, None), (2, None, 2, 7), (3, None, 6, None)]


@pytest.mark.parametrize("batches", ["one batch", "a batch each"])
def test_a_column_that_a_frame_lacks_keeps_what_it_had_whatever_the_batches_are(
    batches: str, make: Make, dialect: str, tmp_path: Path
) -> None:
    stream = make()
    for rows in ([{"id": 1, "v": 1, "w": 5}], [{"id": 1, "v": 2}], [{"w": None, "id": 2, "v": 3}]):
        stream.q.put(rows)
        if batches == "a batch each":
            stream.start()
            assert stream.flush(20)
    stream.start()
    assert stream.flush(20)
    assert rows_by(tmp_path, dialect, "id", "v", "w") == [(1, 2, 5), (2, 3, None)]


def test_a_retried_row_never_takes_the_place_of_a_row_with_its_key(make: Make, dialect: str, tmp_path: Path) -> None:
    put(make(), {"id": [1], "v": [1]}, {"id": [1, 2, 3], "v": ["old", "new", "new"]})
    assert len(rejected_rows(tmp_path, f"sql.{dialect}")) == 3
    execute(
        tmp_path,
        dialect,
        "DROP TABLE flights",
        "CREATE TABLE flights (id BIGINT, v VARCHAR(50))",
        "INSERT INTO flights VALUES (1, 'newer'), (2, 'newer')",
    )
    [file] = rejected_files(tmp_path)
    retry(tmp_path, file)
    stream = make()
    stream.q.put([{"id": 2, "v": "newest"}])
    with stream:
        assert stream.flush(20)
    assert rows_by(tmp_path, dialect, "id", "v") == [(1, "newer"), (2, "newest"), (3, "new")]
    again = rejected_rows(tmp_path, f"sql.{dialect}")
    assert sorted(row["v"] for row in again) == ["new", "old"]
    assert all("a row of the same key (id), which may be newer" in row["_api2db_reason"] for row in again)


def test_rows_without_a_key_are_rejected_and_the_others_go_in(make: Make, dialect: str, tmp_path: Path) -> None:
    put(
        make("id", "day"),
        {"id": [None, None], "day": ["x", "y"]},
        {"text": ["no key at all"]},
        {"id": [1, None, 3], "day": ["mon", "mon", None], "text": ["a", "b", "c"]},
        {"text": ["no key now"]},
        {"id": [1], "text": ["half a key"]},
    )
    assert rows_by(tmp_path, dialect, "id", "day", "text") == [(1, "mon", "a")]
    rejected = rejected_rows(tmp_path, f"sql.{dialect}")
    assert len(rejected) == 7
    assert all("part of the key" in row["_api2db_reason"] for row in rejected)


def test_a_key_may_have_several_columns_of_several_kinds(make: Make, dialect: str, tmp_path: Path) -> None:
    days = [pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02")]
    put(
        make("name", "day"),
        {"name": ["a", "a", "A", "a "], "day": [days[0], days[1], days[0], days[0]], "n": [1, 2, 3, 4]},
        {"n": [5, 6], "day": [days[1], days[0]], "name": ["a", "b"]},
    )
    assert rows_by(tmp_path, dialect, "n") == [(1,), (3,), (4,), (5,), (6,)]


def test_where_all_columns_are_the_key_a_row_is_there_once(make: Make, dialect: str, tmp_path: Path) -> None:
    put(make(), {"id": [1, 2, 1]}, {"id": [2, 3]})
    assert rows_by(tmp_path, dialect, "id") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("rows", [9, 3000])
def test_new_keys_are_added_in_the_order_in_which_they_were_put(
    rows: int, make: Make, dialect: str, tmp_path: Path
) -> None:
    """``head`` shows the rows that were added last, where a table keeps that order."""
    numbers = np.random.default_rng(rows).permutation(5 * rows).tolist()
    first, second = numbers[rows:], numbers[:rows]
    put(make(), {"id": first, "text": ["a"] * len(first)}, {"id": [*second, *first[:3]], "text": ["b"] * (rows + 3)})
    ids = [row["id"] for row in table_rows(tmp_path, dialect)]
    assert sorted(ids) == sorted(numbers)
    assert [each for each in ids if each in set(second)] == second


def test_a_replacing_frame_has_each_key_once(make: Make, dialect: str, tmp_path: Path) -> None:
    put(
        make(if_exists="replace"),
        {"id": [1, 2, 1], "text": ["a", "b", "c"]},
        {"id": [2, 2, None], "text": ["d", "e", "f"]},
    )
    assert rows_by(tmp_path, dialect, "id", "text") == [(2, "e")]
    assert [row["text"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == ["f"]


def test_a_new_table_has_a_unique_index_on_the_key_but_in_duckdb(make: Make, dialect: str, tmp_path: Path) -> None:
    put(make("id", "name"), {"id": [1], "name": ["x"], "n": [1]})
    assert query(tmp_path, dialect, UNIQUE.get(dialect, MYSQL_UNIQUE)) == [(0 if dialect == "duckdb" else 1,)]


def test_a_key_column_and_the_others_are_widened_as_ever(make: Make, dialect: str, tmp_path: Path) -> None:
    small = pd.DataFrame({"id": pd.array([1, 2], "Int8"), "n": pd.array([1, 2], "Int8")})
    with make() as stream:
        stream.stream(small)
        stream.stream(pd.DataFrame({"id": [2, 2**40], "n": [2**41, 0.5]}))
    assert rows_by(tmp_path, dialect, "id", "n") == [(1, 1), (2, 2**41), (2**40, 0.5)]


def test_a_table_of_others_without_an_index_takes_upserts_too(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(
        tmp_path,
        dialect,
        "CREATE TABLE flights (text VARCHAR(99), id BIGINT, mine VARCHAR(9) DEFAULT 'mine')",
        "INSERT INTO flights (id, text, mine) VALUES (1, 'a', 'old'), (9, 'z', 'old')",
    )
    put(make(), {"id": [1, 2], "text": ["b", "c"]}, {"id": [2], "text": ["d"]})
    assert rows_by(tmp_path, dialect, "id", "text", "mine") == [(1, "b", "old"), (2, "d", "mine"), (9, "z", "old")]


def test_another_unique_index_refuses_a_row_and_never_picks_which_is_updated(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    execute(
        tmp_path,
        dialect,
        "CREATE TABLE flights (id BIGINT PRIMARY KEY, mail VARCHAR(99) UNIQUE, n BIGINT)",
        "INSERT INTO flights VALUES (1, 'a@x', 1)",
    )
    put(make(), {"id": [2, 3], "mail": ["a@x", "b@x"], "n": [2, 3]}, {"id": [1], "mail": ["c@x"], "n": [4]})
    assert rows_by(tmp_path, dialect, "id", "mail", "n") == [(1, "c@x", 4), (3, "b@x", 3)]
    assert [row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [2]


def test_a_key_that_somebody_inserts_meanwhile_is_updated(make: Make, dialect: str, tmp_path: Path) -> None:
    with make() as stream:
        stream.stream(pd.DataFrame({"id": [1], "text": ["a"]}))
        execute(
            tmp_path, dialect, "INSERT INTO flights (id, text) VALUES (2, 'mine')", "DELETE FROM flights WHERE id=1"
        )
        stream.stream(pd.DataFrame({"id": [1, 2], "text": ["b", "c"]}))
    assert rows_by(tmp_path, dialect, "id", "text") == [(1, "b"), (2, "c")]


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["of others", "of others, with an index", "of ours, before it had keys"])
def test_two_streams_never_make_two_rows_of_a_key(
    make: Make,
    dialect: str,
    tmp_path: Path,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second stream starts when the rows of the first are sent, but not yet committed."""
    if table == "of ours, before it had keys":
        put(make(keys=()), {"id": [0], "v": [0]})
    else:
        unique = ", UNIQUE (id)" if "index" in table else ""
        execute(tmp_path, dialect, f"CREATE TABLE flights (id BIGINT, v BIGINT{unique})")
    streams = [make(name=name, table="flights") for name in ("one", "two")]
    for stream in streams:
        stream.q.put(pd.DataFrame({"id": [100], "v": [1]}))
        stream.start()
        assert stream.flush(20), stream.status()
    real, came = SqlTarget._load, threading.Event()

    def load(target: SqlTarget, *arguments: Any, **options: Any) -> None:
        real(target, *arguments, **options)
        if not came.is_set():
            came.set()
            streams[1].q.put(pd.DataFrame({"id": [1], "v": [2]}))
            streams[1].flush(0.5)

    monkeypatch.setattr(SqlTarget, "_load", load)
    streams[0].q.put(pd.DataFrame({"id": [1, 2, 3], "v": [1, 1, 1]}))
    assert all(stream.flush(20) for stream in streams), [stream.status() for stream in streams]
    assert came.is_set()
    found = [row for row in rows_by(tmp_path, dialect, "id", "v") if row[0] in {1, 2, 3}]
    assert found == [(1, 2), (2, 1), (3, 1)]
    assert not [*rejected_rows(tmp_path, f"sql.{dialect}", "one"), *rejected_rows(tmp_path, f"sql.{dialect}", "two")]
    said = caplog.text.count('CREATE UNIQUE INDEX ON "flights" ("id")')
    assert said == (2 if dialect == "postgresql" and "index" not in table else 0), "once a stream"


KEYS: dict[str, list[Any]] = {
    "json": [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1.0, "b": 2}, {"c": [1, 2]}, {"c": [1, 2]}],
    "zeros": [0.0, -0.0, 1.5, 1.5],
    "large": [1e16, 10**16, 0.5, 2**60, float(2**60)],
    "nan": [float("nan"), 1.0, float("nan")],
    "infinite": [float("inf"), float("inf"), float("-inf")],
    "long": ["x" * 300, "x" * 300, "x" * 300 + "z"],
    "longer": ["y" * 5_000, "y" * 5_000, "y" * 5_000 + "z"],
    "letters": ["a", "a ", "a", "A", "é", "e\u0301"],
    "bytes": [b"a", b"a\0", b"a"],
}


@pytest.mark.parametrize("kind", KEYS)
def test_equal_keys_in_one_load_are_as_in_two_loads(kind: str, make: Make, dialect: str, tmp_path: Path) -> None:
    keys = pd.Series(KEYS[kind], dtype=float if isinstance(KEYS[kind][0], float) and kind != "large" else object)
    frame = pd.DataFrame({"key": keys, "n": range(len(keys))})
    found = []
    for name, frames in {"one": [frame], "each": [frame[n : n + 1] for n in range(len(frame))]}.items():
        with make("key", name=name) as stream:
            for rows in frames:
                stream.stream(rows)
        loaded = query(tmp_path, dialect, f'SELECT n FROM "{name}" ORDER BY n')
        found.append((loaded, sorted(row["n"] for row in rejected_rows(tmp_path, f"sql.{dialect}", name))))
    assert found[0] == found[1]


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("declared", "equal"),
    [
        ("uuid", ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("jsonb", [{"a": 1}, {"a": 1.0}]),
    ],
)
@pytest.mark.parametrize("unique", ["", "UNIQUE"])
def test_keys_that_are_one_to_a_column_s_type_are_as_in_two_loads(
    make: Make, dialect: str, tmp_path: Path, declared: str, equal: list[Any], unique: str
) -> None:
    execute(tmp_path, dialect, f"CREATE TABLE flights (key {declared} {unique}, n BIGINT)")
    put(make("key"), {"key": equal, "n": [1, 2]}, {"key": equal[:1], "n": [3]}, {"key": equal[::-1], "n": [4, 5]})
    assert rows_by(tmp_path, dialect, "n") == [(5,)]
    assert rejected_rows(tmp_path, f"sql.{dialect}") == []


@pytest.mark.parametrize("dialect", SERVERS, indirect=True)
def test_keys_that_are_one_to_the_table_alone_are_refused_and_not_merged(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    if dialect == "postgresql":
        execute(tmp_path, dialect, "CREATE EXTENSION citext")
    declared = "citext" if dialect == "postgresql" else "VARCHAR(9) COLLATE utf8mb4_general_ci"
    execute(tmp_path, dialect, f"CREATE TABLE flights (name {declared}, n BIGINT)")
    put(make("name"), {"name": ["a", "A", "b"], "n": [1, 2, 3]}, {"name": ["B", "a", "c"], "n": [4, 5, 6]})
    assert rows_by(tmp_path, dialect, "name", "n") == [("a", 5), ("b", 3), ("c", 6)]
    assert [(row["name"], row["n"]) for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [("A", 2), ("B", 4)]


@pytest.mark.parametrize("dialect", ["postgresql"], indirect=True)
@pytest.mark.parametrize("declared", ["text", "varchar(9)", "char(9)", "word"])
def test_a_collation_of_the_table_s_own_says_which_keys_are_one(
    make: Make, dialect: str, tmp_path: Path, declared: str
) -> None:
    execute(
        tmp_path,
        dialect,
        "CREATE COLLATION blind (provider=icu, locale='und-u-ks-level2', deterministic=false)",
        "CREATE DOMAIN word AS text",
        f"CREATE TABLE flights (name {declared} COLLATE blind, n BIGINT)",
    )
    put(make("name"), {"name": ["a", "A", "b"], "n": [1, 2, 3]}, {"name": ["B", "a", "c"], "n": [4, 5, 6]})
    found = [(name.rstrip(), n) for name, n in rows_by(tmp_path, dialect, "name", "n")]
    assert found == [("a", 5), ("b", 3), ("c", 6)]
    assert [(row["name"], row["n"]) for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [("A", 2), ("B", 4)]


@pytest.mark.parametrize("dialect", ["mysql"], indirect=True)
def test_keys_that_the_server_can_not_index_are_refused_and_no_table_is_made_without(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    put(make("a", "b", "c", "d"), {"a": ["x"], "b": ["x"], "c": ["x"], "d": ["x"]})
    assert types(tmp_path, dialect) == {}
    assert ["can index" in row["_api2db_reason"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [True]


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"], indirect=True)
def test_a_key_of_255_letters_is_taken_and_a_longer_one_refused(make: Make, dialect: str, tmp_path: Path) -> None:
    put(make("name"), {"name": ["é" * 255, "é" * 256, "😀" * 255], "n": [1, 2, 3]})
    assert rows_by(tmp_path, dialect, "n") == [(1,), (3,)]
    assert [row["n"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [2]


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"], indirect=True)
@pytest.mark.parametrize(
    "declared",
    ["id BIGINT, name VARCHAR(40)", "id BIGINT, name LONGTEXT", "id BIGINT, name VARCHAR(40), UNIQUE KEY (name, id)"],
)
def test_the_work_of_a_batch_by_keys_grows_with_its_rows_and_not_with_their_square(
    make: Make, dialect: str, tmp_path: Path, declared: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server counts the rows that it reads; comparing all pairs would read a hundred million."""
    execute(tmp_path, dialect, f"CREATE TABLE flights ({declared}, n BIGINT)")
    rows = 10_000
    frame = pd.DataFrame({"id": range(rows), "name": [f"flight {n}" for n in range(rows)], "n": range(rows)})
    before = rows_read(dialect)
    with make("id", "name") as stream:
        stream.stream(frame)
        stream.stream(frame.assign(n=1))
    assert query(tmp_path, dialect, "SELECT count(*), count(DISTINCT id), sum(n) FROM flights") == [(rows, rows, rows)]
    assert rows_read(dialect) - before < 50 * rows
    assert ("ADD UNIQUE KEY (`id`, `name`)" in caplog.text) == ("UNIQUE" not in declared)


def rows_read(dialect: str) -> int:
    counted = running(dialect).execute("SHOW GLOBAL STATUS LIKE 'Handler_read%'")
    return sum(int(count) for _, count in counted)


@pytest.mark.parametrize("keys", ["id", [1], [""], [None]], ids=repr)
def test_keys_are_a_list_of_names(keys: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="keys"):
        Stream2Sql("flights", "x.sqlite", "sqlite", home=tmp_path, keys=keys)


@pytest.mark.parametrize("dialect", ["sqlite"], indirect=True)
def test_a_row_whose_update_a_trigger_ignores_is_rejected(make: Make, dialect: str, tmp_path: Path) -> None:
    execute(
        tmp_path,
        dialect,
        "CREATE TABLE flights (id INTEGER, n INTEGER)",
        "INSERT INTO flights VALUES (7, 0), (8, 0)",
        "CREATE TRIGGER no_sevens BEFORE UPDATE ON flights WHEN NEW.id = 7 BEGIN SELECT RAISE(IGNORE); END",
    )
    put(make(), {"id": [6, 7, 8], "n": [1, 1, 1]})
    assert rows_by(tmp_path, dialect, "id", "n") == [(6, 1), (7, 0), (8, 1)]
    assert [row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == [7]


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"], indirect=True)
@pytest.mark.parametrize("declared", ["id VARCHAR(9)", "id VARCHAR(9), UNIQUE KEY (id)", "id BIGINT"])
def test_a_batch_takes_a_key_that_somebody_else_puts_in_meanwhile_for_one_that_is_there(
    dialect: str, tmp_path: Path, declared: str
) -> None:
    execute(tmp_path, dialect, f"CREATE TABLE flights ({declared})", "INSERT INTO flights VALUES (1)")
    server = running(dialect)
    place = ServerPlace(server.host, server.port, server.user, DATABASE, Password(lambda: server.password))
    target = SqlTarget(MysqlDatabase(place), "flights", "append", "evolve", ["id"])
    target.connect()
    rows = pa.table({"id": [7, 8]} if "BIGINT" in declared else {"id": ["7", "8"]})
    columns, claim = target.prepare(rows.schema), LedgerUpdate("stream", None, LedgerRow("epoch", 1, 0), 2)
    with closing(target), closing(server.client(DATABASE)) as other, ThreadPoolExecutor() as threads:
        other.cursor().execute("BEGIN")
        other.cursor().execute("INSERT INTO flights VALUES (7)")
        loading = threads.submit(target.load, rows, columns, claim)
        eventually(lambda: waiting_for_locks(dialect))
        other.commit()
        loading.result()
    assert [int(number) for (number,) in query(tmp_path, dialect, "SELECT id FROM flights ORDER BY id")] == [1, 7, 8]


def waiting_for_locks(dialect: str) -> int:
    return len(running(dialect).execute("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"))


@pytest.mark.parametrize("dialect", ["mariadb", "mysql"], indirect=True)
@pytest.mark.parametrize("declared", ["id BIGINT, n BIGINT", "id BIGINT, n BIGINT, UNIQUE KEY (id)"])
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_two_streams_at_the_same_keys_lose_no_row_and_double_none(
    make: Make, dialect: str, tmp_path: Path, declared: str, isolation: str
) -> None:
    execute(tmp_path, dialect, f"CREATE TABLE flights ({declared})")
    running(dialect).execute(f"SET GLOBAL TRANSACTION ISOLATION LEVEL {isolation}")
    try:
        both = [make(name=name, table="flights") for name in ("one", "other")]
        for stream in both:
            stream.start()
        for first in range(0, 1_200, 30):
            for stream in both:
                stream.q.put(pd.DataFrame({"id": range(first, first + 30), "n": first}))
        assert all(stream.flush(60) for stream in both), [stream.status() for stream in both]
    finally:
        running(dialect).execute("SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    assert rows_by(tmp_path, dialect, "id", "n") == [(n, n - n % 30) for n in range(1_200)]
    assert [stream.status().rows_rejected for stream in both] == [0, 0]
