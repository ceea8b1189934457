"""Tables of any lake: of two owners of a stream only one commits, and what else all kinds of lake promise."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pytest

from api2db import Store2Delta, Store2Iceberg, Stream2Delta, Stream2Iceberg, Stream2Local
from api2db.errors import BatchRefusedError, ConfigurationError, LedgerMovedError, TargetUnavailableError
from api2db.stream.diagnosis import Diagnosis
from api2db.stream.stream2delta import _location
from api2db.stream.stream2iceberg import _place
from api2db.targets.delta import DeltaTarget
from api2db.targets.iceberg import IcebergTarget
from api2db.targets.lake import LakeTarget
from api2db.targets.port import LedgerRow, LedgerUpdate
from tests.stream.cases import COLLECTOR, frame
from tests.stream.lakes import DELTA, ICEBERG, delta_rows, iceberg_rows, stream_into_delta, stream_into_iceberg

STREAM = "0123456789abcdef"
EPOCH = "fedcba9876543210"
ROWS = pa.table({"id": [1, 2]})
WAYS: dict[str, dict[str, Any]] = {"append": {}, "keys": {"keys": ["id"]}, "replace": {"if_exists": "replace"}}


class Lake(NamedTuple):
    """A kind of lake: what makes a target, what reads its rows, and what makes a stream or a store."""

    name: str
    target: Callable[..., LakeTarget]
    rows: Callable[[Path], list[dict[str, Any]]]
    stream: Callable[..., Stream2Delta | Stream2Iceberg]
    store: Callable[[Path], Store2Delta | Store2Iceberg]

    def owner(self, home: Path, **options: Any) -> Any:
        """A target of the stream that has read its ledger."""
        made = self.target(home, **{"if_exists": "append", "schema": "evolve", **options})
        made.connect()
        made.read_position(STREAM)
        return made


def _delta(home: Path, **options: Any) -> LakeTarget:
    return DeltaTarget(_location(DELTA, {}, home), **options)


def _iceberg(home: Path, **options: Any) -> LakeTarget:
    return IcebergTarget(_place(ICEBERG, {}, ("default", COLLECTOR), home, is_own=True), **options)


LAKES = (
    Lake("delta", _delta, delta_rows, stream_into_delta, lambda home: Store2Delta(COLLECTOR, 1, DELTA, home=home)),
    Lake(
        "iceberg",
        _iceberg,
        iceberg_rows,
        stream_into_iceberg,
        lambda home: Store2Iceberg(COLLECTOR, 1, ICEBERG, home=home),
    ),
)


@pytest.fixture(params=LAKES, ids=lambda lake: lake.name)
def lake(request: pytest.FixtureRequest) -> Lake:
    chosen: Lake = request.param
    return chosen


def load(target: LakeTarget, before: LedgerRow | None, sequence: int, rows: pa.Table = ROWS) -> LedgerRow:
    columns = target.prepare(rows.schema)
    after = LedgerRow(EPOCH, sequence, 0)
    target.load(rows, columns, LedgerUpdate(STREAM, before, after, rows.num_rows))
    return after


def test_of_two_owners_of_a_stream_only_one_commits_whatever_it_commits(lake: Lake, tmp_path: Path) -> None:
    first = lake.owner(tmp_path)
    reached = load(first, None, 1)
    second = lake.owner(tmp_path)
    load(first, reached, 2)
    for sequence in (2, 3):
        with pytest.raises(LedgerMovedError):
            load(second, reached, sequence)
    assert second.read_position(STREAM) == LedgerRow(EPOCH, 2, 0)
    assert [row["id"] for row in lake.rows(tmp_path)] == [1, 2, 1, 2]


def test_owners_that_commit_at_once_never_both_win(lake: Lake, tmp_path: Path) -> None:
    reached = load(lake.owner(tmp_path), None, 1)
    targets = [lake.owner(tmp_path) for _ in range(4)]
    ready, won = threading.Barrier(4), []

    def race(target: LakeTarget, number: int) -> None:
        ready.wait()
        try:
            load(target, reached, 2 + number)
        except LedgerMovedError:
            return
        won.append(number)

    threads = [threading.Thread(target=race, args=(target, number)) for number, target in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lake.rows(tmp_path)) == 4


@pytest.mark.parametrize("has_rows", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_an_owner_whose_new_column_follows_another_one_s_commit_commits_nothing(
    lake: Lake, tmp_path: Path, *, way: str, has_rows: bool
) -> None:
    reached = load(lake.owner(tmp_path, **WAYS[way]), None, 1)
    first, second = lake.owner(tmp_path, **WAYS[way]), lake.owner(tmp_path, **WAYS[way])
    newest = load(first, reached, 2, pa.table({"id": [3, 4]}))
    rows = pa.table({"id": [5, 6], "more": [1, 2]})
    columns = second.prepare(rows.schema)
    there = lake.rows(tmp_path)
    with pytest.raises((LedgerMovedError, TargetUnavailableError)):
        second.load(rows if has_rows else rows.select([]), columns, LedgerUpdate(STREAM, reached, newest, 2))
    assert lake.rows(tmp_path) == there
    assert second.read_position(STREAM) == newest
    load(second, newest, 3, rows)
    assert sorted(row["id"] for row in lake.rows(tmp_path))[-2:] == [5, 6]


def test_the_ledger_moves_with_rows_by_key_that_change_nothing(lake: Lake, tmp_path: Path) -> None:
    target = lake.owner(tmp_path, keys=["id"])
    reached = load(target, None, 1)
    load(target, load(target, reached, 2), 3)
    assert lake.owner(tmp_path).read_position(STREAM) == LedgerRow(EPOCH, 3, 0)
    assert [row["id"] for row in lake.rows(tmp_path)] == [1, 2]


def test_a_ledger_is_read_back_whatever_its_epoch_is(lake: Lake, tmp_path: Path) -> None:
    target = lake.owner(tmp_path)
    columns = target.prepare(ROWS.schema)
    before = None
    for epoch in (EPOCH, "store-" + "ab" * 16, STREAM, "é"):
        after = LedgerRow(epoch, 2**62, 2**40)
        target.load(ROWS.select([]), columns, LedgerUpdate(STREAM, before, after))
        assert lake.owner(tmp_path).read_position(STREAM) == after
        before = after


def test_a_key_that_is_there_is_not_overwritten_by_a_retried_row(lake: Lake, tmp_path: Path) -> None:
    target = lake.owner(tmp_path, keys=["id"])
    load(target, None, 1)
    columns = target.prepare(ROWS.schema)
    update = LedgerUpdate(STREAM, LedgerRow(EPOCH, 1, 0), LedgerRow(EPOCH, 2, 0), 1, only_new=True)
    with pytest.raises(BatchRefusedError, match="id"):
        target.load(ROWS.slice(0, 1), columns, update)
    with pytest.raises(BatchRefusedError):
        target.dry_run(ROWS.slice(0, 1), columns, only_new=True)
    target.dry_run(pa.table({"id": [7]}), columns, only_new=True)
    target.load(pa.table({"id": [7]}), columns, update)


def test_a_diagnosis_reaches_the_table_and_makes_nothing(lake: Lake, tmp_path: Path) -> None:
    stream = lake.stream(tmp_path)
    assert stream.diagnose() == Diagnosis()
    assert stream.connect()
    assert stream.head().empty
    assert not (tmp_path / "LAKE").exists()
    with stream:
        stream.stream(frame(1))
        assert stream.diagnose() == Diagnosis()


def test_head_needs_a_column_and_gives_the_types(lake: Lake, tmp_path: Path) -> None:
    with lake.stream(tmp_path) as stream:
        assert stream.head().empty
        stream.stream(pd.DataFrame({"id": [1, 3, 2], "of": pd.to_timedelta([1, 2, 3], unit="s")}))
        with pytest.raises(ConfigurationError, match="head"):
            stream.head()
        found = stream.head(2, by="id")
    assert found["id"].tolist() == [3, 2]
    assert found["of"].tolist() == [pd.Timedelta(seconds=2), pd.Timedelta(seconds=3)]


def test_a_store_loads_shards_once(lake: Lake, tmp_path: Path) -> None:
    with Stream2Local(COLLECTOR, home=tmp_path) as shards:
        shards.q.put(frame(1, 2))
        shards.q.put(frame(3))
    store = lake.store(tmp_path)
    store.store()
    store.store()
    assert [row["id"] for row in lake.rows(tmp_path)] == [1, 2, 3]


def test_an_integer_that_no_float_holds_stays_one(lake: Lake, tmp_path: Path) -> None:
    with lake.stream(tmp_path, commit_every_s=0) as stream:
        stream.stream(pd.DataFrame({"n": [2**53 + 1]}))
        stream.stream(pd.DataFrame({"n": [0.5, 3.0]}))
    assert [row["n"] for row in lake.rows(tmp_path)] == [2**53 + 1, 3]


def test_what_waits_when_a_program_ends_is_delivered_before_its_end(lake: Lake, tmp_path: Path) -> None:
    made = f"from tests.stream.lakes import stream_into_{lake.name} as into; stream = into(Path({str(tmp_path)!r}))"
    program = f"from pathlib import Path; {made}; stream.start(); stream.q.put([{{'id': 1}}])"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=Path(__file__).parents[2])
    assert lake.rows(tmp_path) == [{"id": 1}]
