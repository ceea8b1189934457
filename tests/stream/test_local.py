"""Files: what Stream2Local does in addition to what every stream does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import FileConverter, Stream2Local
from api2db.errors import ConfigurationError
from api2db.journal import ReadLimit
from tests.stream.cases import frame, rejected_rows, shards
from tests.stream.eventually import eventually

Make = Callable[..., Stream2Local]
FORMATS = ("parquet", "json", "csv", "pickle")
_ONE = ReadLimit(rows=1, size_bytes=1 << 20)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Stream2Local] = []

    def make(**options: Any) -> Stream2Local:
        made.append(Stream2Local("flights", home=tmp_path, **options))
        return made[-1]

    yield make
    for stream in made:
        stream.stop()


def loaded(path: Path) -> pd.DataFrame:
    found = FileConverter.static_load_df(str(path), path.suffix[1:])
    assert found is not None
    return found


def static(home: Path, fmt: str = "parquet") -> pd.DataFrame:
    return loaded(home / "CACHE" / f"flights_static.{fmt}")


REPEATED = pd.DataFrame({"id": [1, 2, 1, 1], "text": ["a", "b", "a", "c"]})


@pytest.mark.parametrize("fmt", FORMATS)
def test_rows_that_repeat_earlier_ones_of_a_frame_are_dropped_and_counted(fmt: str, make: Make, tmp_path: Path) -> None:
    with make(fmt=fmt) as stream:
        stream.q.put(REPEATED)
    [shard] = shards(tmp_path, fmt)
    assert loaded(shard)["text"].tolist() == ["a", "b", "c"]
    status = stream.status()
    assert (status.rows_delivered, status.duplicates_dropped, status.rows_rejected) == (3, 1, 0)


@pytest.mark.parametrize("fmt", FORMATS)
def test_with_keys_rows_that_repeat_those_are_dropped(fmt: str, make: Make, tmp_path: Path) -> None:
    with make(fmt=fmt, drop_duplicate_keys=["id"]) as stream:
        stream.q.put(REPEATED)
    [shard] = shards(tmp_path, fmt)
    assert loaded(shard)["text"].tolist() == ["a", "b"]
    assert stream.status().duplicates_dropped == 2


@pytest.mark.parametrize("keys", [None, ["cell"], ["id", "cell"]])
@pytest.mark.parametrize("fmt", FORMATS)
def test_dict_and_list_cells_are_told_apart_too(fmt: str, keys: list[str] | None, make: Make, tmp_path: Path) -> None:
    cells = [{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 2]}, [1, 2], [1, 2], [1, 2, 3], None, None]
    with make(fmt=fmt, drop_duplicate_keys=keys) as stream:
        stream.q.put(pd.DataFrame({"id": [7] * 7, "cell": pd.Series(cells, dtype=object)}))
    assert len(loaded(shards(tmp_path, fmt)[0])) == 4
    assert stream.status().duplicates_dropped == 3


def test_shards_keep_what_another_shard_has_too(make: Make, tmp_path: Path) -> None:
    with make() as stream:
        stream.q.put(frame(1))
        stream.q.put(frame(1))
    assert len(shards(tmp_path, "parquet")) == 2
    assert stream.status().duplicates_dropped == 0


@pytest.mark.parametrize("fmt", FORMATS)
def test_an_updated_file_keeps_each_row_once(fmt: str, make: Make, tmp_path: Path) -> None:
    with make(mode="update", fmt=fmt) as stream:
        stream.stream(REPEATED)
        stream.stream(pd.DataFrame({"id": [2, 5], "text": ["b", "e"]}))
    assert static(tmp_path, fmt)["text"].tolist() == ["a", "b", "c", "e"]
    status = stream.status()
    assert (status.rows_delivered, status.duplicates_dropped) == (4, 2)


def test_an_updated_file_keeps_the_first_row_of_each_key(make: Make, tmp_path: Path) -> None:
    with make(mode="update", drop_duplicate_keys=["id"]) as stream:
        stream.stream(frame(1, 2))
        stream.stream(pd.DataFrame({"id": [2, 3], "text": ["newer", "row 3"]}))
    assert static(tmp_path)["text"].tolist() == ["row 1", "row 2", "row 3"]


def test_a_key_that_a_frame_lacks_rejects_that_frame_with_the_reason(make: Make, tmp_path: Path) -> None:
    with make(drop_duplicate_keys=["id"]) as stream:
        stream.q.put(pd.DataFrame({"other": [1, 2]}))
        stream.q.put(frame(3))
    assert len(shards(tmp_path, "parquet")) == 1
    rejected = rejected_rows(tmp_path, "local")
    assert [row["other"] for row in rejected] == [1, 2]
    assert all("id" in row["_api2db_reason"] for row in rejected)
    assert stream.status().rows_rejected == 2


def test_an_updated_file_takes_new_columns(make: Make, tmp_path: Path) -> None:
    with make(mode="update") as stream:
        stream.stream(frame(1))
        stream.stream(pd.DataFrame({"id": [2], "new": ["x"]}))
    found = static(tmp_path)
    assert found["id"].tolist() == [1, 2]
    assert found["new"].tolist()[1] == "x"
    assert pd.isna(found["new"].tolist()[0])


def test_an_updated_file_whose_column_is_of_another_kind_rejects_the_frame(make: Make, tmp_path: Path) -> None:
    with make(mode="update") as stream:
        stream.stream(frame(1))
        stream.stream(pd.DataFrame({"id": ["two"], "text": ["row 2"]}))
        stream.stream(frame(3))
    assert static(tmp_path)["id"].tolist() == [1, 3]
    [row] = rejected_rows(tmp_path, "local")
    assert row["id"] == "two"
    assert "'id' is int64 in" in row["_api2db_reason"]


def test_frames_that_have_no_common_schema_are_a_shard_each(make: Make, tmp_path: Path) -> None:
    stream = make()
    for value in (1, "two", 3.5, pd.Timestamp("2026-01-01"), True):
        stream.q.put(pd.DataFrame({"value": [value]}))
    stream.start()
    assert stream.flush(20)
    assert [loaded(path)["value"][0] for path in shards(tmp_path, "parquet")] == [
        1,
        "two",
        3.5,
        pd.Timestamp("2026-01-01"),
        True,
    ]


def test_a_damaged_file_is_not_updated_over_but_waited_for(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "CACHE" / "flights_static.parquet"
    path.parent.mkdir()
    path.write_bytes(b"somebody's own")
    with make(mode="update") as stream:
        stream.q.put(frame(1))
        assert "move the file away" in eventually(lambda: stream.status().last_error or "")
        assert path.read_bytes() == b"somebody's own"
        path.rename(path.with_suffix(".old"))
        stream.check_failures()
        assert stream.flush(20)
    assert static(tmp_path)["id"].tolist() == [1]


def test_a_shard_s_name_that_is_taken_is_raised_and_the_file_of_others_stays(make: Make, tmp_path: Path) -> None:
    stream = make()
    stream.q.put(frame(1))
    waiting = stream.status()
    assert waiting.frames_waiting == 1
    time = stream._attachment.attach().read(limit=_ONE)[0].timestamp_ns
    folder = tmp_path / "STORE" / "flights" / "parquet"
    folder.mkdir(parents=True)
    (folder / f"{time}.parquet").write_bytes(b"somebody's own")
    stream.start()
    assert stream.flush(20)
    assert sorted(path.name for path in folder.iterdir()) == [f"{time}.parquet", f"{time + 1}.parquet"]
    assert (folder / f"{time}.parquet").read_bytes() == b"somebody's own"
    assert loaded(folder / f"{time + 1}.parquet")["id"].tolist() == [1]


def test_shards_that_are_consumed_meanwhile_do_not_come_again(make: Make, tmp_path: Path) -> None:
    with make() as stream:
        for number in range(3):
            stream.stream(frame(number))
        found = FileConverter.static_compose_df_from_dir(str(tmp_path / "STORE" / "flights" / "parquet"), "parquet")
        assert found is not None
        assert found["id"].tolist() == [0, 1, 2]
        stream.stream(frame(3))
    assert [loaded(path)["id"].tolist() for path in shards(tmp_path, "parquet")] == [[3]]


def test_no_temporary_file_is_left(make: Make, tmp_path: Path) -> None:
    for mode in ("shard", "update", "replace"):
        with make(mode=mode) as stream:
            stream.q.put(REPEATED)
            stream.q.put(pd.DataFrame({"id": ["x"]}))
    assert [path for path in tmp_path.rglob("*.tmp") if "journal" not in path.parts] == []


@pytest.mark.parametrize("mode", ["shard", "update", "replace"])
def test_the_methods_of_other_modes_say_which_mode_the_stream_has(mode: str, make: Make, tmp_path: Path) -> None:
    stream = make(mode=mode)
    own = {"shard": stream.stream_shard, "update": stream.stream_update, "replace": stream.stream_replace}
    for other, method in own.items():
        if other != mode:
            with pytest.raises(ConfigurationError, match=f"mode='{other}'"):
                method(frame(1))
    assert list(tmp_path.iterdir()) == []
    own[mode](frame(1))
    if mode == "shard":
        assert len(shards(tmp_path, "parquet")) == 1
    else:
        assert static(tmp_path)["id"].tolist() == [1]


def test_one_name_is_no_list_of_names_to_drop_repeats_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="list of column names, not 'abc'"):
        Stream2Local("flights", home=tmp_path, drop_duplicate_keys="abc")  # type: ignore[arg-type]
