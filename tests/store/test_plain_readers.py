"""Shards and composed files are read as a folder by programs that know nothing of api2db."""

import datetime
import json
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from pyarrow.dataset import dataset

from api2db import FileConverter, Store2Local, Stream2Local
from api2db.formats import read
from tests.stream.eventually import eventually

Reader = Callable[[Path], list[Any]]


def by_pandas(folder: Path) -> list[Any]:
    values = pd.read_parquet(folder).sort_values("id")["v"].tolist()
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def by_pyarrow(folder: Path) -> list[Any]:
    rows = dataset(folder, partitioning="hive").to_table().to_pylist()
    return [row["v"] for row in sorted(rows, key=lambda row: row["id"])]


def by_duckdb(folder: Path) -> list[Any]:
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT id, v FROM '{folder}/**/*.parquet' ORDER BY id").fetchall()
    return [value for _, value in rows]


READERS = pytest.mark.parametrize("reader", [by_pandas, by_pyarrow, by_duckdb])


def put(home: Path, values: list[Any], fmt: str = "parquet", start: int = 0) -> None:
    """A shard for each value, as a stream writes them; MISSING for a frame without the column."""
    for number, value in enumerate(values, start):
        with Stream2Local("x", fmt=fmt, home=home) as stream:
            stream.q.put([{"id": number} if value is MISSING else {"id": number, "v": value}])


MISSING: Any = object()

DRIFTS: dict[str, tuple[list[Any], list[Any]]] = {
    "null, then text": ([None, "a", None, MISSING], [None, "a", None, None]),
    "missing, then text": ([MISSING, "a", MISSING, None], [None, "a", None, None]),
    "null, then int": ([None, 5, None], [None, 5, None]),
    "int, then 0.5": ([5, 0.5, 7, None], [5.0, 0.5, 7.0, None]),
    "0.5, then int": ([0.5, 5], [0.5, 5.0]),
    "decimals": (
        [Decimal("1.25"), Decimal("123456.125"), Decimal("2.5")],
        [Decimal("1.25"), Decimal("123456.125"), Decimal("2.5")],
    ),
    "int, then decimal": ([1, Decimal("1.5"), 2], [1, Decimal("1.5"), 2]),
    "date, then datetime": (
        [datetime.date(2026, 1, 1), datetime.datetime.fromisoformat("2026-01-02T03:04:05")],
        [datetime.datetime.fromisoformat("2026-01-01"), datetime.datetime.fromisoformat("2026-01-02T03:04:05")],
    ),
    "int, then longer": ([1, 2**63, -1], [1, 2**63, -1]),
    "dict, then list": ([{"a": 1}, [1], None], [{"a": 1}, [1], None]),
    "dict, then text and numbers": ([{"a": 1}, "b", 5, True, 0.5], [{"a": 1}, "b", 5, True, 0.5]),
}

UNJOINED = ("int, then longer", "dict, then text and numbers")


def meant(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in '{["0123456789t' else value


@READERS
@pytest.mark.parametrize("drift", DRIFTS)
def test_shards_behind_the_drift_are_read_as_a_folder(tmp_path: Path, drift: str, reader: Reader) -> None:
    values, wanted = DRIFTS[drift]
    put(tmp_path, values)
    folder = tmp_path / "STORE" / "x" / "parquet"
    widest = 2 if "longer" in drift else 1
    for path in sorted(folder.glob("*.parquet"))[:widest]:  # those before the drift are narrower
        path.unlink()
    assert [meant(value) for value in reader(folder)] == wanted[widest:]


@READERS
@pytest.mark.parametrize("drift", [drift for drift in DRIFTS if drift not in UNJOINED])
def test_a_composed_file_mends_the_shards_before_the_drift(tmp_path: Path, drift: str, reader: Reader) -> None:
    values, wanted = DRIFTS[drift]
    put(tmp_path, values)
    Store2Local("x", 60, home=tmp_path).store()
    assert [meant(value) for value in reader(tmp_path / "STORE" / "x" / "composed")] == wanted


@READERS
def test_composed_files_and_partitions_of_later_rounds_are_written_in_the_types_of_earlier_ones(
    tmp_path: Path, reader: Reader
) -> None:
    for partition_by in (None, "at"):
        home = tmp_path / str(partition_by)
        store = Store2Local("x", 60, home=home, partition_by=partition_by)
        rounds: list[tuple[int, dict[str, Any]]] = [
            (1, {"v": 0.5}),
            (2, {"v": 7}),
            (3, {}),
            (4, {"v": None}),
            (5, {"v": 9}),
        ]
        for number, row in rounds:
            with Stream2Local("x", home=home) as stream:
                stream.q.put([{"id": number, "at": f"2026-01-0{number}"} | row])
            store.store()
        assert reader(home / "STORE" / "x" / "composed") == [0.5, 7.0, None, None, 9.0]


def test_union_by_name_reads_the_shards_before_the_drift_as_well(tmp_path: Path) -> None:
    put(tmp_path, [None, 5, 0.5, MISSING])
    files = tmp_path / "STORE" / "x" / "parquet" / "*.parquet"
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT id, v FROM read_parquet('{files}', union_by_name = true) ORDER BY id").fetchall()
    assert rows == [(0, None), (1, 5.0), (2, 0.5), (3, None)]


def test_text_beside_objects_is_read_by_name_once_it_is_composed(tmp_path: Path) -> None:
    put(tmp_path, ["x", {"a": 1}])
    shards, composed = (tmp_path / "STORE" / "x" / folder / "*.parquet" for folder in ("parquet", "composed"))
    with duckdb.connect() as connection:
        query = "SELECT v FROM read_parquet('{}', union_by_name = true)".format
        with pytest.raises(duckdb.ConversionException, match="Malformed JSON"):
            connection.sql(query(shards)).fetchall()
        Store2Local("x", 60, home=tmp_path).store()
        assert connection.sql(query(composed)).fetchall() == [('"x"',), ('{"a": 1}',)]


def test_a_shard_gives_back_here_exactly_the_frame_that_was_put(tmp_path: Path) -> None:
    frames: list[Any] = [
        pd.DataFrame({"a": [1.5], "b": ["x"], "c": [{"k": 1}], "d": [Decimal("123.456")]}),
        pd.DataFrame({"n": [None], "c": ["text"], "a": [3], "d": [Decimal("1.50")]}),
        pd.DataFrame({"d": pd.Series([1], dtype="Int64"), "a": [2**53 + 1], "b": [None], "c": ['{"a": 1}']}),
    ]
    with Stream2Local("x", home=tmp_path) as stream:
        for frame in frames:
            stream.q.put(frame)
    shards = sorted((tmp_path / "STORE" / "x" / "parquet").glob("*.parquet"))
    for path, frame in zip(shards, frames, strict=True):
        found = FileConverter.parquet_load(str(path))
        assert found is not None
        pd.testing.assert_frame_equal(found, frame)


def test_a_number_that_the_joined_type_does_not_hold_stays_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, [0.5, 2**53 + 1, 3])
    shards = sorted((tmp_path / "STORE" / "x" / "parquet").glob("*.parquet"))
    assert [pd.read_parquet(path)["v"].tolist() for path in shards] == [[0.5], [2**53 + 1], [3.0]]


def test_the_types_survive_a_restart_and_the_loss_of_all_shards(tmp_path: Path) -> None:
    put(tmp_path, [0.5])
    folder = tmp_path / "STORE" / "x" / "parquet"
    for path in folder.glob("*.parquet"):
        path.unlink()
    put(tmp_path, [7], start=1)
    [shard] = folder.glob("*.parquet")
    assert pd.read_parquet(shard)["v"].dtype == float
    assert str(read(shard, "parquet").schema.field("v").type) == "int64"


def test_a_damaged_file_of_types_is_waited_for_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "STORE" / "x" / "parquet"
    folder.mkdir(parents=True)
    types = tmp_path / "CACHE" / "x_parquet_types_parquet.json"
    types.parent.mkdir()
    types.write_bytes(b"{}")
    with Stream2Local("x", home=tmp_path) as stream:
        stream.q.put([{"v": 1}])
        assert str(types) in eventually(lambda: stream.status().last_error or "")
        types.unlink()
        stream.check_failures()
        assert stream.flush(20)
    assert len(list(folder.glob("*.parquet"))) == 1
