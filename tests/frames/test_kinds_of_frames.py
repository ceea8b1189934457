"""What users have is a frame, or the message says the right call."""

import datetime
import enum
import logging
import pathlib
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest

from api2db import Stream2Local
from api2db.errors import FrameError
from api2db.frames import Refused, rows_and_refused, to_batch, to_pandas
from tests.frames.examples import objects

DAYS = pd.date_range("2026-01-01", periods=2)


def test_a_frame_of_polars_is_a_frame_with_its_types() -> None:
    day, moment = datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    columns: dict[str, list[Any]] = {
        "n": [2**53 + 1, None],
        "t": ["x", None],
        "day": [day, None],
        "at": [moment, None],
        "list": [[1, None], None],
        "struct": [{"a": {"b": "x"}}, None],
        "nothing": [None, None],
    }
    batch = to_batch(polars.DataFrame(columns))
    assert batch.schema.names == list(columns)
    assert batch.schema.field("n").type == pa.int64()
    assert batch.schema.field("t").type == pa.string()
    assert batch.schema.field("nothing").type == pa.null()
    found = {name: batch.column(name)[0].as_py() for name in columns}
    assert found == {**columns_first(columns), "list": "[1, null]", "struct": '{"a": {"b": "x"}}'}
    category = to_batch(polars.DataFrame({"c": ["a", "b"]}, schema={"c": polars.Categorical}))
    assert category.column(0).to_pylist() == ["a", "b"]


def columns_first(columns: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: values[0] for name, values in columns.items()}


def test_whatever_hands_out_an_arrow_stream_is_a_frame() -> None:
    table = pa.table({"a": [1, 2]})
    relation = duckdb.sql("SELECT range AS a FROM range(1, 3)")
    for frame in (relation, table.to_reader(), table.to_batches()[0]):
        assert to_batch(frame).to_pydict() == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pd.Series([1]), r"pandas.Series is not a frame; put series.to_frame\('name'\)"),
        (pd.Index([1]), r"pandas.Index is not a frame; put index.to_frame"),
        (polars.Series("a", [1]), r"polars.Series is not a frame.*put series.to_frame\(\)"),
        (polars.DataFrame({"a": [1]}).lazy(), r"polars.LazyFrame is not a frame; put frame.collect\(\)"),
        ({"a": [1], "b": ["x"]}, r"dict is not a frame; put pandas.DataFrame\(data\)"),
        ({"a": np.array([1])}, r"dict is not a frame; put pandas.DataFrame\(data\)"),
        ({"a": 1, "b": "x"}, r"dict is not a frame; put \[row\]"),
        (np.array([[1]]), r"numpy.ndarray is not a frame; put pandas.DataFrame\(array"),
        (pa.array([1]), r"pyarrow.Int64Array is not a frame; put pyarrow.table\({'name': array}\)"),
        (
            polars.DataFrame({"o": [object()]}, schema={"o": polars.Object}),
            r"the column 'o' of the polars.DataFrame holds Python objects",
        ),
    ],
    ids=[
        "series",
        "index",
        "polars-series",
        "lazy",
        "dict-of-lists",
        "dict-of-arrays",
        "row",
        "ndarray",
        "array",
        "objects",
    ],
)
def test_what_is_nearly_a_frame_is_refused_with_the_right_call(frame: object, says: str) -> None:
    with pytest.raises(FrameError, match=says):
        to_batch(frame)


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (DAYS, list(DAYS.to_pydatetime())),
        (["a", "b"], ["a", "b"]),
        ([0.5, 1.5], [0.5, 1.5]),
        (pd.Index([datetime.date(2026, 1, 1)] * 2), [datetime.date(2026, 1, 1)] * 2),
        (pd.PeriodIndex(["2020-01", "2020-02"], freq="M"), ["2020-01", "2020-02"]),
    ],
)
def test_an_index_without_a_name_is_a_column_unless_it_only_counts(index: Any, kept: list[Any]) -> None:
    frame = pd.DataFrame({"v": [1, 2]}, index=index)
    assert to_batch(frame).to_pydict() == {"index": kept, "v": [1, 2]}
    if not isinstance(index, pd.PeriodIndex):
        assert to_batch(pa.Table.from_pandas(frame)).to_pydict() == {"index": kept, "v": [1, 2]}
    for counted in ([7, 8], pd.Index([7, 8], dtype=object), pd.Index([7, 8], dtype="Int64"), pd.RangeIndex(2)):
        assert to_batch(frame.set_axis(counted)).to_pydict() == {"v": [1, 2]}
        assert to_batch(pa.Table.from_pandas(frame.set_axis(counted))).to_pydict() == {"v": [1, 2]}


def test_that_an_index_is_kept_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        to_batch(pd.DataFrame({"said once": [1, 2]}, index=DAYS))
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["'said once'" in text and "stored as 'index'" in text for text in said] == [True]


def test_that_an_index_is_kept_is_said_with_the_collector_s_name(
    caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path
) -> None:
    with Stream2Local("ticks of an index", home=tmp_path) as stream:
        stream.q.put(pd.DataFrame({"v": [1, 2]}, index=DAYS))
    said = [record.getMessage() for record in caplog.records if "stored as 'index'" in record.getMessage()]
    assert [text.partition(": ")[0] for text in said] == ["ticks of an index"]


def test_an_index_without_a_name_takes_the_names_that_reset_index_gives() -> None:
    frame = pd.DataFrame({"v": [1, 2], "index": ["x", "y"]}, index=DAYS)
    assert to_batch(frame).schema.names == ["level_0", "v", "index"] == list(frame.reset_index())
    levels = pd.DataFrame({"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]))
    assert to_batch(levels).schema.names == ["level_0", "level_1", "v"] == list(levels.reset_index())
    with pytest.raises(FrameError, match="rename_axis"):
        to_batch(frame.assign(level_0=1))


def test_a_column_named_none_is_none_in_dicts_and_in_dataframes() -> None:
    for frame in (
        [{None: 1, "a": 2}],
        pd.DataFrame([[1, 2]], columns=[None, "a"]),
        pd.DataFrame([[1, 2]], columns=pd.Index([None, "a"], dtype="object")),
    ):
        assert to_batch(frame).to_pydict() == {"None": [1], "a": [2]}


def test_an_enum_member_as_a_label_is_its_value() -> None:
    label = enum.Enum("Label", {"ID": "id"}, type=str).ID  # type: ignore[attr-defined]
    assert to_batch([{label: 1}]).schema.names == ["id"]
    assert to_batch(pd.DataFrame({label: [1]})).schema.names == ["id"]


def test_a_time_beyond_python_s_years_is_no_other_time() -> None:
    far = np.datetime64("99999-01-01", "s")
    assert to_batch([{"c": far}]).column(0).storage.to_pylist() == [' "99999-01-01T00:00:00"']
    with pytest.raises(FrameError, match=r"column 'c', row 0: .* beyond the range of Python and pandas"):
        to_batch([{"c": np.timedelta64(2**62, "D")}])


def test_a_path_that_is_no_text_has_its_row_set_aside() -> None:
    frame = pd.DataFrame({"c": objects(pathlib.Path("a"), pathlib.Path("\udc80"))})
    refused, others = rows_and_refused(frame)
    assert isinstance(refused, Refused)
    assert not isinstance(others, Refused)
    assert others.column(0).to_pylist() == ["a"]


def test_missing_values_alone_have_no_type_but_come_back_with_their_dtype() -> None:
    frame = pd.DataFrame(
        {"f": [np.nan] * 2, "c": pd.Categorical([None] * 2, ["a"]), "i": pd.array([None] * 2, "Int64")}
    )
    batch = to_batch(frame)
    assert [str(type_) for type_ in batch.schema.types] == ["null", "null", "int64"]
    assert to_pandas(batch).dtypes.astype(str).to_dict() == {"f": "float64", "c": "category", "i": "Int64"}
    assert to_batch(frame[:0]).schema.field("f").type == pa.float64()
