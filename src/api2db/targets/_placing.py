"""Which columns of a frame a table can have: names that the server can't hold, and names that are one to it."""

from collections.abc import Callable, Collection, Mapping, Sequence

import pyarrow as pa

from api2db.errors import BatchRefusedError


def unplaced_names(
    names: Sequence[str],
    known: Collection[str],
    check: Callable[[str], object],
    same_column: Callable[[str, str], bool],
) -> dict[str, str]:
    """The names that a table can't have beside the others, each with the reason.

    Args:
        names: A frame's columns.
        known: Names that come first where two are one column: those of the table's columns, and of keys.
        check: Raises BatchRefusedError for a name that no column can have.
        same_column: Whether two names are one column to the target.
    """
    reasons: dict[str, str] = {}
    first: list[str] = []
    for name in sorted(names, key=lambda name: name not in known):
        try:
            check(name)
        except BatchRefusedError as error:
            reasons[name] = str(error)
            continue
        twin = next((other for other in first if same_column(name, other)), None)
        if twin is None:
            first.append(name)
        else:
            reasons[name] = (
                f"the columns {twin!r} and {name!r} are one column to the database; rename one before it is put"
            )
    return reasons


def placed(schema: pa.Schema, unplaced: Mapping[str, str], keys: Sequence[str] = ()) -> pa.Schema:
    """A schema without the columns that have no place.

    Raises:
        BatchRefusedError: Nothing is left, or a part of the key is not.
    """
    if not unplaced:
        return schema
    kept = [field for field in schema if field.name not in unplaced]
    if not kept or unplaced.keys() & {*keys}:
        raise BatchRefusedError("; ".join(unplaced[name] for name in (keys if kept else unplaced) if name in unplaced))
    return pa.schema(kept)
