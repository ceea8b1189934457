"""The rules by which a table follows the data: names it cannot have, columns to add, types to widen.

These are the rules of ``schema="evolve"`` that SQL databases, BigQuery and HeavyDB share. They do no I/O.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import pyarrow as pa

from api2db.errors import BatchRefusedError
from api2db.frames import widened
from api2db.targets.port import Column

# All integers up to this one are exact in a double.
_LARGEST_EXACT_INTEGER = 2**53
Fold = Callable[[str], str]
TypeName = Callable[[pa.DataType], str | None]


def unplaced_names(
    names: Sequence[str], known: Collection[str], check: Callable[[str], object], fold: Fold
) -> dict[str, str]:
    """The names that a table cannot have beside the others, each with the reason.

    Args:
        names: A frame's columns.
        known: Names that take precedence if two are the same column: the table's columns, and keys.
        check: Raises BatchRefusedError for a name that no column can have.
        fold: Names that are equal after it are the same column to the target.
    """
    reasons: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name not in known):
        try:
            check(name)
        except BatchRefusedError as error:
            reasons[name] = str(error)
            continue
        twin = first.setdefault(fold(name), name)
        if twin != name:
            reasons[name] = (
                f"the columns {twin!r} and {name!r} are one column to the database; rename one before it is put"
            )
    return reasons


def placed(schema: pa.Schema, unplaced: Mapping[str, str], keys: Sequence[str] = ()) -> pa.Schema:
    """A schema without the columns that the table cannot have.

    Raises:
        BatchRefusedError: No column is left, or a part of the key is missing.
    """
    if not unplaced:
        return schema
    kept = [field for field in schema if field.name not in unplaced]
    if not kept or unplaced.keys() & {*keys}:
        raise BatchRefusedError("; ".join(unplaced[name] for name in (keys if kept else unplaced) if name in unplaced))
    return pa.schema(kept)


def typed_columns(schema: pa.Schema, type_name: TypeName) -> list[tuple[str, str]]:
    """Name and type of each column; columns of nulls are left out, since a later value decides their type."""
    return [(field.name, declared) for field in schema if (declared := type_name(field.type)) is not None]


def new_columns(schema: pa.Schema, columns: Sequence[Column], fold: Fold, type_name: TypeName) -> list[tuple[str, str]]:
    """Name and type of each column that a schema has and the table lacks."""
    known = {fold(column.name) for column in columns}
    return [(name, declared) for name, declared in typed_columns(schema, type_name) if fold(name) not in known]


def replacement_columns(
    schema: pa.Schema, columns: Sequence[Column], wanted: Callable[[pa.Field, Column | None], Column]
) -> list[Column]:
    """The columns of a table that becomes the newest frame.

    Args:
        wanted: The column for a field, given the table's column of the same name.
    """
    known = {column.name: column for column in columns}
    return [wanted(field, known.get(field.name)) for field in schema]


def wider_type(
    column: Column, to: pa.DataType, *, is_undecided: Callable[[], bool], is_exact_as_float: Callable[[], bool]
) -> pa.DataType | None:
    """The type that holds the column's values and another type's exactly; None if there is none.

    Args:
        is_undecided: Whether the column was created for nulls and has no value yet, so that it can take any type.
        is_exact_as_float: Whether no row meets ``inexact_as_float``; asked for a column of integers.
    """
    wider = widened(column.type, to)
    if wider is not None:
        return wider
    if is_undecided():
        return to
    if pa.types.is_integer(column.type) and pa.types.is_floating(to):
        return pa.float64() if is_exact_as_float() else None
    return None


def inexact_as_float(name: str) -> str:
    """The SQL condition for an integer that may not be exact as a float; the name is quoted."""
    return f"{name} > {_LARGEST_EXACT_INTEGER} OR {name} < -{_LARGEST_EXACT_INTEGER}"
