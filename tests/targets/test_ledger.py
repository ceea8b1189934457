"""The ledger's rules, on every embedded database: compare and set in the rows' own transaction, or nothing at all."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from api2db.errors import BatchRefusedError, LedgerMovedError, TableChangedError, TargetUnavailableError
from api2db.targets.duckdb import DuckdbDatabase
from api2db.targets.port import IfExists, LedgerRow, LedgerUpdate, SchemaRule
from api2db.targets.sql import SqlTarget
from api2db.targets.sqlite import SqliteDatabase
from tests.stream.ways import DIALECTS

ROWS = pa.table({"id": [1, 2]})
FIRST, SECOND = LedgerRow("epoch", 1, 0), LedgerRow("epoch", 2, 5)


class TableLocation:
    """A database file, the targets in it, and a look at it from outside."""

    def __init__(self, dialect: str, folder: Path) -> None:
        self.dialect = dialect
        self.path = folder / "t.db"
        self.opened: list[SqlTarget] = []

    def target(self, if_exists: IfExists = "append", schema: SchemaRule = "evolve") -> SqlTarget:
        database = DuckdbDatabase(self.path) if self.dialect == "duckdb" else SqliteDatabase(self.path)
        self.opened.append(SqlTarget(database, "t", if_exists, schema))
        self.opened[-1].connect()
        return self.opened[-1]

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        library: Any = duckdb if self.dialect == "duckdb" else sqlite3
        with closing(library.connect(str(self.path))) as connection:
            found = [tuple(row) for row in connection.execute(sql).fetchall()]
            if self.dialect == "sqlite":
                connection.commit()
            return found

    @property
    def ids(self) -> list[int]:
        return [number for (number,) in self.ask("SELECT id FROM t")]


@pytest.fixture(params=DIALECTS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TableLocation]:
    place = TableLocation(request.param, tmp_path)
    yield place
    for target in place.opened:
        target.close()


def load(target: SqlTarget, before: LedgerRow | None, after: LedgerRow, rows: pa.Table = ROWS) -> None:
    target.load(rows, target.prepare(rows.schema), LedgerUpdate("stream", before, after, rows.num_rows))


def test_rows_and_ledger_are_committed_together(place: TableLocation) -> None:
    target = place.target()
    assert target.read_position("stream") is None
    load(target, None, FIRST)
    load(target, FIRST, SECOND)
    assert target.read_position("stream") == SECOND
    assert target.read_position("another") is None
    assert place.ids == [1, 2, 1, 2]
    assert place.ask("SELECT loaded FROM _api2db_ledger") == [(4,)]


@pytest.mark.parametrize(
    "before",
    [None, SECOND, LedgerRow("other epoch", 1, 0), LedgerRow("epoch", 0, 0), LedgerRow("epoch", 1, 1)],
    ids=str,
)
def test_where_the_ledger_has_moved_nothing_is_loaded(place: TableLocation, before: LedgerRow | None) -> None:
    target = place.target()
    load(target, None, FIRST)
    with pytest.raises(LedgerMovedError):
        load(target, before, LedgerRow("epoch", 3, 0))
    assert target.read_position("stream") == FIRST
    assert place.ids == [1, 2]


def test_where_the_ledger_s_row_is_gone_nothing_is_loaded(place: TableLocation) -> None:
    target = place.target()
    load(target, None, FIRST)
    place.ask("DELETE FROM _api2db_ledger RETURNING stream")
    with pytest.raises(LedgerMovedError):
        load(target, FIRST, SECOND)
    assert place.ids == [1, 2]


def test_of_two_that_stand_at_one_place_only_one_gets_on(place: TableLocation) -> None:
    one, other = place.target(), place.target()
    load(one, None, FIRST)
    load(one, FIRST, SECOND)
    with pytest.raises(LedgerMovedError):
        load(other, FIRST, LedgerRow("epoch", 9, 0))
    assert other.read_position("stream") == SECOND


def test_where_the_table_has_changed_since_the_rows_were_cast_nothing_is_loaded(place: TableLocation) -> None:
    target = place.target()
    load(target, None, FIRST)
    columns = target.prepare(ROWS.schema)
    place.ask("ALTER TABLE t ADD COLUMN mine INTEGER")
    with pytest.raises(TableChangedError):
        target.load(ROWS, columns, LedgerUpdate("stream", FIRST, SECOND, 2))
    assert target.read_position("stream") == FIRST
    assert place.ids == [1, 2]


def test_where_the_table_is_gone_nothing_is_loaded(place: TableLocation) -> None:
    target = place.target()
    columns = target.prepare(ROWS.schema)
    place.ask("DROP TABLE t")
    with pytest.raises(TargetUnavailableError):
        target.load(ROWS, columns, LedgerUpdate("stream", None, FIRST, 2))
    assert target.read_position("stream") is None


def test_a_trial_leaves_nothing(place: TableLocation) -> None:
    target = place.target()
    target.dry_run(ROWS, target.prepare(ROWS.schema))
    assert place.ids == []
    assert target.read_position("stream") is None


def test_a_refused_row_takes_the_whole_load_back(place: TableLocation) -> None:
    place.ask("CREATE TABLE t (id INTEGER CHECK (id <> 2))")
    target = place.target()
    with pytest.raises(BatchRefusedError, match="CHECK"):
        load(target, None, FIRST)
    assert target.read_position("stream") is None
    assert place.ids == []
    load(target, None, FIRST, ROWS.slice(0, 1))
    assert place.ids == [1]


def test_rows_that_a_trigger_drops_take_the_whole_load_back(tmp_path: Path) -> None:
    place = TableLocation("sqlite", tmp_path)
    target = place.target()
    target.prepare(ROWS.schema)
    place.ask("CREATE TRIGGER drops BEFORE INSERT ON t WHEN new.id = 2 BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(BatchRefusedError, match="took 1 of 2 rows; a trigger"):
        load(target, None, FIRST)
    assert target.read_position("stream") is None
    assert place.ids == []
    target.close()


def test_replace_is_one_step_with_the_ledger(place: TableLocation) -> None:
    target = place.target("replace")
    load(target, None, FIRST)
    load(target, FIRST, SECOND, pa.table({"id": [7]}))
    assert place.ids == [7]
    with pytest.raises(LedgerMovedError):
        load(target, FIRST, LedgerRow("epoch", 9, 0), pa.table({"id": [8]}))
    assert place.ids == [7]


def test_fail_refuses_a_table_of_others_and_takes_its_own(place: TableLocation) -> None:
    place.ask("CREATE TABLE t (id INTEGER)")
    target = place.target("fail")
    with pytest.raises(TargetUnavailableError, match="if_exists='fail'"):
        target.read_position("stream")
    place.ask("DROP TABLE t")
    target.close()  # as delivery does after any failure
    target.connect()
    assert target.read_position("stream") is None
    load(target, None, FIRST)
    assert target.read_position("stream") == FIRST


def test_freeze_neither_adds_nor_widens(place: TableLocation) -> None:
    load(place.target(), None, FIRST)
    target = place.target(schema="freeze")
    columns = target.prepare(pa.schema([("id", pa.int64()), ("new", pa.string())]))
    assert [column.name for column in columns] == ["id"]
    assert target.widen(columns[0], pa.float64()) is None


def test_each_change_of_the_schema_is_a_row(place: TableLocation) -> None:
    target = place.target()
    load(target, None, FIRST)
    target.prepare(pa.schema([("id", pa.int64()), ("x", pa.string())]))
    changes = place.ask("SELECT table_name, column_name, old_type FROM _api2db_schema_changes")
    assert changes == [("t", "x", None)]
    [(at,)] = place.ask("SELECT changed_at FROM _api2db_schema_changes")
    assert at[:2] == "20"


def test_how_far_waits_for_whoever_is_in_the_middle_of_a_load(tmp_path: Path) -> None:
    """Read without a lock, the ledger could be behind a commit that is still under way."""
    place = TableLocation("sqlite", tmp_path)
    target = place.target()
    load(target, None, FIRST)
    with closing(sqlite3.connect(place.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TargetUnavailableError, match="locked"):
            target.read_position("stream")
        other.execute("ROLLBACK")
    assert target.read_position("stream") == FIRST
    target.close()


def test_a_type_for_which_the_database_has_the_same_column_is_no_wider_one(place: TableLocation) -> None:
    place.ask("CREATE TABLE t (id TEXT)")
    target = place.target()
    [column] = target.prepare(pa.schema([("id", pa.string())]))
    assert target.widen(column, pa.decimal256(60, 2)) is None
