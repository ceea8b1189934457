"""Rows that a table refuses are set aside with the reason, they alone, once each, whatever dies meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api2db.errors import TargetUnavailableError
from api2db.journal._reader import SegmentedReader
from api2db.targets.sql import SqlTarget
from tests.kills.checker import Verdict, judge, set_aside
from tests.kills.databases import change
from tests.kills.fork_server import ForkServer
from tests.kills.here import Puts, wait_until
from tests.kills.rows import frame
from tests.kills.steps import Delivery, sample

DIALECTS = ("duckdb", "sqlite")
REFUSING = """CREATE TABLE flights (
    stream_no VARCHAR NOT NULL, n BIGINT, row INTEGER CHECK (NOT (n % 7 = 3 AND row = 1)), rows INTEGER,
    payload VARCHAR CHECK (n <> 12), proof VARCHAR, extra {extra})"""
OPEN = "CREATE TABLE flights (stream_no VARCHAR, n BIGINT, row INTEGER, rows INTEGER, payload VARCHAR, proof VARCHAR)"


def is_refused(row: Any) -> bool:
    return bool((row["n"] % 7 == 3 and row["row"] == 1) or row["n"] == 12)


def places(rows: Any) -> set[tuple[int, int]]:
    return {(row["n"], row["row"]) for row in rows}


def refused_of(puts: Puts, is_at_fault: Any = is_refused) -> set[tuple[int, int]]:
    rows = [row for n in puts.acknowledged for row in frame("own", n).to_pylist()]
    return places(row for row in rows if is_at_fault(row))


def check(puts: Puts, at_fault: set[tuple[int, int]]) -> None:
    """They are set aside, nothing else is, and all others are in the table."""
    aside = set_aside(puts.home.path, puts.stream.stream_type)
    assert places(aside) == at_fault
    assert judge(puts.found(), puts.acknowledged, aside) == Verdict()
    assert puts.stream.status().rows_rejected == len(aside)


def failing_for_a_plan(real: Callable[..., None]) -> Callable[..., None]:
    """Dies with the rejected rows written down, and no plan."""

    def keep(log: SegmentedReader, kind: str, note: Any) -> None:
        if kind == "plan":
            raise RuntimeError("planted")
        real(log, kind, note)

    return keep


@pytest.mark.parametrize("frames_at_once", [1, 20])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_only_the_rows_that_break_a_constraint_are_set_aside(tmp_path: Path, dialect: str, frames_at_once: int) -> None:
    puts = Puts(tmp_path, dialect)
    change(dialect, puts.database, REFUSING.format(extra="BIGINT"))
    for _ in range(20 // frames_at_once):
        puts.put(frames_at_once)
        puts.deliver()
    check(puts, refused_of(puts))


def test_rows_that_overflow_a_narrow_column_of_a_frozen_table_are_set_aside(tmp_path: Path) -> None:
    puts = Puts(tmp_path, "duckdb", schema="freeze")
    change("duckdb", puts.database, REFUSING.format(extra="SMALLINT"))
    puts.put(45)
    puts.deliver()
    check(puts, refused_of(puts, lambda row: is_refused(row) or (row.get("extra") or 0) > 32_767))


def test_a_narrow_column_that_the_database_will_not_widen_costs_only_the_rows_that_overflow_it(tmp_path: Path) -> None:
    puts = Puts(tmp_path, "duckdb")
    change("duckdb", puts.database, REFUSING.format(extra="SMALLINT CHECK (extra > -5)"))
    puts.put(45)
    puts.deliver()
    check(puts, refused_of(puts, lambda row: is_refused(row) or (row.get("extra") or 0) > 32_767))


def test_a_narrow_column_under_an_index_costs_at_most_the_rows_that_overflow_it(tmp_path: Path) -> None:
    puts = Puts(tmp_path, "duckdb")
    change("duckdb", puts.database, REFUSING.format(extra="SMALLINT"), "CREATE INDEX i ON flights (extra)")
    puts.put(45)
    puts.deliver()
    aside = set_aside(puts.home.path, puts.stream.stream_type)
    assert refused_of(puts) <= places(aside)
    assert places(aside) <= refused_of(puts, lambda row: is_refused(row) or (row.get("extra") or 0) > 32_767)
    assert judge(puts.found(), puts.acknowledged, aside) == Verdict()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_rows_that_were_refused_before_a_failed_load_and_not_behind_it_are_only_in_the_table(
    tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = Puts(tmp_path, dialect)
    change(dialect, puts.database, REFUSING.format(extra="BIGINT"))
    real = SqlTarget.load
    good_loads = []

    def load(target: SqlTarget, rows: Any, *arguments: Any) -> None:
        if rows.num_rows == 0 or not any(map(is_refused, rows.to_pylist())):
            good_loads.append(rows)
            if len(good_loads) == 1:
                target.close()
                change(dialect, puts.database, "DROP TABLE flights", OPEN)
                raise TargetUnavailableError("planted")
        real(target, rows, *arguments)

    monkeypatch.setattr(SqlTarget, "load", load)
    puts.acknowledged = [11]
    puts.put(1)
    puts.acknowledged = [12]
    puts.deliver()
    assert len(good_loads) == 1
    check(puts, set())
    assert list((puts.home.path / "STORE" / "rejected" / "flights" / f"sql.{dialect}").iterdir()) == []


def test_rows_that_a_file_refused_before_a_crash_and_not_behind_it_are_only_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = Puts(tmp_path, "update")
    file = puts.home.path / "CACHE" / "updated.parquet"
    file.parent.mkdir()
    pq.write_table(pa.table({"payload": [1]}), file)
    puts.put(3)
    with monkeypatch.context() as patched:
        patched.setattr(SegmentedReader, "save", failing_for_a_plan(SegmentedReader.save))
        puts.stream.start()
        wait_until(lambda: not puts.stream.lock.locked())
    file.unlink()
    puts.deliver()
    check(puts, set())


@pytest.mark.parametrize("kind", DIALECTS)
def test_a_process_killed_while_it_sets_rows_aside_neither_loses_nor_doubles_them(
    fork_server: ForkServer, tmp_path: Path, kind: str, say: list[str]
) -> None:
    delivery = Delivery(fork_server, tmp_path, kind, table=REFUSING.format(extra="BIGINT"))
    found = {str(step): delivery.killed_at(step) for step in sample(delivery.steps(), 8)}
    assert {step: verdict for step, verdict in found.items() if verdict not in (None, Verdict())} == {}
