"""Composing joins each row once, whatever happens in between."""

import datetime
import errno
import json
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from api2db.disk.atomic import sync_folder, temporary_name
from api2db.errors import ConfigurationError, DataError, FolderBusyError, FormatError
from api2db.formats import FORMATS, read_frame, write_frame
from api2db.frames import _to_pandas as dataframes
from api2db.frames import to_pandas
from api2db.shards import composed as composed_files
from api2db.shards import moving as putting_away
from api2db.shards.compose import as_frame, compose
from api2db.shards.manifest import MANIFEST_NAME
from api2db.shards.shards import join_shards, locked, owner_of, shards_of
from tests.faults.disks import fill, small_disk
from tests.shards.killing import finishes_unless_killed_at, interrupted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    return folder


def put_shards(folder: Path, numbers: Iterable[int], fmt: str = "parquet") -> None:
    for number in numbers:
        write_frame(pd.DataFrame({"n": [number], "t": [f"row {number}"]}), folder / f"{number:03}.{fmt}", fmt)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".api2db_types_"))


def rows_in(*folders: Path) -> list[int]:
    """Numbers of all rows in the visible files of some folders."""
    found: list[int] = []
    for folder in folders:
        for path in folder.glob("[!.]*.parquet"):
            found += read_frame(path, "parquet")["n"].tolist()
    return sorted(found)


def composed(folder: Path, *, shards_to: Path | None = None, composed_to: Path | None = None) -> list[int]:
    composition = compose(folder, "parquet", as_frame, shards_to=shards_to, composed_to=composed_to)
    assert not composition.problems
    return [] if composition.result is None else composition.result["n"].tolist()


@pytest.mark.parametrize("fmt", FORMATS)
def test_shards_are_joined_in_the_order_of_their_names_and_deleted(folder: Path, fmt: str) -> None:
    put_shards(folder, [3, 1, 2], fmt)
    composition = compose(folder, fmt, as_frame)
    assert composition.result is not None
    assert composition.result["n"].tolist() == [1, 2, 3]
    assert composition.result["t"].tolist() == ["row 1", "row 2", "row 3"]
    assert names(folder) == []


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_composed_file_is_named_by_the_first_and_the_last_shard(folder: Path, tmp_path: Path, fmt: str) -> None:
    put_shards(folder, [1, 2, 3], fmt)
    compose(folder, fmt, as_frame, composed_to=tmp_path / "composed")
    assert names(tmp_path / "composed") == [f"001_003.{fmt}"]
    assert read_frame(tmp_path / "composed" / f"001_003.{fmt}", fmt)["n"].tolist() == [1, 2, 3]
    assert names(folder) == []


def test_shards_are_moved_where_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    put_shards(folder, [1, 2])
    assert composed(folder, shards_to=tmp_path / "moved") == [1, 2]
    assert names(folder) == []
    assert names(tmp_path / "moved") == ["001.parquet", "002.parquet"]


def test_an_empty_folder_composes_to_nothing(folder: Path, tmp_path: Path) -> None:
    assert compose(folder, "parquet", as_frame, composed_to=tmp_path / "composed").result is None
    assert names(tmp_path / "composed") == []


def test_temporary_hidden_and_foreign_files_are_passed_over(folder: Path) -> None:
    put_shards(folder, [1])
    others = [temporary_name(folder / "x.parquet"), folder / ".hidden.parquet", folder / "notes.txt"]
    for path in others:
        path.write_bytes(b"x")
    (folder / "folder.parquet").mkdir()
    assert composed(folder) == [1]
    assert names(folder) == sorted([*(path.name for path in others), "folder.parquet"])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 1000])
def test_a_shard_that_can_not_be_read_stays_and_is_named_and_the_others_are_composed(
    folder: Path, content: bytes
) -> None:
    put_shards(folder, [1, 2, 3])
    (folder / "002.parquet").write_bytes(content)
    composition = compose(folder, "parquet", as_frame)
    assert composition.result is not None
    assert composition.result["n"].tolist() == [1, 3]
    assert names(folder) == ["002.parquet"]
    [problem] = composition.problems
    assert isinstance(problem, FormatError)
    assert "002.parquet" in str(problem)


def test_shards_with_other_columns_and_types_are_unified(folder: Path) -> None:
    write_frame(pd.DataFrame({"a": pd.Series([1], dtype="int8")}), folder / "1.parquet", "parquet")
    write_frame(pd.DataFrame({"b": ["x"], "a": [1 << 40]}), folder / "2.parquet", "parquet")
    frame = compose(folder, "parquet", as_frame).result
    assert frame is not None
    assert frame["a"].tolist() == [1, 1 << 40]
    assert frame["b"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("fmt", "kept"),
    [
        ("parquet", [1, "x", None, {"b": [2]}, "2026-01-31"]),
        ("json", [1, "x", None, {"b": [2]}, "2026-01-31"]),
        ("pickle", [1, "x", None, {"b": [2]}, "2026-01-31"]),
        ("csv", ["1", "x", None, '{"b": [2]}', "2026-01-31"]),
    ],
)
def test_a_column_without_a_common_type_is_mixed_and_exact_also_when_it_is_composed_again(
    folder: Path, tmp_path: Path, fmt: str, kept: list[Any]
) -> None:
    for number, value in enumerate([1, "x", None, {"b": [2]}, datetime.date(2026, 1, 31)]):
        write_frame(pd.DataFrame({"n": number, "a": pd.Series([value])}), folder / f"{number}.{fmt}", fmt)
    compose(folder, fmt, as_frame, composed_to=tmp_path / "once")
    write_frame(pd.DataFrame({"n": [5], "a": [2**53 + 1]}), tmp_path / "once" / f"5.{fmt}", fmt)
    frame = compose(tmp_path / "once", fmt, as_frame, composed_to=tmp_path / "twice").result
    assert frame is not None
    assert frame["n"].tolist() == list(range(6))
    found = [None if not isinstance(value, (dict, list)) and pd.isna(value) else value for value in frame["a"]]
    assert found == [*kept, str(2**53 + 1) if fmt == "csv" else 2**53 + 1]


def test_whole_floats_of_a_csv_shard_join_the_fractions_of_another(folder: Path) -> None:
    for number, value in enumerate([1.0, 2.5]):
        write_frame(pd.DataFrame({"a": [value]}), folder / f"{number}.csv", "csv")
    frame = compose(folder, "csv", as_frame).result
    assert frame is not None
    assert frame["a"].tolist() == [1.0, 2.5]


def test_a_composed_file_of_that_name_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    put_shards(folder, [1, 2])
    (tmp_path / "001_002.parquet").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        compose(folder, "parquet", as_frame, composed_to=tmp_path)
    assert (tmp_path / "001_002.parquet").read_bytes() == b"precious"
    assert names(folder) == ["001.parquet", "002.parquet"]


def test_a_moved_shard_never_overwrites_another(folder: Path, tmp_path: Path) -> None:
    put_shards(folder, [1])
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "001.parquet").write_bytes(b"precious")
    for composed_to in (None, tmp_path / "composed"):
        with pytest.raises(FileExistsError, match="move that file away"):
            compose(folder, "parquet", as_frame, shards_to=moved, composed_to=composed_to)
    assert (moved / "001.parquet").read_bytes() == b"precious"
    assert rows_in(folder) == [1]


def test_where_the_manifest_does_not_fit_no_temporary_file_is_left(tmp_path: Path) -> None:
    target = tmp_path / "composed"
    with small_disk(tmp_path / "small", "64k") as small:
        put_shards(small, [1, 2])
        fill(small / "ballast")
        with pytest.raises(OSError, match=rf"No space left.*small/\{MANIFEST_NAME}"):
            compose(small, "parquet", as_frame, composed_to=target)
        assert leftovers(small, target) == []
        (small / "ballast").unlink()
        assert composed(small, composed_to=target) == [1, 2]


def test_temporary_files_of_another_folder_s_composer_stay(folder: Path, tmp_path: Path) -> None:
    other, target = tmp_path / "other", tmp_path / "composed"
    for place in (other, target):
        place.mkdir()
    ours, theirs = (temporary_name(target / owner_of(place)) for place in (folder, other))
    ours.touch()
    theirs.touch()
    composed(folder, composed_to=target)
    assert names(target) == [theirs.name]


def test_missing_folders_are_an_error_where_they_may_not_be_made(folder: Path, tmp_path: Path) -> None:
    put_shards(folder, [1])
    with pytest.raises(FileNotFoundError):
        compose(folder, "parquet", as_frame, composed_to=tmp_path / "none", make_missing=False)
    assert names(folder) == ["001.parquet"]


def test_a_move_to_another_file_system_copies_and_then_unlinks(folder: Path, other_file_system: Path) -> None:
    put_shards(folder, [1, 2])
    times = [(folder / name).stat().st_mtime_ns for name in names(folder)]
    assert composed(folder, shards_to=other_file_system) == [1, 2]
    assert rows_in(other_file_system) == [1, 2]
    assert [(other_file_system / name).stat().st_mtime_ns for name in names(other_file_system)] == times
    assert names(folder) == []


def compose_into(folder: Path, shards_to: Path | None, composed_to: Path | None) -> None:
    compose(folder, "parquet", as_frame, shards_to=shards_to, composed_to=composed_to)


@pytest.fixture(params=["deleting", "moving", "moving far"])
def shards_to(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    if request.param == "moving far":
        place: Path = request.getfixturevalue("other_file_system")
        return place
    return tmp_path / "moved" if request.param == "moving" else None


def test_a_kill_at_any_step_loses_no_row_and_the_next_call_doubles_none(tmp_path: Path, shards_to: Path | None) -> None:
    steps = 0
    for step in count():
        home = tmp_path / str(step)
        folder, target, moved = home / "shards", home / "composed", shards_to and shards_to / str(step)
        for made in (folder, target, *([moved] if moved else [])):
            made.mkdir(parents=True)
        put_shards(folder, [1, 2])
        finished = finishes_unless_killed_at(step, compose_into, folder, moved, target)
        assert set(rows_in(folder, target)) == {1, 2}
        assert moved is None or len(rows_in(folder, moved)) == len(set(rows_in(folder, moved)))
        put_shards(folder, [3])
        composed(folder, shards_to=moved, composed_to=target)
        assert rows_in(target) == [1, 2, 3]
        assert moved is None or rows_in(moved) == [1, 2, 3]
        assert leftovers(folder, target, *([moved] if moved else [])) == []
        if finished:
            break
        steps += 1
    assert steps >= 10


def leftovers(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob(".*") if not path.name.startswith(".api2db_types_")]


def test_a_move_that_is_killed_at_any_step_leaves_each_shard_in_one_folder(
    tmp_path: Path, other_file_system: Path
) -> None:
    for step in count():
        folder, moved = tmp_path / str(step), other_file_system / str(step)
        folder.mkdir()
        moved.mkdir()
        put_shards(folder, [1, 2])
        finished = finishes_unless_killed_at(step, compose_into, folder, moved, None)
        assert len(rows_in(folder, moved)) == len(set(rows_in(folder, moved)))
        composed(folder, shards_to=moved)
        assert rows_in(moved) == [1, 2]
        assert leftovers(folder, moved) == []
        if finished:
            break
    assert step >= 8


@pytest.fixture
def published(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A composed file of two shards whose composer died before its name was durable."""
    put_shards(folder, [1, 2])
    with interrupted(monkeypatch, composed_files, "sync_folder", after=1):
        compose_into(folder, None, tmp_path / "composed")
    assert names(tmp_path / "composed") == ["001_002.parquet"]
    return tmp_path / "composed"


def test_without_the_manifest_a_kill_would_double_rows(folder: Path, published: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    put_shards(folder, [3])
    composed(folder, composed_to=published)
    assert rows_in(published) == [1, 1, 2, 2, 3]


def test_shards_whose_composed_file_is_gone_are_left_to_a_person(folder: Path, published: Path) -> None:
    (published / "001_002.parquet").unlink()
    with pytest.raises(DataError, match="restore it"):
        compose(folder, "parquet", as_frame, composed_to=published)
    assert rows_in(folder) == [1, 2]


def test_the_composed_file_s_name_is_durable_before_a_shard_goes_also_after_a_kill(
    folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def recorded(call: Callable[..., object]) -> Callable[..., None]:
        def record(path: Path, **options: object) -> None:
            calls.append(path.name)
            call(path, **options)

        return record

    monkeypatch.setattr(composed_files, "sync_folder", recorded(sync_folder))
    monkeypatch.setattr(Path, "unlink", recorded(Path.unlink))
    compose(folder, "parquet", as_frame, composed_to=published)
    assert "001.parquet" in calls
    assert calls.index("composed") < calls.index("001.parquet")


def test_a_new_shard_under_the_name_of_one_that_is_composed_is_composed_too(folder: Path, published: Path) -> None:
    put_shards(folder, [3])
    (folder / "003.parquet").replace(folder / "001.parquet")
    composition = compose(folder, "parquet", as_frame, composed_to=published)
    assert composition.finished == published / "001_002.parquet"
    assert rows_in(published) == [1, 2, 3]
    assert names(folder) == []


def test_rows_are_handed_over_also_where_it_is_not_known_whether_their_shards_are_gone_for_good(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "broken disk", str(path))

    put_shards(folder, [1, 2])
    monkeypatch.setattr(putting_away, "sync_folder", fail)
    composition = compose(folder, "parquet", as_frame)
    assert composition.result is not None
    assert composition.result["n"].tolist() == [1, 2]
    assert ["broken disk" in str(problem) for problem in composition.problems] == [True]


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"version": 4}', json.dumps({"version": 4, "files": [["/x/.a.0123456789abcdef.tmp"]]}).encode()],
)
def test_a_damaged_manifest_stops_before_anything_is_touched(folder: Path, content: bytes) -> None:
    put_shards(folder, [1])
    (folder / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(ConfigurationError, match=MANIFEST_NAME):
        compose(folder, "parquet", as_frame)
    assert rows_in(folder) == [1]


@pytest.mark.parametrize("name", [".api2db_compose.json", ".api2db_store.json", MANIFEST_NAME])
def test_a_manifest_of_another_version_stops_before_anything_is_touched(folder: Path, name: str) -> None:
    put_shards(folder, [1])
    (folder / name).write_text('{"version": 3}')
    with pytest.raises(ConfigurationError, match=f"{name} was left by another version of api2db.*run that version"):
        compose(folder, "parquet", as_frame)
    assert rows_in(folder) == [1]


def test_a_forged_manifest_deletes_nothing_elsewhere(folder: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x")
    forged = {
        "version": 4,
        "files": [[str(precious), str(precious), 1, 1]],
        "shards": [["../precious", 1, 1]],
        "shards_to": None,
        "published": False,
        "store": None,
    }
    (folder / MANIFEST_NAME).write_bytes(json.dumps(forged).encode())
    with pytest.raises(ConfigurationError):
        compose(folder, "parquet", as_frame)
    assert precious.exists()


def test_two_thousand_small_shards_are_composed_in_one_go(folder: Path) -> None:
    write_frame(pd.DataFrame({"n": range(5)}), folder / "0000.parquet", "parquet")
    content = (folder / "0000.parquet").read_bytes()
    for number in range(1, 2_000):
        (folder / f"{number:04}.parquet").write_bytes(content)
    assert len(composed(folder)) == 10_000


def test_the_composed_file_is_one_that_others_read(folder: Path, tmp_path: Path) -> None:
    put_shards(folder, range(20))
    composed(folder, composed_to=tmp_path)
    assert pq.read_table(tmp_path / "000_019.parquet").column("n").to_pylist() == list(range(20))


def test_whole_numbers_of_one_shard_join_the_fractions_of_the_next(folder: Path) -> None:
    for number, values in enumerate([[1, 2], [2.5, 3.0]]):
        write_frame(pd.DataFrame({"a": values}), folder / f"{number}.parquet", "parquet")
    frame = compose(folder, "parquet", as_frame).result
    assert frame is not None
    assert frame["a"].tolist() == [1.0, 2.0, 2.5, 3.0]


def test_whole_numbers_that_no_float_holds_keep_all_their_digits_beside_fractions(folder: Path) -> None:
    for number, value in enumerate([2**53 + 1, 0.5]):
        write_frame(pd.DataFrame({"a": [value]}), folder / f"{number}.parquet", "parquet")
    frame = compose(folder, "parquet", as_frame).result
    assert frame is not None
    assert frame["a"].tolist() == [2**53 + 1, 0.5]


@pytest.mark.parametrize("folder_of_shards", ["shards", "shards/../shards"])
def test_shards_are_never_moved_onto_themselves(folder: Path, tmp_path: Path, folder_of_shards: str) -> None:
    put_shards(folder, [1])
    with pytest.raises(ConfigurationError, match="another folder"):
        compose(folder, "parquet", as_frame, shards_to=tmp_path / folder_of_shards)
    assert rows_in(folder) == [1]


def test_two_never_compose_one_folder_at_a_time(folder: Path) -> None:
    put_shards(folder, [1])
    with locked(folder), pytest.raises(FolderBusyError, match="try again later"):
        compose(folder, "parquet", as_frame)
    assert composed(folder) == [1]


def test_where_the_rows_can_not_be_handed_over_no_shard_goes(folder: Path, tmp_path: Path) -> None:
    put_shards(folder, [1, 2])
    for composed_to in (None, tmp_path / "composed"):
        with pytest.raises(MemoryError):
            compose(folder, "parquet", out_of_memory, composed_to=composed_to)
        assert names(folder) == ["001.parquet", "002.parquet"]
    assert names(tmp_path / "composed") == []


def out_of_memory(_: object) -> None:
    raise MemoryError


def test_a_large_composition_is_the_frame_that_a_small_one_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        frame = pd.DataFrame(
            {
                "n": [number, None],
                "j": [{"a": number}, None],
                "t": pd.Categorical(["x", "y"]),
                "at": pd.Series([pd.Timestamp("2026-01-01", tz="Europe/Paris"), pd.NaT]),
                "i": pd.Series([1, None], dtype="Int64"),
            }
        )
        write_frame(frame, folder / f"{number}.parquet", "parquet")
    shards = join_shards(shards_of(folder, "parquet"), "parquet")
    small = to_pandas(shards.table)
    monkeypatch.setattr(dataframes, "_WORTH_FREEING_BYTES", 0)
    large = as_frame(shards)
    pd.testing.assert_frame_equal(large, small)
    assert shards.batches == []
