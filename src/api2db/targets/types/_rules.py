"""The parts of a target's types: rules that map Arrow types to column types (the first match applies), and limits."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames import is_bytes, is_json, is_text

_types = pa.types
LONGEST_DECIMAL = 38
# Columns of users that hold fewer than six digits of a second.
SECONDS = re.compile(r"(timestamp|datetime|time)\(([0-5])\)( with(?:out)? time zone)?")
_TICKS_OF_A_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

Reading = Literal[
    "as it is",
    "0 or 1",
    "Decimal",
    "shortest digits of a float32",
    "the float nearest to it",
    "text of its digits",
    "text of its digits beyond 2⁵³, beside nulls",
    "text where it is infinite",
    "ISO text",
    "ISO text, in UTC",
    "ISO text, with the offset",
    "UTC, without a zone",
    "timedelta",
    "nanoseconds, an int",
    "a count of its unit",
    "text of its seconds",
    "base64 text",
    "JSON text",
    "parsed JSON",
    "text",
]


class Rule(NamedTuple):
    """A column type, the Arrow types that it is for, and how they are read back.

    Attributes:
        reads: The form in which the target's own client returns such a value.
    """

    applies: Callable[[pa.DataType], bool]
    name: Callable[[pa.DataType], str]
    reads: Reading = "as it is"


class ValueLimit(NamedTuple):
    """Values of a type that a target can't store. Their rows are rejected.

    Attributes:
        applies: Whether the limit applies to a type.
        finds: Marks the values beyond the limit; never a null.
        says: What is wrong with such a value, for readers of the rejected rows.
    """

    applies: Callable[[pa.DataType], bool]
    finds: Callable[[pa.Array], pa.Array]
    says: str


@dataclass(frozen=True, slots=True)
class Types:
    """All types of one target.

    Attributes:
        target: Its name, as shown to people.
        client: The client whose values ``Rule.reads`` describes.
        rules: The first match applies.
        back: Returns the Arrow type that holds the values of a column type; None if only the target knows it.
        otherwise: The column type of an Arrow type without a rule.
        limits: Values whose rows are rejected.
        signs_zero: Whether it distinguishes -0.0 from 0.0.
        has_nan: Whether it distinguishes NaN from null, as Arrow tables do; otherwise a NaN becomes a null.
        has_empty_text: Whether it stores empty text as such; otherwise it becomes a null.
        has_mixed: Whether it distinguishes a JSON number or boolean from text; otherwise its row is rejected.
        names: How it treats the case of column names, and which names it can't have; one or more sentences.
        notes: Other facts for the docs; one sentence each.
    """

    target: str
    client: str
    rules: Sequence[Rule]
    back: Callable[[str], pa.DataType | None]
    otherwise: str
    limits: Sequence[ValueLimit] = ()
    signs_zero: bool = True
    has_nan: bool = True
    has_empty_text: bool = True
    has_mixed: bool = True
    names: str = ""
    notes: Sequence[str] = ()

    def column(self, type_: pa.DataType) -> str | None:
        """Return the column type for an Arrow type; None for a column of nulls."""
        return by_rule(self.rules, type_, self.otherwise)

    def reads(self, type_: pa.DataType) -> Reading:
        """Return the form in which the target's client returns a value of an Arrow type."""
        if _types.is_dictionary(type_):
            return self.reads(type_.value_type)
        return next((rule.reads for rule in self.rules if rule.applies(type_)), "text of its digits")

    def cuts_nanoseconds(self, type_: pa.DataType) -> bool:
        """Whether the column has only microseconds for a type with nanoseconds. This is the one loss; it is logged."""
        column = self.column(type_)
        held = None if column is None else self.back(column)
        return held is not None and getattr(type_, "unit", None) == "ns" and getattr(held, "unit", None) == "us"


def by_rule(rules: Sequence[Rule], type_: pa.DataType, otherwise: str) -> str | None:
    """Return the column type of the first rule that applies; None for a column of nulls."""
    if _types.is_null(type_):
        return None
    if _types.is_dictionary(type_):
        return by_rule(rules, type_.value_type, otherwise)
    return next((rule.name(type_) for rule in rules if rule.applies(type_)), otherwise)


def is_exact_decimal(type_: pa.DataType) -> bool:
    """Whether it is a decimal with no more digits than the databases support."""
    return bool(_types.is_decimal(type_) and type_.precision <= LONGEST_DECIMAL)


def is_naive(type_: pa.DataType) -> bool:
    """Whether it is a timestamp without a zone."""
    return bool(_types.is_timestamp(type_) and type_.tz is None)


def named(name: str) -> Callable[[pa.DataType], str]:
    """Return the name function of a column type without parameters."""
    return lambda _: name


def in_words(type_: pa.DataType) -> str:
    """Return a type's name for people."""
    if _types.is_dictionary(type_):
        return in_words(type_.value_type)
    return "JSON" if is_json(type_) else "text" if is_text(type_) else "bytes" if is_bytes(type_) else str(type_)


def decimal_type(precision: int, scale: int) -> pa.DataType:
    """Return the Arrow decimal with these digits."""
    kind = pa.decimal128 if precision <= LONGEST_DECIMAL else pa.decimal256
    return kind(precision, scale)


def infinite(values: pa.Array) -> pa.Array:
    """Find the infinite floats."""
    return pc.is_inf(values)


def with_nul(values: pa.Array) -> pa.Array:
    """Find the texts that contain a NUL, in JSON also an escaped one."""
    if not is_json(values.type):
        return pc.match_substring(values, "\0") if _may_hold_nul(values) else _none_of(values)
    suspected = pc.match_substring(values.storage, "\\u0000")
    if not pc.any(suspected).as_py():
        return suspected
    return pc.match_substring_regex(values.storage, r"(^|[^\\])(\\\\)*\\u0000")


def _may_hold_nul(values: pa.Array) -> bool:
    """Whether the buffer of all texts contains a zero byte. Checks the buffer at once, including bytes behind nulls."""
    if not len(values):
        return False
    _, ends, text = values.buffers()
    offsets = np.frombuffer(ends, np.int64 if _types.is_large_string(values.type) else np.int32)
    first, last = offsets[values.offset], offsets[values.offset + len(values)]
    return bool(first < last and np.frombuffer(text, np.uint8)[first:last].min() == 0)


def endless(values: pa.Array) -> pa.Array:
    """Find the dates or timestamps whose count means infinity to some databases."""
    ticks = _ticks(values)
    most = 2**31 - 1 if _types.is_date32(values.type) else 2**63 - 1
    if _are_all_within(ticks, 1 - most, most - 1):
        return _none_of(ticks)
    return pc.or_(pc.equal(ticks, most), pc.equal(ticks, -most))


def nested_beyond(depth: int) -> Callable[[pa.Array], pa.Array]:
    """Find the JSON cells that are nested deeper than this."""

    def finds(values: pa.Array) -> pa.Array:
        suspected = pc.greater(pc.count_substring_regex(values.storage, r"[\[{]"), depth)
        if not pc.any(suspected).as_py():
            return suspected
        return pa.array([each and _depth(json.loads(text)) > depth for each, text in _both(suspected, values.storage)])

    return finds


def _depth(value: Any) -> int:
    """Count the levels of nested lists and dicts, without recursion, which deep values would exhaust."""
    depth, level = 0, [value]
    while nested := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [inner for each in nested for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def rounded_as_double(values: pa.Array) -> pa.Array:
    """Find the JSON cells with a number that is neither a 64-bit integer nor a double."""
    suspected = pc.match_substring_regex(values.storage, r"[0-9][0-9.]{15}")
    if not pc.any(suspected).as_py():
        return suspected
    return pa.array([each and _is_rounded(text) for each, text in _both(suspected, values.storage)])


def _both(suspected: pa.Array, texts: pa.Array) -> Iterator[tuple[bool | None, str]]:
    return zip(suspected.to_pylist(), texts.to_pylist(), strict=True)


def _is_rounded(text: str) -> bool:
    rounded = False

    def note(digits: str) -> None:
        nonlocal rounded
        whole = digits.lstrip("-").isdigit()
        kept = -(2**63) <= int(digits) < 2**64 if whole else Decimal(repr(float(digits))) == Decimal(digits)
        rounded = rounded or not kept

    json.loads(text, parse_int=note, parse_float=note)
    return rounded


def outside(first: str, last: str) -> Callable[[pa.Array], pa.Array]:
    """Find the dates or timestamps before the first day or after the last, both in ISO 8601."""
    low, high = (int(np.datetime64(day, "D").astype(np.int64)) for day in (first, last))

    def finds(values: pa.Array) -> pa.Array:
        ticks = values.cast(pa.date32()).cast(pa.int32()) if _types.is_date64(values.type) else _ticks(values)
        day = 1 if _types.is_date(values.type) else _TICKS_OF_A_DAY[values.type.unit]
        if _are_all_within(ticks, low * day, (high + 1) * day - 1):
            return _none_of(ticks)
        beyond = [pc.less(ticks, low * day)] if low * day >= -(2**63) else []
        beyond += [pc.greater_equal(ticks, (high + 1) * day)] if (high + 1) * day < 2**63 else []
        return pc.or_(*beyond) if len(beyond) == 2 else beyond[0]

    return finds


def _are_all_within(ticks: pa.Array, least: int, most: int) -> bool:
    """Whether all values are within the range, judged by the extremes. True for nearly every batch."""
    found = pc.min_max(ticks)
    low, high = found["min"].as_py(), found["max"].as_py()
    return bool(low is None or (low >= least and high <= most))


def _none_of(ticks: pa.Array) -> pa.Array:
    return pa.array(np.zeros(len(ticks), bool))


def _ticks(values: pa.Array) -> pa.Array:
    return values.view(pa.int32()).cast(pa.int64()) if _types.is_date32(values.type) else values.view(pa.int64())


def coarser(type_: pa.DataType | None, digits: int) -> pa.DataType | None:
    """A column of two digits would round the third: so no more is sent than the unit below holds."""
    if type_ is None or (_types.is_time(type_) and digits < 3):
        return None if type_ is None else pa.time32("s")
    if _types.is_time(type_):
        return pa.time32("ms")
    return pa.timestamp("ms" if digits >= 3 else "s", type_.tz)
