"""Uses of a frame of every kind after it is loaded: queries into JSON, and reading files with FileConverter.

That each kind is held exactly is tested in tests/conformance.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import FileConverter, Stream2Local, Stream2Sql
from tests.stream.cases import DATABASES, DIALECTS, query, shards
from tests.stream.kinds import every_kind


@pytest.mark.parametrize("dialect", DIALECTS)
def test_json_cells_are_asked_into_by_the_database_itself(dialect: str, tmp_path: Path) -> None:
    with Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(every_kind())
    [(found,)] = query(tmp_path, dialect, "SELECT dict -> '$.a' FROM flights WHERE id = 0")
    assert json.loads(found) == [1, 2.5, None]


@pytest.mark.parametrize("fmt", ["parquet", "json", "pickle"])
def test_shards_give_every_kind_back_as_it_was(fmt: str, tmp_path: Path) -> None:
    with Stream2Local("flights", fmt=fmt, home=tmp_path) as stream:
        stream.q.put(every_kind())
    [shard] = shards(tmp_path, fmt)
    found = FileConverter.static_load_df(str(shard), fmt)
    assert found is not None
    wanted = every_kind()
    assert list(found.columns) == list(wanted.columns)
    for name in wanted:
        assert _plain(found[name]) == _plain(wanted[name]), name
        if name not in {"text", "nul", "digits"}:  # text of dtype object comes back in pandas' own dtype
            if name == "category":
                assert found[name].dtype.name == "category"
            else:
                assert found[name].dtype == wanted[name].dtype, name


def test_csv_holds_every_value_and_its_folder_tells_the_kind(tmp_path: Path) -> None:
    with Stream2Local("flights", fmt="csv", home=tmp_path) as stream:
        stream.q.put(every_kind())
    [shard] = shards(tmp_path, "csv")
    found = FileConverter.static_load_df(str(shard), "csv")
    assert found is not None
    plain = {name: _plain(found[name]) for name in found}
    for name in ("id", "flag", "int_with_null", "small", "float", "infinite", "text", "nul", "digits", "date", "naive"):
        assert plain[name] == _plain(every_kind()[name]), name
    for name in ("unsigned", "decimal", "time", "bytes", "zoned", "delta"):  # in the types that the folder keeps
        assert plain[name] == _plain(every_kind()[name]), name
    assert plain["dict"] == [{"a": [1, 2.5, None], "é": {"b": True}}, {}, None]
    assert str(found["zoned"].dtype) == str(every_kind()["zoned"].dtype)


def _plain(column: "pd.Series[Any]") -> list[Any]:
    return [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in column.tolist()]
