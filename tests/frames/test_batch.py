"""Whatever is put becomes one record batch, and nothing is lost."""

import datetime
import decimal
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from api2db.errors import FrameError
from api2db.frames import JSON, Refused, is_json, one_batch, reason_of, rows_and_refused, to_batch
from tests.frames.examples import every_kind, objects


def _column(values: Any) -> pa.Array:
    return to_batch(pd.DataFrame({"c": values})).column(0)


@pytest.mark.parametrize(
    ("name", "type_", "values"),
    [
        ("uint64", pa.uint64(), [2**64 - 1, 0]),
        ("nan", pa.float64(), [1.5, None]),
        (">i8", pa.int64(), [1, 2]),
        ("object_text", pa.utf8(), ["é", None]),
        ("Int64", pa.int64(), [2**60 + 1, None]),
        ("boolean", pa.bool_(), [True, None]),
        ("arrow_int", pa.int32(), [1, None]),
        ("arrow_list", JSON, ["[1]", None]),
        ("category_of_intervals", pa.dictionary(pa.int32(), pa.utf8(), ordered=True), ["(0, 5]", "(5, 10]"]),
        ("period", pa.utf8(), ["2020-01", None]),
        ("interval", pa.utf8(), ["(0, 1]", "(1, 2]"]),
        ("sparse", pa.int64(), [0, 1]),
        ("decimal", pa.decimal128(3, 2), [decimal.Decimal("1.50"), None]),
        ("date", pa.date32(), [datetime.date(2020, 1, 1), None]),
        ("time", pa.time64("us"), [datetime.time(1, 2, 3), None]),
        ("bytes", pa.binary(), [b"\xff", None]),
        ("uuid", pa.utf8(), [str(uuid.UUID(int=5)), None]),
        ("int_and_none", pa.int64(), [2**60 + 1, None]),
        ("dict", JSON, ['{"a": [1]}', None]),
        ("array", JSON, ["[1.5, 2.0]", None]),
        ("mixed", JSON, ['"x"', "1"]),
        ("nothing", pa.null(), [None, None]),
    ],
)
def test_every_kind_of_pandas_column_has_a_type_that_loses_nothing(
    name: str, type_: pa.DataType, values: list[object]
) -> None:
    array = _column(every_kind()[name])
    assert array.type == type_
    assert _plain(array) == values


def _plain(array: pa.Array) -> list[Any]:
    return list((array.storage if is_json(array.type) else array).to_pylist())


@pytest.mark.parametrize(
    "name", ["paris", "utc", "offset", *(f"{kind}8[{unit}]" for kind in "mM" for unit in ("s", "ns"))]
)
def test_times_keep_unit_zone_and_gaps(name: str) -> None:
    series = every_kind()[name]
    array = _column(series)
    expected = pa.Array.from_pandas(series)
    assert str(array.type) == str(expected.type)
    assert array.equals(expected)


@given(
    some.lists(some.dictionaries(some.sampled_from(["a", "b", 1, True]), some.integers() | some.text(max_size=1)))
    | some.lists(some.builds(lambda a, b: {"b": b, 1: a}, some.floats() | some.none(), some.floats(0, 1)))
)
@settings(max_examples=50)
def test_dicts_of_one_layout_and_of_many_become_the_same_columns(rows: list[dict[Any, Any]]) -> None:
    class Row(dict[Any, Any]):
        """Not a dict by class, so that each key is looked up in each row."""

    assert to_batch(rows).equals(to_batch(list(map(Row, rows))), check_metadata=True)


def _is_object(dtype: Any) -> bool:
    return str(dtype) == "object"


def test_the_dtypes_come_back_from_the_schema_of_any_frame() -> None:
    odd = {
        "offset",
        "period",
        "interval",
        "category_of_intervals",
        "sparse",
        "arrow_list",
        ">i8",
        "category_of_nothing",
    }
    whole = pd.DataFrame({name: series for name, series in every_kind().items() if name not in odd})
    read = to_batch(whole).to_pandas()
    assert {name: str(read.dtypes[name]) for name, dtype in whole.dtypes.items() if not _is_object(dtype)} == {
        name: str(dtype) for name, dtype in whole.dtypes.items() if not _is_object(dtype)
    }


def test_the_schema_does_not_depend_on_the_number_of_rows_or_categories() -> None:
    few = pd.DataFrame({"a": [1], "c": pd.Categorical(["x"])})
    many = pd.DataFrame({"a": range(300), "c": pd.Categorical([str(place) for place in range(300)])})
    assert to_batch(few).schema.equals(to_batch(many).schema, check_metadata=True)


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        ([True, 1.5], JSON, ["true", "1.5"]),
        ([True, 2], JSON, ["true", "2"]),
        ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
        ([1, float("nan")], pa.int64(), [1, None]),
        ([1e16, 10**16], pa.float64(), [1e16, 1e16]),
        ([10**400, 0.5], JSON, [str(10**400), "0.5"]),
        ([2**53 + 1, 0.5], JSON, ["9007199254740993", "0.5"]),
        ([2**64 - 1, 1], pa.uint64(), [2**64 - 1, 1]),
        ([2**64, -1], pa.decimal128(38, 0), [decimal.Decimal(2**64), decimal.Decimal(-1)]),
        ([10**40, 1], JSON, [str(10**40), "1"]),
        ([np.int64(1), 2], pa.int64(), [1, 2]),
        ([np.float32(0.5), 1], pa.float64(), [0.5, 1.0]),
        ([decimal.Decimal("1.5"), 2], pa.decimal128(2, 1), [decimal.Decimal("1.5"), decimal.Decimal(2)]),
        ([decimal.Decimal("Infinity"), decimal.Decimal(1)], JSON, ['"Infinity"', "1"]),
        (["x", b"x"], JSON, ['"x"', '\t"eA=="']),
        (
            [datetime.date(2020, 1, 1), pd.Timestamp(2020, 1, 1, 5), None],
            pa.timestamp("us"),
            [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, 5), None],  # noqa: DTZ001
        ),
        (
            [pd.Timestamp(5), datetime.date(2020, 1, 1)],
            pa.timestamp("ns"),
            [pd.Timestamp(5), pd.Timestamp(2020, 1, 1)],
        ),
        (
            [datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 5, tzinfo=datetime.UTC)],
            JSON,
            [' "2020-01-01"', ' "2020-01-01T05:00:00+00:00"'],
        ),
        ([datetime.time(1, tzinfo=datetime.UTC)], JSON, [' "01:00:00+00:00"']),
        ([{1, 2}], JSON, ["[1, 2]"]),
        ([[1, 2], [3, 4]], JSON, ["[1, 2]", "[3, 4]"]),
    ],
)
def test_python_values_are_never_bent_to_fit(values: list[Any], type_: pa.DataType, expected: list[object]) -> None:
    for array in (_column(objects(*values)), to_batch([{"c": value} for value in values]).column(0)):
        assert array.type == type_
        assert _plain(array) == expected


def test_nanoseconds_survive_in_object_columns() -> None:
    moment = pd.Timestamp("2020-01-01 00:00:00.000000001")
    assert _column(objects(moment, None)).cast(pa.int64()).to_pylist() == [moment.value, None]


def test_naive_and_zoned_times_are_not_mixed() -> None:
    zoned = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert _column(objects(zoned, pd.Timestamp(2020, 1, 1))).type == JSON


def test_the_columns_of_dicts_are_all_their_keys_in_order_of_first_appearance() -> None:
    batch = to_batch([{"a": 1}, {"b": "x", "a": 2}, {"c": [1], "a": None}])
    assert batch.schema.names == ["a", "b", "c"]
    assert batch.column(0).to_pylist() == [1, 2, None]
    assert batch.column(1).to_pylist() == [None, "x", None]
    assert _plain(batch.column(2)) == [None, None, "[1]"]


def test_an_empty_list_is_an_empty_batch() -> None:
    assert to_batch([]).num_rows == 0


def test_a_named_index_leads_and_one_that_only_counts_is_dropped() -> None:
    named = pd.DataFrame({"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"]))
    assert to_batch(named).schema.names == ["k", "n", "v"]
    assert to_batch(named.droplevel("n")).to_pydict() == {"k": ["a", "b"], "v": [1, 2]}
    assert to_batch(named.reset_index(drop=True).iloc[::-1]).to_pydict() == {"v": [2, 1]}


def test_labels_that_are_no_text_become_text() -> None:
    assert to_batch(pd.DataFrame([[1, 2]])).schema.names == ["0", "1"]
    assert to_batch(pd.DataFrame([[1, 2]], columns=[False, True])).schema.names == ["False", "True"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (5, "int is not a frame"),
        ({"a": [1]}, "dict is not a frame; put pandas.DataFrame"),
        ("text", "str is not a frame"),
        ([{"a": 1}, 5], "row 1 is a int"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "named 'a'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "named '1'"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([1], name="a")), "named 'a'"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "MultiIndex"),
        (pa.table([[1], [2]], names=["a", "a"]), "named 'a'"),
        (pd.DataFrame({"c": [1j]}), "column 'c' is of dtype complex128"),
        (pd.DataFrame({"c": objects("a", "\ud800")}), "column 'c', row 1: the text holds half"),
        ([{"c": {"k": "\ud800"}}], "column 'c', row 0: the text holds half"),
        ([{"\ud800": 1}], "column name"),
        (pd.DataFrame({"c": objects(1, object())}), "column 'c', row 1: a cell of type object"),
    ],
)
def test_what_can_not_be_stored_exactly_is_refused_by_name(frame: object, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        to_batch(frame)


def test_arrow_columns_become_plain() -> None:
    table = pa.table(
        {
            "list": pa.array([[1], None]),
            "struct": pa.array([{"a": 1}, None]),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.utf8(), pa.int64())),
            "view": pa.array(["x", None], pa.string_view()),
            "runs": pa.RunEndEncodedArray.from_arrays([1, 2], ["a", "b"]),
            "dictionary": pa.array(["a", None]).dictionary_encode(),
            "uuid": pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
            "half": pa.array([np.float16(1.5), None], pa.float16()),
            "json": pa.array(['{"a":1}', None], JSON),
        }
    )
    batch = to_batch(pa.concat_tables([table, table]))
    assert {field.name: field.type for field in batch.schema} == {
        "list": JSON,
        "struct": JSON,
        "map": JSON,
        "view": pa.utf8(),
        "runs": pa.utf8(),
        "dictionary": pa.dictionary(pa.int32(), pa.utf8()),
        "uuid": pa.utf8(),
        "half": pa.float32(),
        "json": JSON,
    }
    first = {name: _plain(batch.column(name))[0] for name in batch.schema.names}
    assert first == {
        "list": "[1]",
        "struct": '{"a": 1}',
        "map": '[["k", 1]]',
        "view": "x",
        "runs": "a",
        "dictionary": "a",
        "uuid": str(uuid.UUID(int=5)),
        "half": 1.5,
        "json": '{"a":1}',
    }
    assert batch.num_rows == 4


def test_chunks_with_different_dictionaries_are_joined() -> None:
    narrow = pa.dictionary(pa.int8(), pa.utf8())
    texts = [[f"{letter}{place}" for place in range(100)] for letter in "ab"]
    chunks = pa.chunked_array([pa.array(some, narrow) for some in texts])
    assert to_batch(pa.table({"c": chunks})).column(0).to_pylist() == [*texts[0], *texts[1]]


def test_an_arrow_table_made_by_pandas_loses_its_nameless_index_but_keeps_its_dtypes() -> None:
    frame = pd.DataFrame({"v": pd.array([1, None], dtype="Int64")}, index=[5, 7])
    batch = to_batch(pa.Table.from_pandas(frame))
    assert batch.schema.names == ["v"]
    assert batch.to_pandas().dtypes["v"] == "Int64"


def test_a_table_without_rows_keeps_its_columns() -> None:
    schema = pa.schema({"a": pa.int64(), "b": JSON, "c": pa.list_(pa.int8()), "d": pa.dictionary(pa.int8(), pa.utf8())})
    assert to_batch(pa.table([pa.chunked_array([], type=t) for t in schema.types], schema=schema)).schema.names == list(
        "abcd"
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (decimal.Decimal("sNaN"), "a signalling NaN is not a value"),
        ({"1": "b", 1: "a"}, "two keys of a dict cell have the same text"),
    ],
)
def test_a_value_that_has_no_form_is_named_by_column_and_row(value: Any, says: str) -> None:
    for frame in ([{"c": 1.5}, {"c": value}], pd.DataFrame({"c": objects(1.5, value)})):
        with pytest.raises(FrameError, match=f"column 'c', row 1: {says}"):
            to_batch(frame)


def test_rows_with_half_a_surrogate_pair_are_apart_with_the_reason_and_a_form_that_can_be_stored() -> None:
    rows = [{"a": "x", "b": 1}, {"a": {"k": "\udc00"}, "b": 2}, {"a": "\ud800y", "b": 3}]
    refused, others = rows_and_refused(rows)
    assert isinstance(refused, Refused)
    assert isinstance(others, pa.RecordBatch)
    assert others.to_pydict() == {"a": ["x"], "b": [1]}
    assert _plain(refused.rows.column(0)) == ['{"k": "\\\\udc00"}', '"\\\\ud800y"']
    assert refused.rows.column(1).to_pylist() == [2, 3]
    assert reason_of(refused.rows.schema).startswith("the text in 'a' holds half of a surrogate pair")
    [plain] = rows_and_refused(rows[:1])
    assert isinstance(plain, pa.RecordBatch)
    with pytest.raises(FrameError, match="column 'b', row 0"):
        rows_and_refused([{"a": "\ud800", "b": print}])


def test_a_span_that_no_type_reaches_is_a_cell_of_its_own() -> None:
    batch = to_batch([{"c": datetime.timedelta.max}])
    assert batch.column(0).storage.to_pylist() == [' "P999999999DT23H59M59.999999S"']


def test_dates_in_milliseconds_that_are_no_whole_days_are_times_and_nothing_is_cut() -> None:
    odd = pa.array([86_400_000, 86_400_001, None], pa.int64()).view(pa.date64())
    for _ in range(2):  # what is known of a schema must not speak for its values
        assert to_batch(pa.table({"c": odd[:1]})).column(0).type == pa.date64()
        times = to_batch(pa.table({"c": odd})).column(0)
        assert times.type == pa.timestamp("ms")
        assert times.cast(pa.int64()).to_pylist() == [86_400_000, 86_400_001, None]


def test_columns_of_many_chunks_are_not_copied_to_be_stored() -> None:
    texts = pa.chunked_array([["a", None] * 1_000, ["b"] * 1_000])
    frame = pd.DataFrame({"text": pd.array(texts, dtype=pd.ArrowDtype(pa.string())), "n": range(3_000)})
    [rows] = rows_and_refused(frame)
    assert isinstance(rows, pa.Table)
    assert rows.column("text").num_chunks == 2
    assert one_batch(rows).equals(to_batch(frame))
    assert one_batch(rows).schema.equals(to_batch(frame).schema, check_metadata=True)


@pytest.mark.parametrize("chunks", [[["a"] * 2_000], [["a", None], ["b"], []]])
def test_a_single_chunk_and_chunks_of_few_rows_are_one_batch_at_once(chunks: list[list[str]]) -> None:
    [rows] = rows_and_refused(pa.table({"text": pa.chunked_array(chunks)}))
    assert isinstance(rows, pa.RecordBatch)
    assert rows.column(0).to_pylist() == [text for chunk in chunks for text in chunk]


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([pa.array(["x", "y"]).dictionary_encode(), pa.array(["z", "x"]).dictionary_encode()]),
        pa.chunked_array([pa.array([86_400_000], pa.date64()), pa.array([1], pa.int64()).view(pa.date64())]),
        pa.chunked_array([pa.array([{"a": 1}]), pa.array([{"a": 2}])]),
        pa.chunked_array([pa.array(["a view"], pa.string_view()), pa.array(["another"], pa.string_view())]),
        pa.chunked_array([], pa.int64()),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_that_are_made_plain_have_no_chunks(column: pa.ChunkedArray) -> None:
    column = pa.chunked_array([pa.concat_arrays([chunk] * 2_000) for chunk in column.chunks], column.type)
    texts = pa.chunked_array([["a"] * (len(column) // 2)] * 2, pa.string())
    table = pa.table({"column": column, "text": texts})
    for _ in range(2):  # the second time the schema may be known
        [rows] = rows_and_refused(table)
        assert not isinstance(rows, Refused)
        plain = rows.column(0)
        assert isinstance(plain, pa.Array) or plain.num_chunks == 1
        assert one_batch(rows).equals(to_batch(table))
        assert to_batch(table).num_rows == len(column)
