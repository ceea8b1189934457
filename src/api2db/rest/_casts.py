"""Casts of values to named types. A value that does not fit is refused, never changed."""

import datetime
import decimal
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pyarrow as pa

from api2db.errors import ConfigurationError
from api2db.rest._arguments import nearest
from api2db.rest._json import encode, loads

_DECIMAL: Final = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_MOST_DIGITS: Final = 76
_WORDS: Final = {"true": True, "false": False, "1": True, "0": False, "t": True, "f": False, "yes": True, "no": False}
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_exact: Final = decimal.Context(prec=100, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])
_NUMERAL: Final = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_BELOW_MICROSECONDS: Final = re.compile(r"[.,]\d{6}\d*[1-9]")
_MOST_EXPONENT: Final = 1_000
"""Beyond it a number is none that any type holds, and its arithmetic would take long."""


class Cast(NamedTuple):
    """A named type: its Arrow type, and the function that casts a value or raises ValueError."""

    column: pa.DataType
    value: Callable[[Any], Any]


def cast_named(name: object, where: str) -> Cast:
    """Return the cast of a name.

    Raises:
        ConfigurationError: The name is unknown.
    """
    if isinstance(name, str) and name in _CASTS:
        return _CASTS[name]
    found = _DECIMAL.fullmatch(name) if isinstance(name, str) else None
    if found and int(found[2]) <= int(found[1]) and 0 < int(found[1]) <= _MOST_DIGITS:
        return _decimal_cast(int(found[1]), int(found[2]))
    raise ConfigurationError(f"{where} is {name!r}{nearest(str(name), [*_CASTS, 'decimal(18,8)'])}")


def _decimal_cast(precision: int, scale: int) -> Cast:
    column = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    step = Decimal(1).scaleb(-scale)

    def value(found: Any) -> Decimal:
        number = _number(found)
        try:
            fitted = number.quantize(step, context=_exact)
        except (decimal.Inexact, decimal.InvalidOperation, decimal.Overflow):
            raise ValueError(f"has more than {scale} digits after the point") from None
        if fitted.adjusted() >= precision - scale:
            raise ValueError(f"has more than {precision - scale} digits before the point")
        return fitted

    return Cast(column, value)


def _number(found: Any) -> Decimal:
    if isinstance(found, bool) or not isinstance(found, (int, float, str, Decimal)):
        raise ValueError("is not a number")
    if isinstance(found, str) and not _NUMERAL.fullmatch(found):
        raise ValueError("is not a number")
    number = Decimal(repr(found) if isinstance(found, float) else found)
    if not number.is_finite():
        raise ValueError("is no finite number")
    if number and abs(number.adjusted()) > _MOST_EXPONENT:
        raise ValueError("is too large or too small for any type")
    return number


def _int(found: Any) -> int:
    number = _number(found)
    if number != number.to_integral_value() or not -(2**63) <= number < 2**63:
        raise ValueError("is not a whole number of 64 bits")
    return int(number)


def _float(found: Any) -> float:
    """The nearest float, where the number is how that float is written, with few digits or with all of them."""
    number = _number(found)
    value = float(number)
    if math.isinf(value) or (value == 0) != (number == 0):
        raise ValueError("is out of the range of a float")
    if Decimal(repr(value)) != number:
        digits = len(number.as_tuple().digits)
        if decimal.Context(prec=digits).create_decimal_from_float(value) != number:
            raise ValueError("has more digits than a float holds")
    return value


def _bool(found: Any) -> bool:
    if isinstance(found, bool):
        return found
    known = _WORDS.get(str(found).strip().lower()) if isinstance(found, (str, int)) else None
    if known is None:
        raise ValueError("is neither true nor false")
    return known


def _text(found: Any) -> str:
    if isinstance(found, str):
        return found
    return str(found) if isinstance(found, Decimal) else encode(found).decode()


def _date(found: Any) -> datetime.date:
    if not isinstance(found, str):
        raise ValueError("is not an ISO 8601 date")
    try:
        return datetime.date.fromisoformat(found.strip())
    except ValueError:
        raise ValueError("is not an ISO 8601 date") from None


def _timestamp(found: Any) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(found.strip())
    except (AttributeError, ValueError):
        raise ValueError("is not an ISO 8601 date and time") from None
    if _BELOW_MICROSECONDS.search(found):
        raise ValueError("has digits below a microsecond")
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except OverflowError:
        raise ValueError("is outside of the years 1 to 9999") from None


def _unix(ticks: int) -> Callable[[Any], datetime.datetime]:
    def value(found: Any) -> datetime.datetime:
        micros = _number(found) * (1_000_000 // ticks)
        if micros != micros.to_integral_value():
            raise ValueError("has digits below a microsecond")
        try:
            return _EPOCH + datetime.timedelta(microseconds=int(micros))
        except OverflowError:
            raise ValueError("is outside of the years 1 to 9999") from None

    return value


def _unix_ns(found: Any) -> int:
    ticks = _int(found)
    if ticks == -(2**63):  # Arrow's and pandas' NaT
        raise ValueError("is outside of the times that nanoseconds of 64 bits hold")
    return ticks


def _json_text(found: Any) -> Any:
    if not isinstance(found, str):
        return found
    try:
        return loads(found)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


_UTC_US: Final = pa.timestamp("us", "UTC")
_CASTS: Final[dict[str, Cast]] = {
    "bool": Cast(pa.bool_(), _bool),
    "date": Cast(pa.date32(), _date),
    "float": Cast(pa.float64(), _float),
    "int": Cast(pa.int64(), _int),
    "json": Cast(pa.json_(pa.utf8()), _json_text),
    "text": Cast(pa.utf8(), _text),
    "timestamp": Cast(_UTC_US, _timestamp),
    "unix_s": Cast(_UTC_US, _unix(1)),
    "unix_ms": Cast(_UTC_US, _unix(1_000)),
    "unix_us": Cast(_UTC_US, _unix(1_000_000)),
    "unix_ns": Cast(pa.timestamp("ns", "UTC"), _unix_ns),
}
