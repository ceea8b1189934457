r"""Reads text that is exactly and unambiguously one value of another type.

Numbers are read as JSON writes them, ``true`` and ``false`` in any case, and dates, times and timestamps in ISO 8601. A
timestamp of a zoned type must have an offset, one of a naive type must not. Nothing is trimmed or guessed: ``007``,
``1,5``, `` 5``, ``29/03/2026`` and ``yes`` are not read.
"""

from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_types = pa.types
_WHOLE = "-?(?:0|[1-9][0-9]*)"
# Longer exponents would take unlimited memory.
_NUMBER = rf"{_WHOLE}(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{{1,3}})?"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY = (
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_OFFSET = "(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_FINE = r"\.[0-9]{7}"
_EXACT_DIGITS = {32: 6, 64: 15}  # digits that always survive a float
_USUAL = {32: (1e-37, 1e38), 64: (1e-290, 1e300)}
_SIDE_DIGITS = 38  # on each side of the point


def read_texts(texts: pa.Array, to: pa.DataType) -> Sequence[pa.Array]:
    """Read texts for a type, into arrays that are null where a text is not read.

    Returns:
        Arrays of types that can be cast to ``to``; at most one of them has a value for each text.
    """
    return next((read(texts.cast(pa.utf8()), to) for is_kind, read in _READERS if is_kind(to)), ())


def _matching(texts: pa.Array, pattern: str) -> pa.Array:
    return _where(pc.match_substring_regex(texts, f"^(?:{pattern})$"), texts)


def _where(mask: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(mask, texts, pa.scalar(None, texts.type))


def _booleans(texts: pa.Array, _to: pa.DataType) -> list[pa.Array]:
    lower = pc.utf8_lower(texts)
    return [_where(pc.is_in(lower, pa.array(["true", "false"])), lower).cast(pa.bool_())]


def _integers(texts: pa.Array, _to: pa.DataType) -> list[pa.Array]:
    whole = _matching(texts, _WHOLE)
    return [_where(pc.less_equal(pc.utf8_length(whole), 21), whole).cast(pa.decimal128(38, 0))]


def _floats(texts: pa.Array, to: pa.DataType) -> list[pa.Array]:
    """Read the nearest float, if its shortest digits are those of the text."""
    numbers = _matching(texts, _NUMBER)
    floats = numbers.cast(to)
    digits = pc.utf8_length(pc.replace_substring_regex(numbers, r"[eE].*|[-.]", ""))
    least, most = _USUAL[to.bit_width]
    size = pc.abs(floats.cast(pa.float64()))
    has_exponent = pc.match_substring_regex(numbers, "[eE]")
    unusual = pc.and_(has_exponent, pc.or_(pc.less(size, least), pc.greater(size, most)))
    doubtful = pc.or_(pc.or_(pc.greater(digits, _EXACT_DIGITS[to.bit_width]), unusual), pc.is_inf(floats))
    if not pc.any(doubtful).as_py():
        return [floats]
    values = floats.to_numpy(zero_copy_only=False)
    other = [
        bool(each) and (not np.isfinite(value) or Decimal(str(value)) != Decimal(text))
        for each, value, text in zip(doubtful.to_pylist(), values, numbers.to_pylist(), strict=True)
    ]
    return [pc.if_else(pa.array(other, pa.bool_()), pa.scalar(None, to), floats)]


def is_fraction(texts: pa.Array) -> pa.Array:
    """Mark the texts that are numbers with a point or an exponent."""
    return pc.and_(pc.match_substring_regex(texts, f"^{_NUMBER}$"), pc.match_substring_regex(texts, "[.eE]"))


def _decimals(texts: pa.Array, to: pa.DataType) -> list[pa.Array]:
    """Read numbers of usual length together, and the others, such as those with exponents, one by one."""
    numbers = _matching(texts, _NUMBER)
    short = pc.utf8_rtrim(pc.replace_substring_regex(numbers, r"(\.[0-9]*?)0*$", r"\1"), ".")
    whole = pc.utf8_length(pc.replace_substring_regex(short, r"^-|\..*", ""))
    behind = pc.subtract(pc.utf8_length(short), pc.utf8_length(pc.replace_substring_regex(short, r"\..*", "")))
    fits = pc.and_(pc.less_equal(whole, _SIDE_DIGITS), pc.less_equal(behind, _SIDE_DIGITS + 1))
    usual = pc.and_(pc.invert(pc.match_substring_regex(numbers, "[eE]")), fits)
    scale = max(0, (pc.max(_where(usual, behind)).as_py() or 0) - 1)
    digits = (pc.max(_where(usual, whole)).as_py() or 0) + scale
    type_ = pa.decimal128(38, scale) if digits <= 38 else pa.decimal256(76, scale)
    read = [_where(usual, short).cast(type_)]
    if pc.any(pc.invert(usual)).as_py():
        odd = _where(pc.invert(usual), numbers).to_pylist()
        read.append(pa.array([None if text is None else _decimal(text, to) for text in odd], to))
    return read


def _decimal(text: str, to: pa.DataType) -> Decimal | None:
    value = Decimal(text)
    if is_decimal_beyond(value, to.precision, to.scale):
        return None
    return Context(prec=len(text) + 1).normalize(value)


def is_decimal_beyond(value: Decimal | None, precision: int, scale: int) -> bool:
    """Whether a decimal has too many digits before or after the point."""
    return value is not None and (
        Fraction(value) * 10**scale % 1 != 0 or abs(Fraction(value)) * 10**scale >= 10**precision
    )


def _moments(texts: pa.Array, to: pa.DataType) -> list[pa.Array]:
    zone = "UTC" if _types.is_timestamp(to) and to.tz is not None else None
    pattern = f"{_DAY}[T ]{_CLOCK}{_OFFSET}" if zone else f"{_DAY}(?:[T ]{_CLOCK})?"
    moments = _matching(texts, pattern)
    moments = _where(pc.invert(pc.starts_with(moments, "0000")), moments)
    fine = pc.match_substring_regex(moments, _FINE)
    if not pc.any(fine).as_py():
        return [moments.cast(pa.timestamp("us", zone))]
    moments = pc.replace_substring_regex(moments, r"(\.[0-9]{6})0+", r"\1")
    fine = pc.match_substring_regex(moments, _FINE)
    within = pc.and_(pc.greater(moments, "1678"), pc.less(moments, "2262"))  # the range of nanoseconds
    return [
        _where(pc.invert(fine), moments).cast(pa.timestamp("us", zone)),
        _where(pc.and_(fine, within), moments).cast(pa.timestamp("ns", zone)),
    ]


def _times(texts: pa.Array, _to: pa.DataType) -> list[pa.Array]:
    return [times_of(_matching(texts, _CLOCK), pa.time64("ns"))]


def times_of(texts: pa.Array, to: pa.DataType) -> pa.Array:
    """Read ISO 8601 times as a type of times, by way of timestamps: Arrow reads a fraction of a second only in these.

    Raises:
        pyarrow.ArrowInvalid: A text is not a time.
    """
    moments = pc.binary_join_element_wise("1970-01-01T", texts, "").cast(pa.timestamp(to.unit))
    return moments.view(pa.int64()).cast(pa.int32() if to.bit_width == 32 else pa.int64()).view(to)


_READERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array, pa.DataType], Sequence[pa.Array]]], ...] = (
    (_types.is_boolean, _booleans),
    (_types.is_integer, _integers),
    (lambda type_: type_ in {pa.float32(), pa.float64()}, _floats),
    (_types.is_decimal, _decimals),
    (lambda type_: bool(_types.is_date(type_) or _types.is_timestamp(type_)), _moments),
    (_types.is_time, _times),
)
