"""Dtypes are kept on disk and outlive the process."""

import stat
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Store2Sql, Stream2Local
from api2db.errors import ConfigurationError, InvalidNameError
from api2db.stream._dtypes_file import dtypes_path, merge_dtypes_file, read_dtypes, write_dtypes


def test_dtypes_come_back_and_are_private(tmp_path: Path) -> None:
    dtypes = {"a": "Int64", "ü": "datetime64[ns, UTC]", "c": "category"}
    write_dtypes(tmp_path, "flights", dtypes)
    assert read_dtypes(tmp_path, "flights") == dtypes
    assert (
        pd.DataFrame({"a": [1], "ü": ["2020-01-01"], "c": ["x"]}).astype(dtypes).dtypes.astype(str).to_dict() == dtypes
    )
    assert stat.S_IMODE(dtypes_path(tmp_path, "flights").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "CACHE").stat().st_mode) == 0o700


def test_where_none_are_kept_there_are_none_and_nothing_is_made(tmp_path: Path) -> None:
    assert read_dtypes(tmp_path, "flights") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"[]", b'{"a": 1}', b'{"a": "no such dtype"}', b"[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    write_dtypes(tmp_path, "flights", {})
    dtypes_path(tmp_path, "flights").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"flights_dtypes\.json holds no dtypes"):
        read_dtypes(tmp_path, "flights")


def test_a_name_can_not_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidNameError):
        write_dtypes(tmp_path, "../x", {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_file_s_place_is_named(tmp_path: Path) -> None:
    dtypes_path(tmp_path, "flights").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"flights_dtypes\.json can't be read.*move away"):
        read_dtypes(tmp_path, "flights")


def test_what_another_stream_has_kept_stays(tmp_path: Path) -> None:
    assert merge_dtypes_file(tmp_path, "flights", {"a": "int64"}) == {"a": "int64"}
    both = {"a": "Int64", "b": "float64"}
    assert merge_dtypes_file(tmp_path, "flights", {"b": "float64"}) == both == read_dtypes(tmp_path, "flights")


WRONG: list[Any] = ["str", [("a", "str")], {"a": None}, {"a": "no dtype"}, 7]


@pytest.mark.parametrize("dtypes", WRONG, ids=repr)
def test_dtypes_are_a_dict_of_column_and_dtype(tmp_path: Path, dtypes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"such as dtypes=\{'price': 'float64'\}|DataFrame.astype accepts"):
        Stream2Local("flights", dtypes=dtypes, home=tmp_path)
    with pytest.raises(ConfigurationError, match=r"such as dtypes=\{'price': 'float64'\}|DataFrame.astype accepts"):
        Store2Sql("flights", 60, dtypes=dtypes, db_name="x.sqlite", dialect="sqlite", home=tmp_path)
