"""Columns of users that hold fewer than six digits of a second."""

import re

import pyarrow as pa

_types = pa.types
SECONDS = re.compile(r"(timestamp|datetime|time)\(([0-5])\)( with(?:out)? time zone)?")


def coarser(type_: pa.DataType | None, digits: int) -> pa.DataType | None:
    """Return a type with no more digits than the column holds: a column of two digits would round the third."""
    if type_ is None or (_types.is_time(type_) and digits < 3):
        return None if type_ is None else pa.time32("s")
    if _types.is_time(type_):
        return pa.time32("ms")
    return pa.timestamp("ms" if digits >= 3 else "s", type_.tz)
