"""Schemas unify to types that hold every value of all of them."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from api2db.errors import DataError
from api2db.frames import JSON, cast_exactly, conform, to_batch, unify, widened
from tests.frames.values import TYPES, arrays, same

_DICTIONARY = pa.dictionary(pa.int32(), pa.utf8())


@given(some.sampled_from(TYPES), some.sampled_from(TYPES))
def test_widening_does_not_mind_the_order(a: pa.DataType, b: pa.DataType) -> None:
    assert widened(a, b) == widened(b, a)


@given(some.sampled_from(TYPES), some.sampled_from(TYPES), some.sampled_from(TYPES))
def test_widening_again_changes_nothing(a: pa.DataType, b: pa.DataType, c: pa.DataType) -> None:
    both = widened(a, b)
    if both is not None:
        assert widened(both, a) == widened(both, b) == both
        all_three, other_way = widened(both, c), widened(b, c) and widened(a, widened(b, c))
        if all_three is None or other_way is None or all_three == other_way:
            return
        # An integer type has room for more digits than those that it was widened from; so has what is made of it.
        assert {all_three, other_way} == {pa.float32(), pa.float64()} or _are_of_one_scale(all_three, other_way)
        assert all(widened(wider, each) == wider for wider in (all_three, other_way) for each in (a, b, c))


def _are_of_one_scale(one: pa.DataType, other: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(one) and pa.types.is_decimal(other) and one.scale == other.scale)


@given(some.data(), some.sampled_from(TYPES), some.sampled_from(TYPES))
def test_both_types_are_held_exactly_by_the_wider(data: some.DataObject, a: pa.DataType, b: pa.DataType) -> None:
    both = widened(a, b)
    for type_ in (a, b) if both is not None else ():
        array = data.draw(arrays(type_, near=True))
        cast, inexact = cast_exactly(array, both)
        assert inexact is None
        assert all(same(*pair) for pair in zip(cast_exactly(cast, type_)[0], array, strict=True))


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        (pa.null(), pa.int64(), pa.int64()),
        (pa.null(), JSON, JSON),
        (pa.int8(), pa.int32(), pa.int32()),
        (pa.int8(), pa.uint8(), pa.int16()),
        (pa.int64(), pa.uint32(), pa.int64()),
        (pa.int64(), pa.uint64(), pa.decimal128(20, 0)),
        (pa.int8(), pa.float32(), pa.float32()),
        (pa.int32(), pa.float32(), pa.float64()),
        (pa.int64(), pa.float64(), None),
        (pa.int16(), pa.float16(), pa.float32()),
        (pa.int64(), pa.decimal128(10, 2), pa.decimal128(21, 2)),
        (pa.decimal128(38, 0), pa.decimal128(38, 38), pa.decimal256(76, 38)),
        (pa.decimal256(76, 0), pa.decimal128(38, 38), None),
        (pa.float64(), pa.decimal128(5, 2), None),
        (pa.bool_(), pa.int8(), None),
        (pa.utf8(), pa.int64(), None),
        (pa.utf8(), pa.large_utf8(), pa.large_utf8()),
        (pa.utf8(), _DICTIONARY, pa.utf8()),
        (_DICTIONARY, pa.dictionary(pa.int8(), pa.large_utf8()), pa.dictionary(pa.int32(), pa.large_utf8())),
        (_DICTIONARY, pa.int64(), None),
        (pa.binary(), pa.binary(4), pa.large_binary()),
        (pa.binary(), pa.utf8(), None),
        (pa.date32(), pa.date64(), pa.date64()),
        (pa.date32(), pa.timestamp("us"), pa.timestamp("us")),
        (pa.date64(), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.date32(), pa.timestamp("us", "UTC"), None),
        (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.timestamp("s"), pa.timestamp("s", "UTC"), None),
        (pa.timestamp("ms", "Europe/Paris"), pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("us", "UTC")),
        (pa.time32("s"), pa.time64("ns"), pa.time64("ns")),
        (pa.duration("s"), pa.duration("ns"), pa.duration("ns")),
        (JSON, pa.json_(pa.large_utf8()), JSON),
        (JSON, pa.utf8(), None),
    ],
)
def test_the_wider_of_two_types(a: pa.DataType, b: pa.DataType, both: pa.DataType | None) -> None:
    assert widened(a, b) == both
    assert widened(b, a) == both


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


def test_a_unified_schema_has_all_columns_in_order_of_first_appearance() -> None:
    schemas = [_schema(a=pa.null(), b=pa.int8()), _schema(c=pa.utf8(), a=pa.int64()), _schema(b=pa.int16())]
    assert unify(schemas) == _schema(a=pa.int64(), b=pa.int16(), c=pa.utf8())


def test_schemas_without_a_common_type_do_not_unify() -> None:
    assert unify([_schema(a=pa.int64()), _schema(a=pa.utf8())]) is None


def test_the_metadata_is_kept_only_where_all_schemas_agree() -> None:
    plain, told = _schema(a=pa.int8()), _schema(a=pa.int16()).with_metadata({b"pandas": b"{}"})
    kept, dropped = unify([told, plain.with_metadata(told.metadata)]), unify([told, plain])
    assert kept is not None
    assert dropped is not None
    assert kept.metadata == told.metadata
    assert dropped.metadata is None


def test_no_schemas_unify_to_no_columns() -> None:
    assert unify([]) == pa.schema([])


@given(some.lists(some.dictionaries(some.sampled_from("abc"), some.none() | some.integers(-(2**40), 2**40))))
def test_every_batch_conforms_to_the_schema_of_all(rows: list[dict[str, Any]]) -> None:
    batches = [to_batch([row]) for row in rows if row]
    schema = unify([batch.schema for batch in batches])
    assert schema is not None
    for row, batch in zip([row for row in rows if row], batches, strict=True):
        conformed = conform(batch, schema)
        assert conformed.schema == schema
        assert conformed.to_pylist() == [{name: row.get(name) for name in schema.names}]


def test_a_value_that_a_schema_can_not_hold_is_named() -> None:
    with pytest.raises(DataError, match="column 'a', row 1: int8 can't hold 300 exactly"):
        conform(to_batch([{"a": 1}, {"a": 300}]), _schema(a=pa.int8()))


def test_a_column_is_never_dropped_to_conform() -> None:
    with pytest.raises(DataError, match="no column 'b'"):
        conform(to_batch([{"a": 1, "b": 2}]), _schema(a=pa.int64()))
