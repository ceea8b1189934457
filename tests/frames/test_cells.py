"""A JSON cell holds what was in the cell."""

import datetime
import decimal
import enum
import json
import pathlib
import re
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from api2db.errors import FrameError
from api2db.frames import JSON, decode_cell, encode_cell, is_json, unmarked
from api2db.frames._cells import json_array, single_value


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, (2, None)]}, '{"a": [1, [2, null]]}'),
        ({"é": "日本"}, '{"é": "日本"}'),
        ({"nan": float("nan"), "inf": float("-inf")}, '{"nan": null, "inf": "-Infinity"}'),
        ({1: "x", None: "y", datetime.date(2020, 1, 1): "z"}, '{"1": "x", "null": "y", "2020-01-01": "z"}'),
        ({3, 1, 2}, "[1, 2, 3]"),
        ([decimal.Decimal("1.50"), decimal.Decimal("NaN")], "[1.5, null]"),
        ([datetime.datetime(2020, 1, 1, 5, tzinfo=datetime.UTC)], '["2020-01-01T05:00:00+00:00"]'),
        ([datetime.timedelta(seconds=1)], '["P0DT0H0M1S"]'),
        ([pd.NaT, pd.NA, None], "[null, null, null]"),
        ([pd.Timestamp(1)], '["1970-01-01T00:00:00.000000001"]'),
        (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
        (np.array([1, "NaT"], "M8[ns]"), '["1970-01-01T00:00:00.000000001", null]'),
        (np.array(5), "[5]"),
        (
            [np.int64(1), np.float32(0.5), np.bool_(True), np.datetime64("2020")],
            '[1, 0.5, true, "2020-01-01T00:00:00"]',
        ),
        ([uuid.UUID(int=5), b"\xff", Colour.RED], '["00000000-0000-0000-0000-000000000005", "/w==", "red"]'),
        ([pathlib.PurePosixPath("a/b"), pa.scalar(5)], '["a/b", 5]'),
        (pd.Series([1.5, np.nan]), "[1.5, null]"),
    ],
)
def test_a_cell_is_written_as_json(value: object, text: str) -> None:
    assert encode_cell(value) == text


@given(
    some.recursive(
        some.none()
        | some.booleans()
        | some.integers()
        | some.floats(allow_nan=False, allow_infinity=False)
        | some.text(),
        lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    )
)
def test_what_json_can_say_comes_back_as_it_was(value: object) -> None:
    assert decode_cell(encode_cell(value)) == value
    assert json.loads(encode_cell(value)) == value


_ANYTHING = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=3) | some.just(np.int8(1)),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.text(max_size=2) | some.integers(0, 9), inner, max_size=3)
        | some.tuples(inner)
    ),
    max_leaves=8,
)


@given(some.lists(_ANYTHING, max_size=5))
@settings(max_examples=50)
def test_many_cells_are_written_as_each_is_by_itself(cells: list[object]) -> None:
    try:
        expected = [None if cell is None else encode_cell(cell) for cell in cells]
    except FrameError as error:
        with pytest.raises(FrameError, match=re.escape(str(error))):
            json_array(cells)
    else:
        assert json_array(cells).storage.to_pylist() == expected


@pytest.mark.parametrize("count", [1, 3000])
def test_a_cell_that_holds_itself_is_refused(count: int) -> None:
    cell: list[object] = []
    cell += [cell] * count
    with pytest.raises(FrameError, match="contains itself"):
        encode_cell(cell)
    with pytest.raises(FrameError, match="contains itself"):
        json_array([cell, None])


@pytest.mark.parametrize(
    "value",
    [
        {datetime.date(2020, 1, 1): "a", "2020-01-01": "b"},
        {"1": "b", 1: "a"},
        {None: 1, "null": 2},
        {1.0: 1, "1.0": 2},
        [{"a": ({True: 1, "true": 2},)}],
        [{"a": [{1: 1, "1": 2}, decimal.Decimal(1)]}],
    ],
)
def test_a_dict_of_two_keys_with_one_text_is_refused_and_loses_neither(value: object) -> None:
    with pytest.raises(FrameError, match="two keys of a dict cell have the same text"):
        encode_cell(value)


def test_a_cell_that_is_nested_too_deeply_is_refused() -> None:
    cell: list[object] = []
    for _ in range(100_000):
        cell = [cell]
    with pytest.raises(FrameError, match="nested too deeply"):
        encode_cell(cell)


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        ("1.50", "1.5"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("-0.00", "0"),
        ("-2.5E-7", "-0.00000025"),
        ("12345678901234567890.123", "12345678901234567890.123"),
        ("9E+500", "9E+500"),
    ],
)
def test_a_decimal_is_a_number_of_its_own_digits_and_none_is_rounded_when_it_is_read(digits: str, text: str) -> None:
    assert encode_cell(decimal.Decimal(digits)) == text
    assert decode_cell(f'{{"a": {text}}}')["a"] == decimal.Decimal(digits) or decode_cell(text) == float(digits)
    assert isinstance(decode_cell(text), decimal.Decimal) is (digits in ("12345678901234567890.123", "9E+500"))


@pytest.mark.parametrize(
    "value",
    [
        datetime.date(2020, 1, 2),
        pd.Timestamp("0001-01-01").to_pydatetime(),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC),
        datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone(-datetime.timedelta(hours=5, minutes=30))),
        pd.Timestamp("2020-01-02 03:04:05.123456789"),
        datetime.time(3, 4, 5, 6),
        datetime.timedelta(microseconds=-1),
        datetime.timedelta.max,
        pd.Timedelta(-1, "ns"),
        b"P1DT2H3M",
        float("inf"),
        float("-inf"),
        "2020-01-02",
        "Infinity",
        decimal.Decimal("1.5"),
    ],
    ids=repr,
)
def test_a_value_of_a_mixed_column_is_known_for_what_it_was(value: Any) -> None:
    [text] = json_array([value], marked=True).storage.to_pylist()
    assert single_value(text) == value
    assert isinstance(single_value(text), str) is isinstance(value, str)
    assert json.loads(text) == json.loads(encode_cell(value))
    assert unmarked(json_array([value], marked=True)).storage.to_pylist() == [encode_cell(value)]


@pytest.mark.parametrize("value", [object(), 1j, np.longdouble(1)])
def test_what_has_no_exact_json_form_is_refused(value: object) -> None:
    with pytest.raises(FrameError):
        encode_cell(value if isinstance(value, dict) else [value])


def test_only_json_columns_are_json() -> None:
    assert is_json(JSON)
    assert is_json(pa.json_(pa.large_utf8()))
    assert not is_json(pa.utf8())
    assert not is_json(pa.uuid())
