"""What every format promises, and what each alone does."""

import io
import json
import math
import stat
import struct
from contextlib import suppress
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api2db.errors import ConfigurationError, FormatError, FrameError
from api2db.formats import FORMATS, check_format, read, read_frame, write, write_frame
from tests.formats.frames import cells, every_type

EXACT = ("parquet", "json")


def stored(table: pa.Table, path: Path, fmt: str) -> Path:
    with path.open("wb") as file:
        write(table, file, fmt)
    return path


def through_memory(table: pa.Table, tmp_path: Path, fmt: str) -> pa.Table:
    return read(stored(table, tmp_path / f"table.{fmt}", fmt), fmt)


@pytest.mark.parametrize("fmt", ["xlsx", "", None, "Parquet", ["csv"]])
def test_a_format_that_is_none_of_the_four_is_refused_by_naming_them(fmt: object) -> None:
    with pytest.raises(ConfigurationError, match="parquet, json, csv, pickle"):
        check_format(fmt)


@pytest.mark.parametrize("fmt", EXACT)
@pytest.mark.parametrize("name", every_type().column_names)
def test_every_type_comes_back_as_it_was(tmp_path: Path, fmt: str, name: str) -> None:
    table = every_type().select([name])
    back = through_memory(table, tmp_path, fmt)
    assert back.schema.equals(table.schema)
    assert back.column(name).combine_chunks().equals(table.column(name).combine_chunks())


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_frame_without_rows_keeps_its_columns(tmp_path: Path, fmt: str) -> None:
    table = every_type().slice(0, 0)
    assert through_memory(table, tmp_path, fmt).column_names == table.column_names


@pytest.mark.parametrize("fmt", FORMATS)
def test_more_rows_than_are_written_at_once_come_back_in_order(tmp_path: Path, fmt: str) -> None:
    table = pa.table({"number": range(25_000), "text": [f"row {number}" for number in range(25_000)]})
    assert through_memory(table, tmp_path, fmt).to_pydict() == table.to_pydict()


@given(floats=st.lists(st.floats(width=64), min_size=1))
def test_json_keeps_floats_bit_for_bit(floats: list[float]) -> None:
    file = io.BytesIO()
    write(pa.table({"x": floats}), file, "json")
    back = json_back(file)
    assert [struct.pack("d", value) for value in back if not math.isnan(value)] == [
        struct.pack("d", value) for value in floats if not math.isnan(value)
    ]


def json_back(file: io.BytesIO) -> list[float]:
    from api2db.formats import _json_table as json_table

    file.seek(0)
    values: list[float] = json_table.read(file).column("x").to_pylist()
    return values


@given(texts=st.lists(st.text() | st.none(), min_size=1))
def test_csv_tells_a_null_from_an_empty_text_and_keeps_every_text(texts: list[str | None]) -> None:
    from api2db.formats import _csv_text as csv_text

    valid = [text if text is None else text.encode(errors="replace").decode() for text in texts]
    file = io.BytesIO()
    write(pa.table({"x": pa.array(valid, pa.utf8()), "number": range(len(valid))}), file, "csv")
    file.seek(0)
    assert csv_text.read(file).column("x").to_pylist() == valid


@given(floats=st.lists(st.floats(allow_nan=False), min_size=1).map(lambda floats: [*floats, 0.5]))
def test_csv_keeps_floats(floats: list[float]) -> None:
    from api2db.formats import _csv_text as csv_text

    file = io.BytesIO()
    write(pa.table({"x": pa.array(floats, pa.float64())}), file, "csv")
    file.seek(0)
    assert csv_text.read(file).column("x").to_pylist() == floats


@pytest.mark.parametrize("nulls", [0, 1, 3])
def test_csv_keeps_the_nulls_of_a_single_column(tmp_path: Path, nulls: int) -> None:
    table = pa.table({"x": ["a"] + [None] * nulls + ["b"]})
    assert through_memory(table, tmp_path, "csv").to_pydict() == table.to_pydict()


@pytest.mark.parametrize(
    ("type_", "count"), [(pa.timestamp("us"), 2**63 - 1), (pa.date32(), -(2**31) + 1), (pa.date64(), 10**17)], ids=str
)
def test_csv_refuses_a_time_that_it_has_no_text_for(tmp_path: Path, type_: pa.DataType, count: int) -> None:
    ticks = pa.array([count, None], pa.int32() if type_ == pa.date32() else pa.int64())
    with pytest.raises(FormatError, match="32767"):
        stored(pa.table({"x": ticks.view(type_)}), tmp_path / "x.csv", "csv")


def test_csv_keeps_an_instant_of_old_whose_local_time_had_seconds_in_its_offset(tmp_path: Path) -> None:
    old = pa.array([-3_000_000_000, None, 0], pa.timestamp("s", "America/New_York"))
    back = through_memory(pa.table({"x": old}), tmp_path, "csv").column("x")
    assert back.cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_pylist() == [-3_000_000_000, None, 0]


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_json_writes_an_instant_of_old_as_text_too_and_reads_it_back(tmp_path: Path, unit: str) -> None:
    old = pa.table({"x": pa.array([-3_000_000_000, None, 0], pa.timestamp("s", "America/New_York"))})
    old = old.cast(pa.schema({"x": pa.timestamp(unit, "America/New_York")}))
    path = stored(old, tmp_path / "x.json", "json")
    assert str(json.loads(path.read_text())["data"][0]["x"]).startswith("1874-12-07 18:40:00")
    assert read(path, "json").equals(old)


def test_csv_has_the_lines_and_quotes_of_rfc_4180(tmp_path: Path) -> None:
    table = pa.table({'na"me': ['a"b', "", None], "n": [1, 2, 3]})
    content = stored(table, tmp_path / "x.csv", "csv").read_bytes()
    assert content == b'"na""me","n"\r\n"a""b",1\r\n"",2\r\n,3\r\n'


def test_csv_keeps_names_that_repeat(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array(["x"])], names=["a", "a"])
    back = through_memory(table, tmp_path, "csv")
    assert back.column_names == ["a", "a"]
    assert [column.to_pylist() for column in back.columns] == [[1], ["x"]]


def test_csv_reads_a_line_longer_than_a_block(tmp_path: Path) -> None:
    table = pa.table({"x": ["a" * 3_000_000, "b"], "n": [1, 2]})
    assert through_memory(table, tmp_path, "csv").to_pydict() == table.to_pydict()


def test_csv_reads_what_pandas_writes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [1.5, None], "c": ["x", "y"], "d": [True, False]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    pd.testing.assert_frame_equal(read_frame(tmp_path / "x.csv", "csv"), frame)


def test_pandas_reads_our_json(tmp_path: Path) -> None:
    table = every_type()
    back = pd.read_json(stored(table, tmp_path / "x.json", "json"), orient="table")
    assert back.columns.tolist() == table.column_names
    assert back["int64"][0] == str(2**63 - 1)
    assert back["digits"][0] == "001"
    assert back["infinite"].tolist()[::2] == [math.inf, -math.inf]
    assert back["zoned"][0] == pd.Timestamp(1, tz="UTC")
    assert back["category"].dtype == "category"
    assert back["bool"].tolist() == [True, pd.NA, False]
    assert back["nested"][2] == []
    assert pd.isna(back["nested"][1])


def test_our_json_is_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(stored(every_type(), tmp_path / "x.json", "json").read_bytes(), parse_constant=refuse)


def test_we_read_the_json_table_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    frame.to_json(tmp_path / "x.json", orient="table", index=False)
    pd.testing.assert_frame_equal(read_frame(tmp_path / "x.json", "json"), frame)


def test_pandas_and_duckdb_read_our_parquet(tmp_path: Path) -> None:
    path = stored(pa.table({"j": cells('{"a": 1}', None), "n": [1, 2]}), tmp_path / "x.parquet", "parquet")
    assert pd.read_parquet(path)["j"].tolist()[0] == '{"a": 1}'
    with duckdb.connect() as connection:
        rows = connection.execute(f"select j->>'a', typeof(j) from '{path}'").fetchall()
    assert rows == [("1", "JSON"), (None, "JSON")]


def test_parquet_keeps_the_dtypes_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": pd.Categorical(["x", "y"]), "c": [1.5, None]})
    write_frame(frame, tmp_path / "x.parquet", "parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), frame)


@pytest.mark.parametrize("rows", [10, 10_000])
def test_one_flipped_byte_in_the_rows_of_a_parquet_file_is_found(tmp_path: Path, rows: int) -> None:
    path = stored(pa.table({"x": [f"row {row * 7919}" for row in range(rows)]}), tmp_path / "x.parquet", "parquet")
    content, chunk = bytearray(path.read_bytes()), pq.ParquetFile(path).metadata.row_group(0).column(0)
    content[4 + chunk.total_compressed_size - 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.parquet can't be read as parquet"):
        read(path, "parquet")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_frame_file_is_private_and_replaces_the_older(tmp_path: Path, fmt: str) -> None:
    path = tmp_path / "file"
    for number in (1, 2):
        write_frame(pd.DataFrame({"n": [number]}), path, fmt)
    assert read_frame(path, fmt)["n"].tolist() == [2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fmt", ["parquet", "json", "csv"])
def test_a_frame_that_can_not_be_written_leaves_the_older_file(tmp_path: Path, fmt: str) -> None:
    path = tmp_path / "file"
    write_frame(pd.DataFrame({"n": [1]}), path, fmt)
    with pytest.raises(FrameError):
        write_frame(pd.DataFrame([[1, 2]], columns=["n", "n"]), path, fmt)
    assert read_frame(path, fmt)["n"].tolist() == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_of_parquet_names_the_way_out(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([2**60], pa.timestamp("s"))})
    with pytest.raises(FormatError, match="can't be written as parquet"), (tmp_path / "x").open("wb") as file:
        write(table, file, "parquet")


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_missing_file_is_told_by_the_system(tmp_path: Path, fmt: str) -> None:
    with pytest.raises(FileNotFoundError):
        read_frame(tmp_path / "none", fmt)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("content", [b"", b"\x00", b"[]", b'{"schema": 1, "data": 2}', b"\x80\x05.", b"PAR1PAR1"])
def test_a_file_that_is_no_table_is_a_format_error_that_names_it(tmp_path: Path, fmt: str, content: bytes) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    if fmt == "csv" and content.isascii() and content:
        assert read_frame(path, fmt).empty
    else:
        with pytest.raises(FormatError, match="broken"):
            read_frame(path, fmt)


def sound_files() -> list[tuple[str, bytes]]:
    frame = pd.DataFrame({"a": [1, 2], "s": ["x", None], "f": [1.5, 2.5], "c": pd.Categorical([2, 1], ordered=True)})
    contents: list[tuple[str, bytes]] = []
    for fmt in FORMATS:
        file = io.BytesIO()
        write(pa.Table.from_pandas(frame), file, fmt)
        contents.append((fmt, file.getvalue()))
    return contents


@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    fmt, content = data.draw(st.sampled_from(sound_files()))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged(bytearray(content), data))
    with suppress(FormatError):
        read_frame(path, fmt)


def damaged(content: bytearray, data: st.DataObject) -> bytes:
    if data.draw(st.booleans()):
        return bytes(content[: data.draw(st.integers(0, len(content)))])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    return bytes(content)


def test_a_value_of_a_damaged_file_is_quoted_without_its_secrets(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_frame(pd.DataFrame({"n": [12345]}), path, "json")
    path.write_text(path.read_text().replace("12345", '"https://me:s3cret@api.example"'))
    with pytest.raises(FormatError, match="invalid literal") as told:
        read(path, "json")
    assert "s3cret" not in str(told.value)
