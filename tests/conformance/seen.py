"""What a client handed out, said in the words of columns.py, once its form is the one that the table of types tells."""

import base64
import datetime
import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.frames import is_bytes, is_json, is_text
from api2db.targets.types._rules import Reading
from tests.conformance.columns import NS_OF_A_DAY, NS_OF_A_SECOND, bits, seconds_of

_types = pa.types
_TICK_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?")
_MOMENT = re.compile(r"(-?\d{4,6}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(?:Z|([+-])(\d\d):?(\d\d))?")


def seen(value: Any, type_: pa.DataType, reading: Reading) -> Any:
    """One value.

    Raises:
        AssertionError: It is in another form than the table of types says.
    """
    if value is None or value is pd.NA or value is pd.NaT or _is_nan(value):
        return None  # a NaN is a missing value as pandas has it
    if _types.is_dictionary(type_):
        return seen(value, type_.value_type, reading)
    for applies, kind in _KINDS:
        if applies(type_):
            return kind(value, type_, reading)
    raise AssertionError(f"no test knows {type_}")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is(value: Any, *classes: type) -> None:
    assert isinstance(value, classes), f"{value!r} is {type(value).__name__}"
    assert bool in classes or not isinstance(value, bool), value


def _flag(value: Any, _type: pa.DataType, reading: Reading) -> bool:
    if reading == "text":
        return {"true": True, "false": False}[value]
    _is(value, int) if reading == "0 or 1" else _is(value, bool, np.bool_)
    return {0: False, 1: True}[int(value)]


def _integer(value: Any, _type: pa.DataType, reading: Reading) -> int:
    classes: dict[Reading, tuple[type, ...]] = {
        "as it is": (int, np.integer),
        "Decimal": (Decimal,),
        "text of its digits": (str,),
        "text of its digits beyond 2⁵³, beside nulls": (int, str),
    }
    _is(value, *classes[reading])
    return int(value)


def _float(value: Any, type_: pa.DataType, reading: Reading) -> str:
    _is(value, str) if reading == "text of its digits" else _is(value, float, np.floating, *_infinite(reading))
    number = float(value)
    if reading == "shortest digits of a float32" or (isinstance(value, str) and type_ == pa.float32()):
        number = float(np.float32(number))
    elif type_ == pa.float32():
        # JSON and Parquet's Python values have the digits of the float32, not of the double nearest to them.
        assert bits(float(np.float32(number)), 32) == bits(number, 32)
    return bits(number, type_.bit_width)


def _infinite(reading: Reading) -> tuple[type, ...]:
    return (str,) if reading == "text where it is infinite" else ()


def _decimal(value: Any, _type: pa.DataType, reading: Reading) -> Decimal:
    if reading == "the float nearest to it":
        _is(value, float)
        return Decimal(repr(value))
    _is(value, str) if reading == "text of its digits" else _is(value, Decimal)
    return Decimal(value)


def _text(value: Any, _type: pa.DataType, _reading: Reading) -> str:
    _is(value, str)
    return str(value)


def _blob(value: Any, _type: pa.DataType, reading: Reading) -> bytes:
    if reading == "base64 text":
        return base64.b64decode(value, validate=True)
    _is(value, bytes)
    return bytes(value)


def _date(value: Any, _type: pa.DataType, reading: Reading) -> int:
    if reading == "ISO text":
        return int(np.datetime64(value, "D").astype(int))
    assert type(value) is datetime.date
    return (value - datetime.date(1970, 1, 1)).days


def _time(value: Any, _type: pa.DataType, reading: Reading) -> int:
    if reading == "timedelta":
        return _span_ns(value)
    found = _CLOCK.fullmatch(value if reading == "ISO text" else "")
    if found:
        hours, minutes, seconds = (int(part) for part in found.groups()[:3])
        return ((hours * 60 + minutes) * 60 + seconds) * NS_OF_A_SECOND + int((found[4] or "0").ljust(9, "0"))
    if isinstance(value, datetime.time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * NS_OF_A_SECOND + value.microsecond * 1000
    _is(value, int)  # Arrow's nanoseconds
    return int(value)


def _moment(value: Any, type_: pa.DataType, reading: Reading) -> int:
    if isinstance(value, np.datetime64):  # which has no zone
        assert type_.tz is None or reading == "UTC, without a zone", value
        return int(value.astype("datetime64[ns]").astype(np.int64))
    if isinstance(value, str):
        assert reading.startswith("ISO text"), value
        return _moment_of_text(value, zoned=type_.tz is not None)
    _is(value, datetime.datetime)
    assert (value.tzinfo is not None) == (type_.tz is not None and reading != "UTC, without a zone"), value
    if isinstance(value, pd.Timestamp):
        return seconds_of(value) * NS_OF_A_SECOND + int(value.microsecond * 1000 + value.nanosecond)
    zone = datetime.UTC if value.tzinfo else None
    since = value - datetime.datetime(1970, 1, 1, tzinfo=zone)
    return _span_ns(since)


def _moment_of_text(text: str, *, zoned: bool) -> int:
    found = _MOMENT.fullmatch(text)
    assert found, text
    assert (found[3] is not None or text.endswith("Z")) == zoned, text
    day = int(np.datetime64(found[1], "D").astype(int))
    offset = 0 if found[3] is None else (int(found[4]) * 60 + int(found[5])) * 60 * (1 if found[3] == "+" else -1)
    return day * NS_OF_A_DAY + _time(found[2], pa.time64("ns"), "ISO text") - offset * NS_OF_A_SECOND


def _span(value: Any, type_: pa.DataType, reading: Reading) -> int:
    if reading == "nanoseconds, an int":
        _is(value, int)
        return int(value)
    if reading == "a count of its unit":
        _is(value, int, str)
        return int(value) * _TICK_NS[type_.unit]
    if reading == "text of its seconds":
        return int(Decimal(value.removesuffix(" seconds")) * NS_OF_A_SECOND)
    if isinstance(value, pa.MonthDayNano):
        assert value.months == 0
        return int(value.days) * NS_OF_A_DAY + int(value.nanoseconds)
    return _span_ns(value)


def _span_ns(value: Any) -> int:
    _is(value, datetime.timedelta)
    if isinstance(value, pd.Timedelta):
        return int(value.to_timedelta64().astype("timedelta64[ns]").astype(np.int64))
    return int((value.days * 86_400 + value.seconds) * NS_OF_A_SECOND + value.microseconds * 1000)


def _json(value: Any, _type: pa.DataType, reading: Reading) -> Any:
    if reading == "JSON text":
        _is(value, str)
        return json.loads(value)
    return value


_KINDS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any, pa.DataType, Reading], Any]], ...] = (
    (is_json, _json),
    (_types.is_boolean, _flag),
    (_types.is_integer, _integer),
    (_types.is_floating, _float),
    (_types.is_decimal, _decimal),
    (is_text, _text),
    (is_bytes, _blob),
    (_types.is_date, _date),
    (_types.is_time, _time),
    (_types.is_timestamp, _moment),
    (_types.is_duration, _span),
)
