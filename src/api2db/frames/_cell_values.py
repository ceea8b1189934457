"""The value of a Python object in a cell: a subclass as its base class, objects with one obvious text as text."""

import collections
import datetime
import decimal
import enum
import fractions
import ipaddress
import os
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError

KNOWN: frozenset[type] = frozenset(
    {
        *(type(None), bool, int, float, str, bytes, bytearray, decimal.Decimal),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, pd.Timestamp, pd.Timedelta),
        *(dict, list, tuple, set, frozenset),
    }
)
"""The classes whose objects are values themselves."""


def value_of(cell: Any) -> Any:
    """Return the value of an object, as an object of a class that JSON cells and Arrow columns know.

    An object of a subclass has the value of its base class, whatever the subclass's own ``__str__`` or ``__iter__``
    returns. An Enum member without such a base class is the member's value, or its name if its value is another
    object. Containers stay as they are, and so does an object without an obvious value.

    Raises:
        FrameError: It is a NumPy or Arrow time outside the range of both Python's and pandas' classes.
    """
    if type(cell) in KNOWN:
        return cell
    try:
        return next((of(cell) for classes, of in _VALUES if isinstance(cell, classes)), cell)
    except (OverflowError, ValueError) as error:
        raise FrameError(
            f"a cell of type {type(cell).__qualname__} is beyond the range of Python and pandas; convert it to text"
        ) from error


def _datetime(cell: datetime.datetime) -> datetime.datetime:
    """Convert to ``datetime``; pandas' classes hold nanoseconds and stay."""
    if isinstance(cell, pd.Timestamp):
        return cell
    return datetime.datetime.combine(_date(cell), _time(cell.timetz()))


def _date(cell: datetime.date) -> datetime.date:
    return datetime.date(cell.year, cell.month, cell.day)


def _time(cell: datetime.time) -> datetime.time:
    return datetime.time(cell.hour, cell.minute, cell.second, cell.microsecond, cell.tzinfo, fold=cell.fold)


def _timedelta(cell: datetime.timedelta) -> datetime.timedelta:
    if isinstance(cell, pd.Timedelta):
        return cell
    days, seconds, microseconds = (part.__get__(cell) for part in _PARTS)
    return datetime.timedelta(days, seconds, microseconds)


# A subclass may override these attributes: they are then not parts that add up.
_PARTS: tuple[Any, ...] = (datetime.timedelta.days, datetime.timedelta.seconds, datetime.timedelta.microseconds)


def _member(cell: enum.Enum) -> Any:
    value = value_of(cell.value)
    return value if type(value) in KNOWN else cell.name


def _numpy(cell: np.generic) -> Any:
    exact = not isinstance(cell, (np.longdouble, np.clongdouble))
    return value_of(cell.item()) if exact else cell


_VALUES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    ((type(pd.NA), type(pd.NaT)), lambda _: None),
    (np.datetime64, pd.Timestamp),
    (np.timedelta64, pd.Timedelta),
    (np.generic, _numpy),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda cell: b"".join((cell,))),
    ((bytearray, memoryview), bytes),
    (decimal.Decimal, decimal.Decimal),
    (datetime.datetime, _datetime),
    (datetime.date, _date),
    (datetime.time, _time),
    (datetime.timedelta, _timedelta),
    (enum.Enum, _member),
    (pa.Scalar, lambda cell: value_of(cell.as_py())),
    (os.PathLike, os.fsdecode),
    ((collections.UserString, fractions.Fraction, uuid.UUID, zoneinfo.ZoneInfo, pd.Interval, pd.Period), str),
    ((ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv6Address, ipaddress.IPv6Network), str),
)
