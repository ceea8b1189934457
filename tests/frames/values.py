"""Arrow types that tables have, and arrays of any values they hold."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as some

_UNITS = ("s", "ms", "us", "ns")
_INTEGERS = tuple(getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64))
_DECIMALS = (
    pa.decimal128(4, 1),
    pa.decimal128(20, 0),
    pa.decimal128(38, 10),
    pa.decimal256(60, 20),
    pa.decimal256(76, 0),
)
_TICKS = (
    pa.date32(),
    *(pa.timestamp(unit, zone) for unit in _UNITS for zone in (None, "UTC", "Europe/Paris")),
    pa.time32("s"),
    pa.time64("us"),
    *(pa.duration(unit) for unit in _UNITS),
)
_TEXTS = (pa.utf8(), pa.large_utf8(), pa.dictionary(pa.int32(), pa.utf8()))
_BINARIES = (pa.binary(), pa.large_binary(), pa.binary(2))

TYPES = (pa.bool_(), *_INTEGERS, pa.float32(), pa.float64(), *_DECIMALS, *_TICKS, *_TEXTS, *_BINARIES)


def arrays(type_: pa.DataType, *, near: bool = False) -> some.SearchStrategy[pa.Array]:
    """Draw arrays of a type; near ones hold only moments that every unit reaches."""
    return some.lists(some.none() | _values(type_, near=near), min_size=1, max_size=5).map(
        lambda cells: pa.array(cells, type_)
    )


def _values(type_: pa.DataType, *, near: bool) -> some.SearchStrategy[Any]:
    if pa.types.is_boolean(type_):
        return some.booleans()
    if pa.types.is_integer(type_):
        return _integers(type_.bit_width, signed=pa.types.is_signed_integer(type_))
    if pa.types.is_floating(type_):
        return some.floats(width=type_.bit_width) | some.integers(-1000, 1000).map(float)
    if pa.types.is_decimal(type_):
        most = 10**type_.precision - 1
        whole = some.integers(-most, most) | some.integers(-99, 99)
        return whole.map(lambda digits: _decimal(digits, -type_.scale))
    if type_ in _TICKS:
        return _ticks(type_, near=near)
    if type_ in _TEXTS:
        return some.text(some.characters(exclude_categories=["Cs"]), max_size=5)
    return some.binary(min_size=2, max_size=2) if type_ == pa.binary(2) else some.binary(max_size=3)


def _integers(bits: int, *, signed: bool) -> some.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return some.integers(low, high) | some.integers(max(low, -9), 9)


def _decimal(digits: int, exponent: int) -> Decimal:
    return Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), exponent))


def _ticks(type_: pa.DataType, *, near: bool) -> some.SearchStrategy[int]:
    if pa.types.is_time(type_):
        return some.integers(0, 86_399 if type_ == pa.time32("s") else 86_399_999_999)
    if not near:
        return _integers(type_.bit_width, signed=True)
    century_s = 100 * 365 * 86_400
    most = 36_500 if pa.types.is_date(type_) else century_s * 1000 ** _UNITS.index(type_.unit)
    return some.integers(-most, most)


def same(a: pa.Scalar, b: pa.Scalar) -> bool:
    """Say whether two scalars of one type are equal, NaN being equal to itself."""
    if pa.types.is_floating(a.type) and a.is_valid and b.is_valid:
        return bool(a.as_py() == b.as_py() or (a.as_py() != a.as_py() and b.as_py() != b.as_py()))
    if pa.types.is_dictionary(a.type):
        return bool(a.as_py() == b.as_py())
    return bool(a.equals(b))
