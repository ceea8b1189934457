"""A check of each column for values that a table cannot hold exactly, before anything is sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames import cast_exactly, is_bytes, is_json, is_number, is_text, nulled, unmarked
from api2db.targets.port import Column
from api2db.targets.types import ValueLimit, in_words

_types = pa.types
_LONGEST_DECIMAL = 38
_LONGEST_SCALE = 30


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Values of one column that its type cannot hold.

    Attributes:
        column: The table's column; None if the table has none of this name.
        mask: True for each row with such a value.
        beyond: Why the target cannot hold the values in any column, or why the table cannot have the column.
        is_text: Whether these values are texts, though the column has others too, so that it is JSON.
    """

    name: str
    type: pa.DataType
    column: Column | None
    mask: pa.Array
    beyond: str = ""
    is_text: bool = False

    @property
    def reason(self) -> str:
        """The reason, for the person who reads the rejected rows."""
        if self.column is None:
            return self.beyond or f"the table has no column {self.name!r}"
        if self.beyond:
            return f"{self.name!r}: {self.beyond}"
        type_ = pa.string() if self.is_text else self.type
        remedy = _remedy(self.name, type_, self.column.type)
        return f"{self.name!r}: {in_words(type_)} does not fit the column's type {self.column.declared}{remedy}"


@dataclass(slots=True)
class Fitted:
    """A batch cast to a table's types.

    Attributes:
        rows: Under the table's own column names; null where a value did not fit.
        mismatches: The values that did not fit, one item for each column.
        truncated: Columns whose times lost digits below a microsecond, as ``docs/types.md`` says.
    """

    rows: pa.Table
    mismatches: list[Mismatch] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)


def fit(
    rows: pa.Table,
    columns: Sequence[Column],
    fold: Callable[[str], str] = str,
    limits: Sequence[ValueLimit] = (),
    unplaced: Mapping[str, str] = MappingProxyType({}),
) -> Fitted:
    """Cast every column to the type of the table's column.

    Args:
        fold: Names that are equal after it are the same column to the target, for instance in another case.
        limits: Values that the target cannot hold.
        unplaced: Columns that the table cannot have, each with the reason.
    """
    exact = {column.name: column for column in columns}
    folded = {fold(column.name): column for column in reversed(columns)}
    fitted = Fitted(rows)
    arrays, names = [], []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        home = exact.get(name) or folded.get(fold(name))
        if home is None or name in unplaced:
            if column.null_count < len(column):
                mask = pc.is_valid(column).combine_chunks()
                fitted.mismatches.append(Mismatch(name, column.type, None, mask, unplaced.get(name, "")))
            continue
        cast = _fit_column(name, column, home, fitted)
        arrays.append(_within(limits, name, cast, home, fitted))
        names.append(home.name)
    if not names:  # rows with nothing but nulls are loaded too
        some = next((column for column in columns if not column.fills), columns[0])
        arrays, names = [pa.nulls(rows.num_rows, some.type)], [some.name]
    fitted.rows = pa.table(arrays, names=names)
    return fitted


def _fit_column(name: str, column: pa.ChunkedArray, home: Column, fitted: Fitted) -> pa.ChunkedArray:
    if is_json(column.type) and is_json(home.type):
        return pa.chunked_array([unmarked(chunk) for chunk in column.chunks], column.type)
    if _same_kind(column.type, home.type) or (home.reads_text and is_text(column.type)):
        return column
    values = column.combine_chunks()
    if _loses_only_digits(values.type, home.type):
        fitted.truncated.append(name)
        values = _without_nanoseconds(values).cast(home.type)
    if _has_no_type(values.type) and is_text(home.type):
        values = values.cast(pa.string())
    cast, mask = cast_exactly(values, home.type, reads_text=True)
    if mask is not None:
        fitted.mismatches.append(Mismatch(name, column.type, home, mask, is_text=_are_texts(values, mask)))
    return pa.chunked_array([cast])


def _are_texts(values: pa.Array, mask: pa.Array) -> bool:
    """Whether all marked values of a column of JSON are texts."""
    if not is_json(values.type):
        return False
    return bool(pc.all(pc.starts_with(values.storage.filter(mask), '"')).as_py())


def _within(
    limits: Sequence[ValueLimit], name: str, column: pa.ChunkedArray, home: Column, fitted: Fitted
) -> pa.ChunkedArray:
    for limit in (limit for limit in limits if limit.applies(column.type)):
        values = column.combine_chunks()
        found = limit.finds(values)
        if found.true_count:
            beyond = found.fill_null(False)
            fitted.mismatches.append(Mismatch(name, column.type, home, beyond, limit.says))
            column = pa.chunked_array([nulled(values, beyond)])
    return column


def _same_kind(one: pa.DataType, other: pa.DataType) -> bool:
    return one.equals(other) or (is_text(one) and is_text(other)) or (is_bytes(one) and is_bytes(other))


def _without_nanoseconds(values: pa.Array) -> pa.Array:
    """Truncate to microseconds, rounding down, also before 1970."""
    ticks = values.cast(pa.int64())
    whole = np.floor_divide(ticks.fill_null(0).to_numpy(zero_copy_only=False), 1000)
    counts = pa.array(whole, pa.int64(), mask=ticks.is_null().to_numpy(zero_copy_only=False))
    type_ = values.type
    return counts.cast(pa.timestamp("us", type_.tz) if _types.is_timestamp(type_) else _MICROSECONDS[type_.id])


_MICROSECONDS = {pa.time64("ns").id: pa.time64("us"), pa.duration("ns").id: pa.duration("us")}


def _has_no_type(type_: pa.DataType) -> bool:
    """Whether it has more digits than the largest decimal type of some database."""
    return bool(_types.is_decimal(type_) and (type_.precision > _LONGEST_DECIMAL or type_.scale > _LONGEST_SCALE))


def _remedy(name: str, type_: pa.DataType, home: pa.DataType) -> str:
    """What the user can do about values that a column does not accept."""
    values = type_.value_type if _types.is_dictionary(type_) else type_
    if is_text(home) and not (is_text(values) or is_json(values) or is_bytes(values)):
        return f"; to store it as text, give the stream dtypes={{{name!r}: 'str'}}"
    if _types.is_list(home):
        item = "text" if is_text(home.value_type) else _taken(home.value_type) or "a value of its type"
        return f"; each item of the list must be {item}: correct the value, since dtypes= does not change items"
    if _may_be_text(values) and (said := _taken(home)):
        return f"; text is taken as {said}, nothing else: correct the value"
    if _types.is_integer(values) and _types.is_boolean(home):
        return f"; to store 0 and 1 as booleans, give the stream dtypes={{{name!r}: 'boolean'}}"
    if _types.is_boolean(values) and is_number(home):
        return f"; to store it as 0 or 1, give the stream dtypes={{{name!r}: 'Int64'}}"
    if is_number(values) and is_number(home):
        rounded = "" if _types.is_integer(values) else "round it to the digits that the type has, or "
        return f"; {rounded}give the column a type that holds it"
    return "; correct the value, or give the column another type"


def _taken(home: pa.DataType) -> str:
    """What text is taken as for a type; empty for types that take no text."""
    return next((said for is_kind, said in _TAKEN if is_kind(home)), "")


def _may_be_text(type_: pa.DataType) -> bool:
    return is_text(type_) or is_json(type_)


_TAKEN: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (_types.is_boolean, "true or false"),
    (_types.is_integer, "a whole number within the type's range, such as 42"),
    (_types.is_floating, "a number that a float holds, such as 0.5"),
    (_types.is_decimal, "a number with the digits that the type has, such as 19.99"),
    (_types.is_date, "an ISO 8601 date, such as 2026-03-29"),
    (
        lambda type_: bool(_types.is_timestamp(type_) and type_.tz),
        "an ISO 8601 timestamp with an offset and no finer than the type, such as 2026-03-29T01:30:00Z",
    ),
    (
        _types.is_timestamp,
        "an ISO 8601 timestamp without an offset and no finer than the type, such as 2026-03-29T01:30:00",
    ),
    (_types.is_time, "an ISO 8601 time no finer than the type, such as 01:30:00"),
)


def _loses_only_digits(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether nanoseconds go into a column of microseconds; they are truncated, with one warning."""
    both_zoned = _types.is_timestamp(one) and _types.is_timestamp(other) and (one.tz is None) == (other.tz is None)
    both_times = _types.is_time(one) and _types.is_time(other)
    both_durations = _types.is_duration(one) and _types.is_duration(other)
    return bool((both_zoned or both_times or both_durations) and one.unit == "ns" and other.unit == "us")
