"""Another client alters the table between two batches, or within one: no value changes on its way in."""

from pathlib import Path
from typing import Any

import pytest

from api2db.targets.sql import SqlTarget
from tests.kills.checker import Verdict, judge, set_aside
from tests.kills.databases import change
from tests.kills.here import Puts

DUCKDB = (
    "ALTER TABLE flights ALTER n TYPE DOUBLE",
    "ALTER TABLE flights ALTER n TYPE DECIMAL(18, 3)",
    "ALTER TABLE flights ALTER n TYPE HUGEINT",
    "ALTER TABLE flights ALTER row TYPE BIGINT",
    "ALTER TABLE flights ALTER row TYPE UTINYINT",
    "ALTER TABLE flights ADD COLUMN other VARCHAR DEFAULT 'theirs'",
    "ALTER TABLE flights DROP COLUMN extra",
    "ALTER TABLE flights RENAME COLUMN extra TO theirs",
)
SQLITE = (
    "ALTER TABLE flights ADD COLUMN other TEXT DEFAULT 'theirs'",
    "ALTER TABLE flights DROP COLUMN extra",
    "ALTER TABLE flights RENAME COLUMN extra TO theirs",
)
BY_DIALECT = [*(("duckdb", alter) for alter in DUCKDB), *(("sqlite", alter) for alter in SQLITE)]


def first_part(puts: Puts) -> None:
    puts.put(5)
    puts.deliver()


def put_the_large_frame(puts: Puts) -> None:
    """The rows behind: among them those of a frame of 2,000, whose numbers no small type holds."""
    puts.acknowledged.append(58)
    puts.put(6)
    puts.acknowledged.remove(58)


def check(puts: Puts, alter: str) -> None:
    rows = [{**row, "n": int(row["n"])} for row in puts.found() if int(row["n"]) > 5 or "extra" not in alter]
    acknowledged = [n for n in puts.acknowledged if n > 5 or "extra" not in alter]
    assert judge(rows, acknowledged, set_aside(puts.home.path, puts.stream.stream_type)) == Verdict()


@pytest.mark.parametrize(("dialect", "alter"), BY_DIALECT)
def test_a_table_altered_between_two_batches_gets_each_value_as_it_was_put(
    tmp_path: Path, dialect: str, alter: str
) -> None:
    puts = Puts(tmp_path, dialect)
    first_part(puts)
    change(dialect, puts.database, alter)
    put_the_large_frame(puts)
    puts.deliver()
    check(puts, alter)


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite"])
def test_rows_that_a_column_which_others_made_narrow_can_no_longer_hold_are_set_aside_when_frozen(
    tmp_path: Path, dialect: str
) -> None:
    puts = Puts(tmp_path, dialect, schema="freeze")
    first_part(puts)
    change(dialect, puts.database, "ALTER TABLE flights DROP COLUMN extra")
    put_the_large_frame(puts)
    puts.deliver()
    aside = set_aside(puts.home.path, puts.stream.stream_type)
    assert {row["n"] for row in aside} == {n for n in puts.acknowledged if n > 5 and n % 5 == 4}
    assert judge([row for row in puts.found() if row["n"] != 4], set(puts.acknowledged) - {4}, aside) == Verdict()


@pytest.mark.parametrize(("dialect", "alter"), BY_DIALECT)
def test_a_table_altered_after_the_batch_was_cast_for_it_gets_each_value_as_it_was_put(
    tmp_path: Path, dialect: str, alter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = Puts(tmp_path, dialect)
    first_part(puts)
    put_the_large_frame(puts)
    real = SqlTarget.load
    altered: list[str] = []

    def load(target: SqlTarget, *arguments: Any) -> None:
        if not altered:
            altered.append(alter)
            change(dialect, puts.database, alter)
        real(target, *arguments)

    monkeypatch.setattr(SqlTarget, "load", load)
    puts.deliver()
    assert altered
    check(puts, alter)
