"""A cast holds a value exactly, or says that it does not."""

import datetime
import decimal
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from api2db.frames import JSON, cast_exactly
from tests.frames.values import TYPES, arrays, same

_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001


@given(some.data(), some.sampled_from(TYPES), some.sampled_from(TYPES))
def test_what_is_not_masked_comes_back_as_it_was(
    data: some.DataObject, source: pa.DataType, target: pa.DataType
) -> None:
    array = data.draw(arrays(source))
    cast, inexact = cast_exactly(array, target)
    assert cast.type == target
    cast.validate(full=True)
    redact = [False] * len(array) if inexact is None else inexact.to_pylist()
    back, lost = cast_exactly(cast, source)
    assert lost is None
    for before, after, there, masked_here in zip(array, back, cast, redact, strict=True):
        assert masked_here == (before.is_valid and not there.is_valid)
        assert masked_here or same(before, after)


@given(some.data(), some.sampled_from(TYPES))
def test_a_cast_to_its_own_type_changes_nothing(data: some.DataObject, type_: pa.DataType) -> None:
    array = data.draw(arrays(type_))
    assert cast_exactly(array, type_) == (array, None)


@pytest.mark.parametrize(
    ("source", "values", "target", "expected", "redact"),
    [
        (pa.int64(), [1, 300, -1, None], pa.uint8(), [1, None, None, None], [1, 2]),
        (pa.uint64(), [2**63, 5], pa.int64(), [None, 5], [0]),
        (pa.int64(), [2**53 + 1, 2**62, 2**63 - 1], pa.float64(), [None, 2.0**62, None], [0, 2]),
        (pa.uint64(), [2**64 - 1, 2**63], pa.float64(), [None, 2.0**63], [0]),
        (pa.int32(), [2**24 + 1, 2**24], pa.float32(), [None, 2.0**24], [0]),
        (
            pa.float64(),
            [1.0, 1.5, float("nan"), 2.0**63, -(2.0**63)],
            pa.int64(),
            [1, None, None, None, -(2**63)],
            [1, 2, 3],
        ),
        (pa.float64(), [0.1, 0.5, 1e300, float("inf")], pa.float32(), [None, 0.5, None, float("inf")], [0, 2]),
        (
            pa.float64(),
            [0.1, 0.123, 999.999, float("nan")],
            pa.decimal128(5, 2),
            [Decimal("0.10"), None, None, None],
            [1, 2, 3],
        ),
        (pa.decimal128(22, 1), [Decimal("0.1"), Decimal("123456789012345678901.1")], pa.float64(), [0.1, None], [1]),
        (
            pa.decimal128(6, 2),
            [Decimal("1.50"), Decimal("1.55"), Decimal("1000.00")],
            pa.decimal128(4, 1),
            [Decimal("1.5"), None, None],
            [1, 2],
        ),
        (pa.decimal128(5, 1), [Decimal("5.0"), Decimal("5.5"), Decimal("300.0")], pa.int8(), [5, None, None], [1, 2]),
        (pa.decimal256(76, 0), [Decimal(10**75), Decimal(5)], pa.decimal128(38, 2), [None, Decimal("5.00")], [0]),
        (pa.utf8(), ["1", None], pa.int64(), [None, None], [0]),
        (pa.int64(), [1], pa.utf8(), [None], [0]),
        (pa.bool_(), [True], pa.int64(), [None], [0]),
        (pa.timestamp("us"), [_EPOCH], pa.timestamp("us", "UTC"), [None], [0]),
        (pa.timestamp("us"), [5, 10**6], pa.timestamp("s"), [None, _EPOCH + datetime.timedelta(seconds=1)], [0]),
        (pa.timestamp("s"), [32503680000], pa.timestamp("ns"), [None], [0]),
        (pa.timestamp("us"), [_EPOCH, 1], pa.date32(), [datetime.date(1970, 1, 1), None], [1]),
        (pa.date32(), [1], pa.timestamp("us"), [_EPOCH + datetime.timedelta(days=1)], []),
        (pa.date64(), [86_400_000 * 2**31, 0], pa.date32(), [None, datetime.date(1970, 1, 1)], [0]),
        (pa.time64("us"), [1, 1000], pa.time32("ms"), [None, datetime.time(0, 0, 0, 1000)], [0]),
        (pa.binary(), [b"ab", b"a"], pa.binary(2), [b"ab", None], [1]),
        (pa.utf8(), ["a", None], pa.dictionary(pa.int8(), pa.large_utf8()), ["a", None], []),
        (pa.utf8(), ["a", None], JSON, ['"a"', None], []),
        (pa.float64(), [0.5, float("inf"), float("nan")], JSON, ["0.5", None, None], [1]),
        (
            pa.timestamp("s"),
            [0, 2**50],
            JSON,
            ['"1970-01-01T00:00:00"', '"1125899906842624 s since 1970"'],
            [],
        ),
    ],
)
def test_values_that_do_not_fit_are_masked(
    source: pa.DataType, values: list[Any], target: pa.DataType, expected: list[Any], redact: list[int]
) -> None:
    cast, inexact = cast_exactly(pa.array(values, source), target)
    assert cast.to_pylist() == expected
    assert cast.type == target
    assert [place for place in range(len(values)) if inexact is not None and inexact[place].as_py()] == redact
    assert (inexact is None) == (not redact)


def test_json_may_be_kept_as_text() -> None:
    cells = pa.ExtensionArray.from_storage(JSON, pa.array(['{"a": 1}', None], pa.utf8()))
    cast, inexact = cast_exactly(cells, pa.large_utf8())
    assert (cast.to_pylist(), inexact) == (['{"a": 1}', None], None)


@pytest.mark.parametrize(
    ("texts", "to", "expected", "redact"),
    [
        (['"x"', "1", '{"a": 1}', "true", None], pa.utf8(), ["x", None, '{"a": 1}', None, None], [1, 3]),
        (
            ["1", '"1"', "2.0", "2.5", "true", "[]", "9999999999999999999"],
            pa.int64(),
            [1, None, 2, None, None, None, None],
            [1, 3, 4, 5, 6],
        ),
        (["0.5", "1", "9007199254740993"], pa.float64(), [0.5, 1.0, None], [2]),
        (["true", "1", None], pa.bool_(), [True, None, None], [1]),
        (["18446744073709551615", "123456789012345678901234567890123456789012"], pa.uint64(), [2**64 - 1, None], [1]),
        (['"1970-01-01"'], pa.date32(), [None], [0]),
        ([' "1970-01-02"', '"1970-01-02"', '"n/a"'], pa.date32(), [datetime.date(1970, 1, 2), None, None], [1, 2]),
        ([' "1970-01-02"', ' "01:00:00+00:00"', '\t"eA=="'], pa.time64("us"), [None, None, None], [0, 1, 2]),
        (['\t"eA=="', '"eA=="', "1.25"], pa.binary(), [b"x", None, None], [1, 2]),
        ([' "Infinity"', '"Infinity"'], pa.float64(), [float("inf"), None], [1]),
        (
            ["1.25", "12345678901234567890.5", '"1"'],
            pa.decimal128(38, 2),
            [Decimal("1.25"), Decimal("12345678901234567890.5"), None],
            [2],
        ),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_json_cell_of_one_value_is_that_value(
    texts: list[str | None], to: pa.DataType, expected: list[Any], redact: list[int]
) -> None:
    cells = pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))
    cast, inexact = cast_exactly(cells, to)
    assert (cast.type, cast.to_pylist()) == (to, expected)
    assert [place for place in range(len(texts)) if inexact is not None and inexact[place].as_py()] == redact


def test_decimals_keep_every_digit() -> None:
    exact = decimal.Context(prec=38).create_decimal("12345678901234567890123456789012345.67")
    cast, inexact = cast_exactly(pa.array([exact]), pa.decimal256(50, 10))
    assert inexact is None
    assert cast[0].as_py() == exact
