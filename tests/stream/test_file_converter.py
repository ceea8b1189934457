"""FileConverter follows the spec: signatures, return values, and one log line for each failure."""

import inspect
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db.errors import ConfigurationError, InvalidNameError
from api2db.formats import FORMATS
from api2db.stream._dtypes_file import dtypes_path, write_dtypes
from api2db.stream.file_converter import FileConverter
from tests.faults.disks import read_only, small_disk

STORE = "(path: str, df: pandas.DataFrame, force: bool = True) -> bool"
LOAD = "(path: str) -> pandas.DataFrame | None"
SIGNATURES = {
    "__init__": "(self, name: str | None = None, dtypes: dict[str, typing.Any] | None = None, "
    "path: str | None = None, fmt: str | None = None) -> None",
    "build_dtypes": "(self) -> dict[str, typing.Any] | None",
    "static_compose_df_from_dir": "(path: str, fmt: str, move_shards_path: str | None = None, "
    "move_composed_path: str | None = None, force: bool = True) -> pandas.DataFrame | None",
    "static_store_df": "(df: pandas.DataFrame, path: str, fmt: str) -> bool",
    "pickle_store": STORE,
    "json_store": STORE,
    "csv_store": STORE,
    "parquet_store": STORE,
    "store_valid": "(path: str, force: bool) -> bool",
    "static_load_df": "(path: str, fmt: str, dtypes: dict[str, typing.Any] | None = None) -> pandas.DataFrame | None",
    "pickle_load": LOAD,
    "json_load": LOAD,
    "csv_load": LOAD,
    "parquet_load": LOAD,
}
FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", None]})


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "api2db")
    return caplog


def the_only_line(log: pytest.LogCaptureFixture) -> str:
    [record] = log.records
    assert record.levelno == logging.ERROR
    assert record.name.startswith("api2db.")
    return record.getMessage()


def loaded(path: str, fmt: str) -> pd.DataFrame:
    frame = FileConverter.static_load_df(path, fmt)
    assert frame is not None
    return frame


@pytest.mark.parametrize("method", SIGNATURES)
def test_each_signature_is_the_spec_s(method: str) -> None:
    signature = str(inspect.signature(getattr(FileConverter, method)))
    assert signature.replace("pandas.core.frame.", "pandas.") == SIGNATURES[method]


def test_there_are_no_other_public_methods_and_those_that_the_spec_has_static_are() -> None:
    public = {name for name in vars(FileConverter) if not name.startswith("_")}
    assert public == SIGNATURES.keys() - {"__init__"}
    static = {name for name in SIGNATURES if isinstance(inspect.getattr_static(FileConverter, name), staticmethod)}
    assert static == SIGNATURES.keys() - {"__init__", "build_dtypes"}


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_frame_is_stored_and_loaded(tmp_path: Path, fmt: str, log: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "new" / "folder" / f"frame.{fmt}")
    assert getattr(FileConverter, f"{fmt}_store")(path, FRAME) is True
    pd.testing.assert_frame_equal(getattr(FileConverter, f"{fmt}_load")(path), FRAME)
    assert FileConverter.static_store_df(FRAME.head(1), path, fmt) is True
    pd.testing.assert_frame_equal(loaded(path, fmt), FRAME.head(1))
    assert log.records == []


@pytest.mark.parametrize("fmt", FORMATS)
def test_without_force_no_folder_is_made(tmp_path: Path, fmt: str, log: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "new" / f"frame.{fmt}"
    assert getattr(FileConverter, f"{fmt}_store")(str(path), FRAME, force=False) is False
    assert list(tmp_path.iterdir()) == []
    assert str(path) in the_only_line(log)


def test_a_relative_path_without_a_folder_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert FileConverter.csv_store("frame.csv", FRAME) is True
    assert (tmp_path / "frame.csv").exists()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("content", [None, b"", b"\x80\x04]."])
def test_a_file_that_can_not_be_loaded_is_none_and_one_line(
    tmp_path: Path, fmt: str, content: bytes | None, log: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "frame"
    if content is not None:
        path.write_bytes(content)
    assert getattr(FileConverter, f"{fmt}_load")(str(path)) is None
    assert str(path) in the_only_line(log)


def test_an_unknown_format_is_one_line_that_names_the_four(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    assert FileConverter.static_store_df(FRAME, str(tmp_path / "x"), "xlsx") is False
    assert "parquet, json, csv, pickle" in the_only_line(log)


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_is_no_frame_is_false_and_one_line(tmp_path: Path, fmt: str, log: pytest.LogCaptureFixture) -> None:
    assert FileConverter.static_store_df(1, str(tmp_path / "x"), fmt) is False  # type: ignore[arg-type]
    assert str(tmp_path / "x") in the_only_line(log)
    assert list(tmp_path.iterdir()) == []


def test_dtypes_are_cast_after_loading(tmp_path: Path) -> None:
    FileConverter.csv_store(str(tmp_path / "x.csv"), FRAME)
    frame = FileConverter.static_load_df(
        str(tmp_path / "x.csv"), "csv", {"a": "float32", "b": "category", "newer": "Int64"}
    )
    assert frame is not None
    assert frame.dtypes.astype(str).to_dict() == {"a": "float32", "b": "category"}


@pytest.mark.parametrize("dtypes", [{"b": "int64"}, {"a": "no such dtype"}])
def test_dtypes_that_do_not_fit_are_none_and_one_line(
    tmp_path: Path, dtypes: dict[str, str], log: pytest.LogCaptureFixture
) -> None:
    FileConverter.parquet_store(str(tmp_path / "x"), FRAME)
    assert FileConverter.static_load_df(str(tmp_path / "x"), "parquet", dtypes) is None
    assert "does not fit the dtypes" in the_only_line(log)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["1", str(2**70)], "int64"),
        ([2**70, 2**71], "int64"),
        ([1, 2], pd.ArrowDtype(pa.struct([("x", pa.int8())]))),
        (["x", "y"], pd.ArrowDtype(pa.list_(pa.int8()))),
    ],
)
def test_whatever_a_cast_raises_is_none_and_one_line(
    tmp_path: Path, values: list[object], dtype: object, log: pytest.LogCaptureFixture
) -> None:
    FileConverter.pickle_store(str(tmp_path / "x"), pd.DataFrame({"a": pd.Series(values, dtype=object)}))
    assert FileConverter.static_load_df(str(tmp_path / "x"), "pickle", {"a": dtype}) is None
    assert "does not fit the dtypes" in the_only_line(log)


def test_a_value_that_does_not_fit_its_dtype_is_named_without_its_secrets(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    FileConverter.parquet_store(str(tmp_path / "x"), pd.DataFrame({"a": ["https://me:s3cret@api.example"]}))
    assert FileConverter.static_load_df(str(tmp_path / "x"), "parquet", {"a": "int64"}) is None
    assert "api.example" in the_only_line(log)
    assert "s3cret" not in the_only_line(log)


@pytest.mark.parametrize("path", [None, b"x", 1, "a\0b", "\ud800"])
def test_what_is_no_path_is_one_line_each(path: object, log: pytest.LogCaptureFixture) -> None:
    wrong: Any = path
    answers = [
        FileConverter.parquet_load(wrong),
        FileConverter.csv_store(wrong, FRAME),
        FileConverter.store_valid(wrong, force=True),
        FileConverter.static_compose_df_from_dir(wrong, "parquet"),
    ]
    assert answers == [None, False, False, None]
    assert ["is not a path" in record.getMessage() for record in log.records] == [True] * 4


def test_a_line_names_the_path_once(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "x")
    assert FileConverter.parquet_load(path) is None
    assert FileConverter.parquet_store(str(tmp_path), FRAME) is False
    FileConverter.parquet_store(path, FRAME)
    assert FileConverter.static_load_df(path, "parquet", {"a": "no such dtype"}) is None
    assert [record.getMessage().count(str(tmp_path)) for record in log.records] == [1, 1, 1]


def test_a_valid_place_is_one_whose_folder_is_there_or_was_made(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    assert FileConverter.store_valid(str(tmp_path / "x"), force=False) is True
    assert FileConverter.store_valid(str(tmp_path / "a" / "b" / "x"), force=True) is True
    assert log.records == []
    assert FileConverter.store_valid(str(tmp_path / "c" / "x"), force=False) is False
    assert "force=True" in the_only_line(log)


@pytest.mark.parametrize("place", ["", "file/x"])
def test_a_folder_or_what_lies_below_a_file_is_no_place_for_a_file(
    tmp_path: Path, place: str, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert FileConverter.store_valid(str(tmp_path / place), force=True) is False
    assert str(tmp_path) in the_only_line(log)


def test_a_planted_pickle_is_refused_and_never_runs(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    (tmp_path / "x.pickle").write_bytes(pickle.dumps(Payload()))
    assert FileConverter.pickle_load(str(tmp_path / "x.pickle")) is None
    assert "posix.system" in the_only_line(log)
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    for number, (a, b, c) in enumerate([(1, 2, 3), (4, 5, 6), (7, 8, 9)], 1):
        FileConverter.parquet_store(str(folder / f"file{number}.parquet"), pd.DataFrame({"A": [a], "B": [b], "C": [c]}))
    return folder


SPEC_FRAME = pd.DataFrame({"A": [1, 4, 7], "B": [2, 5, 8], "C": [3, 6, 9]})


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("moves", "left"),
    [
        ({}, []),
        ({"move_shards_path": "sharded"}, [f"sharded/file{number}.parquet" for number in (1, 2, 3)]),
        ({"move_composed_path": "composed"}, ["composed/file1_file3.parquet"]),
    ],
)
def test_composing_does_what_the_spec_s_examples_show(
    tmp_path: Path, shards: Path, moves: dict[str, str], left: list[str], log: pytest.LogCaptureFixture
) -> None:
    options = {option: str(tmp_path / folder) for option, folder in moves.items()}
    frame = FileConverter.static_compose_df_from_dir(path=f"{shards}/", fmt="parquet", **options)  # type: ignore[arg-type]
    assert frame is not None
    pd.testing.assert_frame_equal(frame, SPEC_FRAME)
    assert files(tmp_path) == left
    assert log.records == []


@pytest.mark.parametrize("moved", ["composed", "composed/moved"])
def test_shards_are_not_moved_to_where_their_rows_would_be_read_twice(
    tmp_path: Path, shards: Path, moved: str, log: pytest.LogCaptureFixture
) -> None:
    before = files(tmp_path)
    composed = FileConverter.static_compose_df_from_dir(
        str(shards), "parquet", move_shards_path=str(tmp_path / moved), move_composed_path=str(tmp_path / "composed")
    )
    assert composed is None
    assert files(tmp_path) == before
    assert "would see each row again" in the_only_line(log)


def test_an_unreadable_shard_is_one_line_and_the_others_are_composed(
    shards: Path, log: pytest.LogCaptureFixture
) -> None:
    (shards / "file2.parquet").write_bytes(b"torn")
    frame = FileConverter.static_compose_df_from_dir(str(shards), "parquet")
    assert frame is not None
    assert frame["A"].tolist() == [1, 7]
    assert files(shards) == ["file2.parquet"]
    assert "file2.parquet" in the_only_line(log)


def test_composing_a_folder_that_is_not_there_is_none_and_one_line(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    assert FileConverter.static_compose_df_from_dir(str(tmp_path / "none"), "parquet") is None
    assert str(tmp_path / "none") in the_only_line(log)


def test_composing_without_force_into_a_missing_folder_changes_nothing(
    tmp_path: Path, shards: Path, log: pytest.LogCaptureFixture
) -> None:
    target = str(tmp_path / "missing")
    assert FileConverter.static_compose_df_from_dir(str(shards), "parquet", None, target, force=False) is None
    assert len(files(shards)) == 3
    assert target in the_only_line(log)


def test_a_moved_shard_whose_name_is_taken_is_none_and_one_line_at_each_call(
    tmp_path: Path, shards: Path, log: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "file2.parquet").touch()
    for _ in range(2):
        assert FileConverter.static_compose_df_from_dir(str(shards), "parquet", str(tmp_path / "moved")) is None
        assert "file2.parquet" in the_only_line(log)
        log.clear()
    assert len(files(shards)) == 3


def test_composing_what_can_not_be_deleted_is_none_and_one_line_at_each_call(
    tmp_path: Path, shards: Path, log: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "small", "1m") as small:
        shutil.copy(shards / "file1.parquet", small)
        with read_only(small):
            for _ in range(2):
                assert FileConverter.static_compose_df_from_dir(str(small), "parquet") is None
                assert str(small) in the_only_line(log)
                log.clear()
        assert FileConverter.static_compose_df_from_dir(str(small), "parquet") is not None


def test_composing_nothing_is_none_and_no_failure(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    assert FileConverter.static_compose_df_from_dir(str(tmp_path), "parquet") is None
    assert log.records == []


def test_a_constructor_keeps_its_arguments_and_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    converter = FileConverter("flights", path="somewhere", fmt="csv")
    assert (converter.name, converter.dtypes, converter.path, converter.fmt) == ("flights", None, "somewhere", "csv")
    assert FileConverter().dtypes is None
    assert list(tmp_path.iterdir()) == []


def test_a_constructor_builds_the_dtypes_that_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    write_dtypes(tmp_path, "flights", {"a": "Int64"})
    assert FileConverter("flights").dtypes == {"a": "Int64"}
    assert FileConverter("flights", dtypes={"a": "int8"}).dtypes == {"a": "int8"}
    assert FileConverter("weather").dtypes is None


def test_a_constructor_names_a_damaged_file_of_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API2DB_HOME", raising=False)
    write_dtypes(tmp_path, "flights", {})
    dtypes_path(tmp_path, "flights").write_bytes(b"{")
    with pytest.raises(ConfigurationError, match=r"flights_dtypes\.json"):
        FileConverter("flights")


def test_a_constructor_refuses_a_format_or_a_name_that_can_not_be() -> None:
    with pytest.raises(ConfigurationError, match="parquet, json, csv, pickle"):
        FileConverter(fmt="xlsx")
    with pytest.raises(InvalidNameError):
        FileConverter("../x")
