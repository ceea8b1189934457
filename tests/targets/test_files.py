"""A plan is on disk before a file can be seen, and finishing it twice is finishing it once."""

import datetime
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db.cpu_time import counted_for, spent_s
from api2db.disk.atomic import is_temporary
from api2db.disk.file_folder import LocalFolder
from api2db.errors import BatchRefusedError
from api2db.frames import to_batch
from api2db.targets._threads import on_all_processors
from api2db.targets.files import ShardTarget, SingleFileTarget
from api2db.targets.port import FilePlan, FrameRows

TYPES = ".api2db_types_parquet.json"
PIECES = [FrameRows(100, pa.table({"id": [1, 1, 2]})), FrameRows(200, pa.table({"id": [3]}))]


def keep(_plan: FilePlan) -> None:
    """What delivery writes down."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not (is_temporary(path) or path.name == TYPES))


@pytest.fixture
def shards(tmp_path: Path) -> ShardTarget:
    target = ShardTarget(LocalFolder(tmp_path), "parquet", None)
    target.connect()
    target.acquire("me")
    return target


def test_nothing_is_visible_before_the_plan_is_finished(shards: ShardTarget, tmp_path: Path) -> None:
    plan = shards.stage(PIECES, lambda: False)
    assert names(tmp_path) == []
    assert plan.duplicates == 1
    shards.finish(plan, keep)
    assert names(tmp_path) == ["100.parquet", "200.parquet"]
    assert pd.read_parquet(tmp_path / "100.parquet")["id"].tolist() == [1, 2]


def test_a_plan_that_was_finished_before_is_finished_again_without_effect(shards: ShardTarget, tmp_path: Path) -> None:
    plan = shards.stage(PIECES, lambda: False)
    shards.finish(plan, keep)
    (tmp_path / "100.parquet").unlink()  # consumed meanwhile
    shards.finish(plan, keep)
    assert names(tmp_path) == ["200.parquet"]


def test_a_plan_that_was_finished_in_part_is_finished(shards: ShardTarget, tmp_path: Path) -> None:
    plan = shards.stage(PIECES, lambda: False)
    (tmp_path / plan.files[0].temporary).rename(tmp_path / "100.parquet")
    shards.finish(plan, keep)
    assert names(tmp_path) == ["100.parquet", "200.parquet"]


def test_a_name_that_is_taken_meanwhile_is_raised_and_the_new_plan_kept_first(
    shards: ShardTarget, tmp_path: Path
) -> None:
    plan = shards.stage(PIECES[:1], lambda: False)
    (tmp_path / "100.parquet").write_bytes(b"another's")
    kept: list[str] = []
    shards.finish(plan, lambda changed: kept.append(changed.files[0].final))
    assert kept == ["101.parquet"]
    assert names(tmp_path) == ["100.parquet", "101.parquet"]
    assert (tmp_path / "100.parquet").read_bytes() == b"another's"


def test_a_piece_that_may_have_been_loaded_before_is_left_out_where_its_file_is(
    shards: ShardTarget, tmp_path: Path
) -> None:
    shards.finish(shards.stage(PIECES[:1], lambda: False), keep)
    plan = shards.stage(PIECES, lambda: True)
    assert [file.final for file in plan.files] == ["200.parquet"]
    shards.discard(plan)


def test_a_discarded_plan_leaves_nothing(shards: ShardTarget, tmp_path: Path) -> None:
    shards.discard(shards.stage(PIECES, lambda: False))
    assert [path.name for path in tmp_path.iterdir()] == [TYPES]


def test_what_a_crash_left_before_its_plan_was_kept_is_cleared_but_not_what_others_stage(tmp_path: Path) -> None:
    for owner in ("me", "you"):
        target = ShardTarget(LocalFolder(tmp_path), "parquet", None)
        target.acquire(owner)
        target.stage(PIECES[:1], lambda: False)
    ShardTarget(LocalFolder(tmp_path), "parquet", None).acquire("me")
    [left] = [path for path in tmp_path.iterdir() if path.name != TYPES]
    assert left.name.startswith(".you.")


def test_a_refused_piece_takes_its_whole_stage_back(shards: ShardTarget, tmp_path: Path) -> None:
    target = ShardTarget(LocalFolder(tmp_path), "parquet", ["missing"])
    with pytest.raises(BatchRefusedError, match="missing"):
        target.stage(PIECES, lambda: False)
    assert [path.name for path in tmp_path.iterdir()] == [TYPES]


def test_large_frames_are_several_shards_whose_names_follow_each_other(tmp_path: Path) -> None:
    target = ShardTarget(LocalFolder(tmp_path), "parquet", None, chunk_rows=2)
    frames = [FrameRows(100, pa.table({"id": [1, 2, 3, 4, 5]})), FrameRows(101, pa.table({"id": [6]}))]
    target.finish(target.stage(frames, lambda: False), keep)
    found = [(name, pd.read_parquet(tmp_path / name)["id"].tolist()) for name in names(tmp_path)]
    assert found == [("100.parquet", [1, 2]), ("101.parquet", [3, 4]), ("102.parquet", [5]), ("103.parquet", [6])]


@pytest.mark.parametrize("replace", [False, True], ids=["update", "replace"])
def test_a_single_file_is_changed_in_one_step(tmp_path: Path, replace: bool) -> None:  # noqa: FBT001 - a parameter
    path = tmp_path / "one.parquet"
    target = SingleFileTarget(LocalFolder(path.parent), path.name, "parquet", None, replace=replace)
    target.connect()
    target.acquire("me")
    target.finish(target.stage(PIECES[:1], lambda: False), keep)
    plan = target.stage(PIECES[1:], lambda: False)
    assert pd.read_parquet(path)["id"].tolist() == [1, 2]
    target.finish(plan, keep)
    wanted = [3] if replace else [1, 2, 3]
    assert pd.read_parquet(path)["id"].tolist() == wanted
    target.finish(plan, keep)
    assert pd.read_parquet(path)["id"].tolist() == wanted


def test_a_single_file_of_other_types_refuses_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    target = SingleFileTarget(LocalFolder(path.parent), path.name, "parquet", None, replace=False)
    target.finish(target.stage(PIECES, lambda: False), keep)
    with pytest.raises(BatchRefusedError, match=r"'id' is int64 in .*one\.parquet, and text in these rows; put"):
        target.stage([FrameRows(300, pa.table({"id": ["x"]}))], lambda: False)
    assert pd.read_parquet(path)["id"].tolist() == [1, 2, 3]


SAME: dict[str, list[Any]] = {
    "decimals": [Decimal("1.10"), Decimal("2.20")],
    "dicts": [{"a": 1}, {"b": 2}],
    "lists": [[1], [2, 3]],
    "bytes": [b"a", b"\xff"],
    "times": [datetime.time(1), datetime.time(2, 3, 4, 5)],
    "spans": [datetime.timedelta(1), datetime.timedelta(microseconds=5)],
    "long numbers": [2**63, 2**64 - 1],
    "long and short numbers": [2**63, 5],
    "short and long numbers": [5, 2**63],
}


@pytest.mark.parametrize("kind", SAME)
def test_a_csv_file_is_added_to_by_every_class_of_values_that_it_began_with(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "one.csv"
    target = SingleFileTarget(LocalFolder(path.parent), path.name, "csv", None, replace=False)
    for number, value in enumerate(SAME[kind]):
        rows = pa.Table.from_batches([to_batch([{"id": number, "v": value}])])
        target.finish(target.stage([FrameRows(number, rows)], lambda: False), keep)
    both = pa.Table.from_batches([to_batch([{"id": number, "v": value} for number, value in enumerate(SAME[kind])])])
    whole = SingleFileTarget(LocalFolder(tmp_path), "whole.csv", "csv", None, replace=False)
    whole.finish(whole.stage([FrameRows(0, both)], lambda: False), keep)
    written, wanted = (pd.read_csv(tmp_path / name, dtype=str) for name in ("one.csv", "whole.csv"))
    pd.testing.assert_frame_equal(written, wanted)


def test_texts_of_digits_in_a_csv_file_are_no_numbers(tmp_path: Path) -> None:
    target = SingleFileTarget(LocalFolder(tmp_path), "one.csv", "csv", None, replace=False)
    target.finish(target.stage([FrameRows(0, pa.table({"v": ["7", "007"]}))], lambda: False), keep)
    with pytest.raises(BatchRefusedError, match=r"'v' is text in .*one\.csv, and int64 in these rows"):
        target.stage([FrameRows(1, pa.table({"v": [8]}))], lambda: False)


def test_many_pieces_become_files_in_the_order_in_which_they_were_put(shards: ShardTarget, tmp_path: Path) -> None:
    pieces = [FrameRows(100 + number % 2, pa.table({"id": [number] * 2})) for number in range(40)]  # names clash
    plan = shards.stage(pieces, lambda: False)
    shards.finish(plan, keep)
    assert plan.duplicates == 40
    assert [pd.read_parquet(tmp_path / file.final)["id"].tolist() for file in plan.files] == [[n] for n in range(40)]
    assert [int(Path(file.final).stem) for file in plan.files] == list(range(100, 140))


@pytest.mark.parametrize("bad", [0, 7, 39])
def test_no_file_is_left_of_pieces_of_which_one_is_refused(tmp_path: Path, bad: int) -> None:
    target = ShardTarget(LocalFolder(tmp_path), "parquet", ["id"])
    target.acquire("me")
    pieces = [FrameRows(number, pa.table({"x" if number == bad else "id": [number]})) for number in range(40)]
    with pytest.raises(BatchRefusedError, match="no column is named 'id'"):
        target.stage(pieces, lambda: False)
    assert list(tmp_path.glob(".me.*.tmp")) == []


def test_pieces_are_written_where_no_thread_can_be_started(
    shards: ShardTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    shards.finish(shards.stage(PIECES, lambda: False), keep)
    assert names(tmp_path) == ["100.parquet", "200.parquet"]


def test_the_time_of_other_threads_counts_for_the_block_that_waits_for_them() -> None:
    def spin(_item: int) -> None:
        began_s = time.thread_time()
        while time.thread_time() - began_s < 0.02:
            pass

    with counted_for("spinning"):
        on_all_processors(spin, range(10))
    assert spent_s("spinning") >= 0.2
