"""Store2Local makes few files of many, each row in one of them, whole or not at all."""

import datetime
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from pyarrow.dataset import dataset

from api2db import Store2Local, Stream2Local
from api2db.errors import ConfigurationError, DataError
from api2db.formats import FORMATS, read_frame, write_frame
from api2db.shards.manifest import MANIFEST_NAME
from tests.store.homes import cut_short, left, put_shards, shards


def store(home: Path, **options: Any) -> Store2Local:
    return Store2Local("flights", 60, home=home, **options)


def composed(home: Path) -> Path:
    return home / "STORE" / "flights" / "composed"


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(composed(home))) for path in composed(home).rglob("*") if path.is_file())


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_round_makes_one_file_of_all_shards(tmp_path: Path, fmt: str) -> None:
    for numbers in ([1, 2, 3], [4, 5]):
        put_shards(tmp_path, numbers, fmt)
        store(tmp_path, fmt=fmt).store()
    assert files(tmp_path) == [f"001_003.{fmt}", f"004_005.{fmt}"]
    assert read_frame(composed(tmp_path) / f"004_005.{fmt}", fmt)["n"].tolist() == [4, 4, 5, 5]
    assert left(tmp_path, fmt) == []


def test_rows_that_repeat_are_dropped_and_counted(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2])
    frame = read_frame(shards(tmp_path) / "001.parquet", "parquet")
    write_frame(frame, shards(tmp_path) / "003.parquet", "parquet")
    found = store(tmp_path)
    found.store()
    assert read_frame(composed(tmp_path) / "001_003.parquet", "parquet")["n"].tolist() == [1, 1, 2, 2]
    assert (found.status().rows_delivered, found.status().duplicates_dropped) == (4, 2)


@pytest.mark.parametrize(
    "dates",
    [
        pd.Series(["2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z"]),
        pd.Series(pd.to_datetime(["2026-01-31 23:59:59", "2026-02-01 00:00:00"])),
        pd.Series(pd.to_datetime(["2026-01-31 23:59:59", "2026-02-01 00:00:00"]).tz_localize("Europe/Paris")),
        pd.Series(pd.to_datetime(["2026-01-31", "2026-02-01"]).date),
        pd.Series(["2026-01-31", "2026-02-01"], dtype="category"),
    ],
    ids=["text", "times", "zoned", "dates", "categories"],
)
def test_rows_are_parted_by_their_date(tmp_path: Path, dates: "pd.Series[Any]") -> None:
    put_shards(tmp_path, [1, 2], at=dates)
    store(tmp_path, partition_by="at").store()
    assert files(tmp_path) == ["at_date=2026-01-31/001_002.parquet", "at_date=2026-02-01/001_002.parquet"]
    first = read_frame(composed(tmp_path) / "at_date=2026-01-31/001_002.parquet", "parquet")
    assert first["row"].tolist() == [0, 0]


def test_rows_without_a_date_have_a_folder_of_their_own(tmp_path: Path) -> None:
    put_shards(tmp_path, [1], at=["2026-01-31", None])
    store(tmp_path, partition_by="at").store()
    assert files(tmp_path) == [
        "at_date=2026-01-31/001_001.parquet",
        "at_date=none/001_001.parquet",
    ]


@pytest.mark.parametrize("fmt", FORMATS)
def test_rows_whose_value_is_no_date_hold_up_no_others(
    tmp_path: Path, fmt: str, caplog: pytest.LogCaptureFixture
) -> None:
    put_shards(tmp_path, [1], fmt, at=["2026-01-31T23:00:00Z", "soon"])
    put_shards(tmp_path, [2], fmt, at=[1_769_814_000, 1_769_814_001])
    put_shards(tmp_path, [3], fmt, at=[datetime.date(2026, 1, 31), None])
    store(tmp_path, partition_by="at", fmt=fmt).store()
    assert files(tmp_path) == [f"at_date=2026-01-31/001_003.{fmt}", f"at_date=none/001_003.{fmt}"]
    odd = read_frame(composed(tmp_path) / f"at_date=none/001_003.{fmt}", fmt)
    assert [(n, row) for n, row in zip(odd["n"], odd["row"], strict=True)] == [(1, 1), (2, 0), (2, 1), (3, 1)]
    assert "3 rows are in at_date=none: their 'at' does not begin with a date" in caplog.text
    assert left(tmp_path, fmt) == []


def by_pandas(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder)


def by_pyarrow(folder: Path) -> pd.DataFrame:
    frame: pd.DataFrame = dataset(folder, partitioning="hive").to_table().to_pandas()
    return frame


def by_duckdb(folder: Path) -> pd.DataFrame:
    with duckdb.connect() as connection:
        frame: pd.DataFrame = connection.sql(f"FROM '{folder}/**/*.parquet'").to_arrow_table().to_pandas()
    return frame


@pytest.mark.parametrize("reader", [by_pandas, by_pyarrow, by_duckdb])
@pytest.mark.parametrize(
    "times",
    [
        ["2026-01-31T23:59:59.5Z", "2026-02-01T00:00:00Z", None],
        pd.to_datetime(["2026-01-31 23:59:59.5", "2026-02-01 00:00:00.0", "NaT"]),
        pd.to_datetime(["2026-01-31 23:59:59.5", "2026-02-01 00:00:00.0", "NaT"]).tz_localize("UTC"),
        pd.to_datetime(["2026-01-31", "2026-02-01", "NaT"]).date,
    ],
    ids=["text", "times", "zoned", "dates"],
)
def test_the_folders_read_back_as_the_rows_that_were_put(
    tmp_path: Path, times: Any, reader: Callable[[Path], pd.DataFrame]
) -> None:
    frame = pd.DataFrame({"row": [0, 1, 2], "at": times})
    shards(tmp_path).mkdir(parents=True)
    write_frame(frame, shards(tmp_path) / "001.parquet", "parquet")
    store(tmp_path, partition_by="at").store()
    found = reader(composed(tmp_path)).sort_values("row", ignore_index=True)
    assert [str(date)[:10] for date in found["at_date"]] == ["2026-01-31", "2026-02-01", "none"]
    assert found["row"].tolist() == [0, 1, 2]
    assert plain(found["at"]) == plain(frame["at"])


def plain(column: "pd.Series[Any]") -> list[Any]:
    """What a column says, whatever its reader's type for that is."""
    values = [None if pd.isna(value) else value for value in column]
    return [value if value is None or isinstance(value, str) else pd.Timestamp(value) for value in values]


def test_a_column_that_readers_would_not_see_beside_the_folders_stops_the_round(tmp_path: Path) -> None:
    put_shards(tmp_path, [1], at=["2026-01-31", "2026-02-01"], at_date=["x", "y"])
    with pytest.raises(DataError, match="a column 'at_date' of their own"):
        store(tmp_path, partition_by="at").store()
    assert left(tmp_path) == ["001.parquet"]


@pytest.mark.parametrize("column", ["", ".at", "a/t", "a\0t", "a=t", "a%20t"])
def test_a_column_that_can_not_name_a_folder_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(ConfigurationError, match="folder"):
        store(tmp_path, partition_by=column)


@pytest.mark.parametrize(
    ("columns", "said"), [({}, "no column 'at'"), ({"at": [1, 2]}, "no dates"), ({"at": ["x", "y"]}, "no dates")]
)
def test_shards_that_can_not_be_parted_stay(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    put_shards(tmp_path, [1], **columns)
    with pytest.raises(DataError, match=said):
        store(tmp_path, partition_by="at").store()
    assert left(tmp_path) == ["001.parquet"]
    assert files(tmp_path) == []


@pytest.mark.parametrize("moved", ["STORE/flights/composed", "STORE/flights/composed/moved"])
def test_shards_are_not_moved_to_where_the_readers_of_composed_files_see_them(tmp_path: Path, moved: str) -> None:
    put_shards(tmp_path, [1])
    with pytest.raises(ConfigurationError, match=r"a folder outside \(move_shards_path\)"):
        store(tmp_path, move_shards_path=moved).store()
    assert left(tmp_path) == ["001.parquet"]


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    put_shards(tmp_path, [1, 2], at=["2026-01-01", "2026-01-02"])
    place = composed(tmp_path) / "at_date=2026-01-02"
    place.mkdir(parents=True)
    (place / "001_002.parquet").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        store(tmp_path, partition_by="at").store()
    assert files(tmp_path) == ["at_date=2026-01-02/001_002.parquet"]
    assert left(tmp_path) == ["001.parquet", "002.parquet"]


def test_two_stores_that_compose_into_one_folder_leave_each_other_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fmt in ("parquet", "csv"):
        put_shards(tmp_path, [1, 2], fmt)
    cut_short(monkeypatch, "publish_composed", store(tmp_path))
    store(tmp_path, fmt="csv").store()
    store(tmp_path).store()
    assert files(tmp_path) == ["001_002.csv", "001_002.parquet"]
    for fmt in ("parquet", "csv"):
        assert read_frame(composed(tmp_path) / f"001_002.{fmt}", fmt)["n"].tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("instead", [None, b"another's"], ids=["gone", "another's"])
def test_shards_whose_composed_file_is_not_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: bytes | None
) -> None:
    put_shards(tmp_path, [1, 2])
    cut_short(monkeypatch, "publish_composed", store(tmp_path))
    [temporary] = composed(tmp_path).iterdir()
    temporary.rename(tmp_path / "kept")
    if instead is not None:
        (composed(tmp_path) / "001_002.parquet").write_bytes(instead)
    with pytest.raises(DataError, match=r"001_002\.parquet.*restore it"):
        store(tmp_path).store()
    assert left(tmp_path) == [MANIFEST_NAME, "001.parquet", "002.parquet"]
    (tmp_path / "kept").replace(composed(tmp_path) / "001_002.parquet")
    store(tmp_path).store()
    assert left(tmp_path) == []


def test_a_composed_file_may_be_taken_while_its_shards_are_put_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shards(tmp_path, [1, 2])
    cut_short(monkeypatch, "put_away", store(tmp_path))
    (composed(tmp_path) / "001_002.parquet").unlink()
    store(tmp_path).store()
    assert left(tmp_path) == []


def test_a_round_that_was_cut_short_counts_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_shards(tmp_path, [1, 2])
    cut_short(monkeypatch, "publish_composed", store(tmp_path))
    found = store(tmp_path)
    found.store()
    assert (found.status().frames_delivered, found.status().rows_delivered) == (2, 4)


def test_a_reader_of_the_folder_sees_each_row_once_while_a_stream_writes_and_a_store_composes(tmp_path: Path) -> None:
    composed(tmp_path).mkdir(parents=True)
    ended, seen = threading.Event(), []

    def read() -> None:
        connection = duckdb.connect()
        while not ended.is_set():
            if list(composed(tmp_path).glob("*.parquet")):
                rows = connection.execute(f"SELECT n FROM '{composed(tmp_path)}/*.parquet' ORDER BY n").fetchall()
                seen.append([row[0] for row in rows])

    reader = threading.Thread(target=read)
    reader.start()
    found = store(tmp_path)
    try:
        with Stream2Local("flights", home=tmp_path) as stream:
            for n in range(40):
                stream.q.put(pd.DataFrame({"n": [n]}))
                found.store()
        found.store()
    finally:
        ended.set()
        reader.join()
    assert seen
    assert all(rows == list(range(len(rows))) for rows in seen), "a row twice, or not, or one before another"
    assert [len(rows) for rows in seen] == sorted(len(rows) for rows in seen), "a row that was there has gone"
