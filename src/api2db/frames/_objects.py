"""Python objects of one column as an Arrow array, without changing a value.

``pa.array`` alone would turn True into 1.0 beside a float, turn a datetime into a date beside a date, cut nanoseconds,
and hide that a time is naive beside a zoned one. So the classes of the values decide first.
"""

import datetime
import decimal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames._cell_values import KNOWN, value_of
from api2db.frames._cells import encode_cell, json_array

# Arrow raises these if a type can't hold a value; its other errors for that are TypeErrors and ValueErrors too.
_UNFIT = (OverflowError, TypeError, ValueError, pa.ArrowNotImplementedError)
_INT_TYPES = (pa.int64(), pa.uint64(), pa.decimal128(38, 0))
_QUICK = frozenset({str, int, bool, type(None)})
_FLOATS = frozenset({float, type(None)})
_NESTED = frozenset({dict, list, type(None)})
_NONE = type(None)


def array_of_objects(values: Sequence[Any] | np.ndarray, column: str) -> pa.Array:
    """Build an array that holds these values exactly; missing ones (None, NaN, NaT, NA) become nulls.

    Each value is what ``value_of`` returns for it. One class gets its own type (an int stays an int beside nulls).
    Ints with floats become float64 if that is exact, and dates with datetimes without a zone become timestamps.
    Anything else, and any other mix, becomes JSON cells.

    Raises:
        FrameError: A text is not valid Unicode, or a cell has no JSON form; it names the column and the row.
    """
    classes = set(map(type, values))
    if not classes:
        return pa.nulls(0)
    try:
        if len(classes) <= 2 and classes <= _QUICK and (len(classes) == 1 or _NONE in classes):
            return _quick_array(values, classes)
        if classes <= _FLOATS:
            return _quick_floats(values)
        if classes <= _NESTED:
            return json_array(values)
        return _array_of_present(*_without_missing(values, classes))
    except (FrameError, UnicodeEncodeError, decimal.InvalidOperation) as error:
        raise _located(error, values, column) from error


def _quick_array(values: Sequence[Any] | np.ndarray, classes: set[type]) -> pa.Array:
    return _ints(list(values)) if int in classes else pa.array(values)


def _quick_floats(values: Sequence[Any] | np.ndarray) -> pa.Array:
    array = pa.array(values, pa.float64(), from_pandas=True)
    return array if array.null_count < len(array) else pa.nulls(len(array))


def _without_missing(values: Sequence[Any] | np.ndarray, classes: set[type]) -> tuple[list[Any], set[type]]:
    cells = values if isinstance(values, np.ndarray) else np.fromiter(values, object, len(values))
    if not classes <= KNOWN:
        cells = np.fromiter(map(value_of, cells), object, len(cells))
    present = [None if missing else cell for cell, missing in zip(cells, pd.isna(cells), strict=True)]
    return present, set(map(type, present)) - {_NONE}


def _mixed(cells: list[Any]) -> pa.Array:
    return json_array(cells, marked=True)


def _array_of_present(cells: list[Any], classes: set[type]) -> pa.Array:
    if not classes:
        return pa.nulls(len(cells))
    try:
        return _builder(classes)(cells)
    except UnicodeEncodeError:
        raise
    except _UNFIT:
        return _mixed(cells)


def _builder(classes: set[type]) -> Callable[[list[Any]], pa.Array]:
    for kinds, build in _BUILDERS:
        if all(issubclass(class_, kinds) for class_ in classes) and (bool in kinds or bool not in classes):
            return build
    return _mixed


def _ints(cells: list[Any]) -> pa.Array:
    for type_ in _INT_TYPES:
        try:
            return pa.array(cells, type_)
        except _UNFIT:
            continue
    return _mixed(cells)


def _floats(cells: list[Any]) -> pa.Array:
    floats = pa.array([cell if cell is None else float(cell) for cell in cells], pa.float64())
    if any(isinstance(cell, int) and cell != float(cell) for cell in cells):
        raise ValueError("an int that no float holds")
    return floats


def _decimals(cells: list[Any]) -> pa.Array:
    return pa.array([decimal.Decimal(cell) if isinstance(cell, int) else cell for cell in cells])


def _texts(cells: list[Any]) -> pa.Array:
    return pa.array(cells, pa.utf8())


def _blobs(cells: list[Any]) -> pa.Array:
    return pa.array(cells, pa.binary())


def _dates(cells: list[Any]) -> pa.Array:
    moments = [cell for cell in cells if isinstance(cell, datetime.datetime)]
    if not moments:
        return pa.array(cells, pa.date32())
    if any(moment.tzinfo is not None for moment in moments):
        return _mixed(cells)  # A date is its midnight, but not an instant.
    return _datetimes([_midnight(cell) if type(cell) is datetime.date else cell for cell in cells])


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime(day.year, day.month, day.day)  # noqa: DTZ001 - it has no zone


def _datetimes(cells: list[Any]) -> pa.Array:
    zones = {None if cell.tzinfo is None else str(cell.tzinfo) for cell in cells if cell is not None}
    if (None in zones and len(zones) > 1) or any(map(_is_beyond_python, cells)):
        return _mixed(cells)
    unit = "ns" if any(getattr(cell, "nanosecond", 0) for cell in cells) else "us"
    if None in zones:
        return pa.array(cells, pa.timestamp(unit))
    zoned = pa.array(cells).type.tz if len(zones) == 1 else "UTC"
    return pa.array(cells, pa.timestamp(unit, zoned))


def _is_beyond_python(cell: datetime.datetime | None) -> bool:
    """Whether it is a pandas Timestamp in a year outside the range of datetime: Arrow would read it as 1970."""
    return cell is not None and not datetime.MINYEAR <= cell.year <= datetime.MAXYEAR


def _times(cells: list[Any]) -> pa.Array:
    if any(cell is not None and cell.tzinfo is not None for cell in cells):
        return _mixed(cells)
    return pa.array(cells, pa.time64("us"))


def _durations(cells: list[Any]) -> pa.Array:
    unit = "ns" if any(getattr(cell, "nanoseconds", 0) for cell in cells) else "us"
    return pa.array(cells, pa.duration(unit))


_BUILDERS: tuple[tuple[tuple[type, ...], Callable[[list[Any]], pa.Array]], ...] = (
    ((bool,), lambda cells: pa.array(cells, pa.bool_())),
    ((int,), _ints),
    ((int, float), _floats),
    ((int, decimal.Decimal), _decimals),
    ((str,), _texts),
    ((bytes, bytearray), _blobs),
    ((datetime.datetime,), _datetimes),
    ((datetime.date,), _dates),
    ((datetime.time,), _times),
    ((datetime.timedelta,), _durations),
)


def _located(error: Exception, values: Sequence[Any] | np.ndarray, column: str) -> FrameError:
    for row, value in enumerate(values):
        if isinstance(value, decimal.Decimal) and value.is_snan():
            return FrameError(f"column {column!r}, row {row}: a signalling NaN is not a value; put None instead")
        try:
            encode_cell(value).encode()
        except UnicodeEncodeError:
            return FrameError(
                f"column {column!r}, row {row}: the text holds half of a surrogate pair, which is not a character; "
                "clean it with text.encode('utf-8', 'replace').decode()"
            )
        except FrameError as cause:
            return FrameError(f"column {column!r}, row {row}: {cause}")
    return FrameError(f"column {column!r}: {error}")
