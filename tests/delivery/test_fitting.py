"""Which rows of a batch a table holds exactly."""

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from api2db.delivery._fitting import fit
from api2db.frames import JSON, to_batch
from api2db.targets.port import Column


def column(name: str, type_: pa.DataType) -> Column:
    return Column(name, type_, str(type_).upper())


def test_what_fits_is_cast_to_the_table_s_types() -> None:
    rows = pa.table({"a": pa.array([1, None], pa.int8()), "b": [1.0, 2.0]})
    fitted = fit(rows, [column("a", pa.int64()), column("b", pa.int32())])
    assert fitted.mismatches == []
    assert fitted.rows == pa.table({"a": pa.array([1, None], pa.int64()), "b": pa.array([1, 2], pa.int32())})


def test_a_value_that_does_not_fit_is_null_and_its_row_is_told() -> None:
    fitted = fit(pa.table({"a": [1, 300, None, -1]}), [column("a", pa.uint8())])
    [mismatch] = fitted.mismatches
    assert mismatch.mask.to_pylist() == [False, True, False, True]
    reason = "'a': int64 does not fit the column's type UINT8; give the column a type that holds it"
    assert mismatch.reason == reason
    assert fitted.rows["a"].to_pylist() == [1, None, None, None]


def test_a_text_in_a_column_with_other_values_too_is_called_a_text() -> None:
    prices = to_batch([{"price": 1.5}, {"price": "n/a"}]).column(0)
    [mismatch] = fit(pa.table({"price": prices}), [column("price", pa.float64())]).mismatches
    assert mismatch.reason == (
        "'price': text does not fit the column's type DOUBLE; text is taken as a number that a float holds, such as"
        " 0.5, nothing else: correct the value"
    )
    lists = to_batch([{"price": [1]}, {"price": "n/a"}]).column(0)
    [mismatch] = fit(pa.table({"price": lists}), [column("price", pa.float64())]).mismatches
    assert mismatch.reason.startswith("'price': JSON does not fit")


def test_a_column_that_the_table_lacks_is_a_misfit_where_it_has_values() -> None:
    rows = pa.table({"id": [1, 2], "new": ["x", None], "nothing": pa.array([None, None], pa.string())})
    fitted = fit(rows, [column("id", pa.int64())])
    [mismatch] = fitted.mismatches
    assert (mismatch.name, mismatch.column, mismatch.mask.to_pylist()) == ("new", None, [True, False])
    assert mismatch.reason == "the table has no column 'new'"
    assert fitted.rows.column_names == ["id"]


REMEDIES: list[tuple[pa.Array, pa.DataType, str]] = [
    (pa.array([1]), pa.bool_(), "dtypes={'a': 'boolean'}"),
    (pa.array([True]), pa.float64(), "dtypes={'a': 'Int64'}"),
    (pa.array([1]), pa.string(), "dtypes={'a': 'str'}"),
    (pa.array([0.1 + 0.2]), pa.decimal128(12, 2), "round it to the digits that the type has"),
    (pa.array([5]), pa.list_(pa.int32()), "each item of the list must be a whole number"),
    (to_batch([{"a": [1]}]).column(0), pa.list_(pa.string()), "each item of the list must be text"),
    (pa.array([datetime.timedelta(1)]), pa.date32(), "correct the value, or give the column another type"),
    (pa.array([b"x"]), pa.int64(), "correct the value, or give the column another type"),
    (pa.array(["x"]), pa.int64(), "correct the value"),
]


@pytest.mark.parametrize(("values", "home", "remedy"), REMEDIES, ids=str)
def test_each_reason_names_the_column_and_what_to_do(values: pa.Array, home: pa.DataType, remedy: str) -> None:
    [mismatch] = fit(pa.table({"a": values}), [column("a", home)]).mismatches
    assert mismatch.reason.startswith("'a': ")
    assert remedy in mismatch.reason


def test_a_column_is_found_in_spite_of_its_case_but_its_own_name_first() -> None:
    table = [column("Name", pa.string()), column("name", pa.int64())]
    assert fit(pa.table({"name": [1]}), table, str.lower).rows.column_names == ["name"]
    assert fit(pa.table({"NAME": [1]}), table[1:], str.lower).rows.column_names == ["name"]
    assert [mismatch.name for mismatch in fit(pa.table({"NAME": [1]}), table).mismatches] == ["NAME"]


def test_rows_without_a_column_that_the_table_knows_stay_rows() -> None:
    fitted = fit(pa.table({"x": pa.nulls(3)}), [column("id", pa.int64())])
    assert fitted.mismatches == []
    assert fitted.rows == pa.table({"id": pa.array([None] * 3, pa.int64())})


@pytest.mark.parametrize(
    ("values", "to"),
    [
        (pa.array([1], pa.timestamp("ns")), pa.timestamp("us")),
        (pa.array([999], pa.timestamp("ns", "Asia/Tokyo")), pa.timestamp("us", "UTC")),
        (pa.array([1], pa.time64("ns")), pa.time64("us")),
        (pa.array([1], pa.duration("ns")), pa.duration("us")),
    ],
    ids=str,
)
def test_nanoseconds_are_cut_where_the_column_ends_at_microseconds_and_it_is_told(
    values: pa.Array, to: pa.DataType
) -> None:
    fitted = fit(pa.table({"t": values}), [column("t", to)])
    assert (fitted.truncated, fitted.mismatches) == (["t"], [])
    assert fitted.rows["t"].cast(pa.int64()).to_pylist() == [0]


def test_before_1970_too_digits_are_cut_and_no_second_is_reached() -> None:
    fitted = fit(pa.table({"t": pa.array([-1, None, -1000], pa.timestamp("ns"))}), [column("t", pa.timestamp("us"))])
    assert fitted.rows["t"].cast(pa.int64()).to_pylist() == [-1, None, -1]


@pytest.mark.parametrize(
    ("values", "to"),
    [
        (pa.array([1], pa.timestamp("ns")), pa.timestamp("us", "UTC")),
        (pa.array([1], pa.timestamp("ns", "UTC")), pa.timestamp("us")),
        (pa.array([1]), pa.string()),
        (pa.array(["01"]), pa.int64()),
        (pa.array([True]), pa.int64()),
        (pa.array([2**53 + 1]), pa.float64()),
        (pa.array([Decimal("1.25")]), pa.decimal128(5, 1)),
    ],
    ids=str,
)
def test_nothing_is_reinterpreted(values: pa.Array, to: pa.DataType) -> None:
    fitted = fit(pa.table({"x": values}), [column("x", to)])
    assert [mismatch.mask.to_pylist() for mismatch in fitted.mismatches] == [[True]]


def test_texts_of_all_widths_are_one_kind_and_json_goes_into_text() -> None:
    assert fit(pa.table({"x": pa.array(["a"], pa.large_string())}), [column("x", pa.string())]).mismatches == []
    cells = pa.ExtensionArray.from_storage(JSON, pa.array(['{"a": 1}']))
    fitted = fit(pa.table({"x": cells}), [column("x", pa.string())])
    assert (fitted.mismatches, fitted.rows["x"].to_pylist()) == ([], ['{"a": 1}'])


def test_more_digits_than_any_database_has_become_text() -> None:
    fitted = fit(pa.table({"x": pa.array([Decimal("9" * 50), None])}), [column("x", pa.string())])
    assert (fitted.mismatches, fitted.rows["x"].to_pylist()) == ([], ["9" * 50, None])
