"""What the types of lakes share: how a declared type is read, and the years that every reader has."""

import re
from collections.abc import Callable, Collection, Mapping

import pyarrow as pa

from api2db.targets.types._rules import ValueLimit, outside

_types = pa.types
_DECIMAL = re.compile(r"decimal\((\d+),\s*(\d+)\)")


def reader_of(
    known: Mapping[str, pa.DataType], list_name: str, repeatable: Collection[str]
) -> Callable[[str], pa.DataType]:
    """Return the function from a declared type, with the mark of api2db in brackets, to its Arrow type.

    It returns null for a column that api2db writes only nulls to.

    Args:
        known: Arrow types by declared type, but for decimals and lists.
        list_name: What a list is called, as in ``array<long>``.
        repeatable: The declared types of which there are lists.
    """
    list_of = re.compile(rf"{list_name}<(.+)>")

    def read(declared: str) -> pa.DataType:
        if found := _DECIMAL.fullmatch(declared):
            return pa.decimal128(int(found[1]), int(found[2]))
        if found := list_of.fullmatch(declared):
            return pa.list_(known[found[1]]) if found[1] in repeatable else pa.null()
        return known.get(declared.removesuffix(" (undecided)"), pa.null())

    return read


def limit_of_years(target: str) -> ValueLimit:
    """Return the limit of dates and timestamps in a kind of lake."""
    return ValueLimit(
        lambda type_: bool(_types.is_date(type_) or _types.is_timestamp(type_)),
        outside("0001-01-01", "9999-12-31"),
        f"outside the years 1 to 9999, which every reader of {target} has",
    )
