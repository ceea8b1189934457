"""Rows that replace others by key: which files have those, and what is left of these files."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.targets.iceberg._place import library

_types = pa.types
_AT, _FROM = "at", "from"


class Replaced(NamedTuple):
    """A file that a commit removes.

    Attributes:
        left: Its rows that stay; None for none.
    """

    file: Any
    left: pa.Table | None = None


def near(rows: pa.Table, keys: Sequence[str]) -> Any:
    """The condition that the rows with one of some keys meet, and maybe others."""
    expressions = library("expressions")
    found = expressions.AlwaysTrue()
    for key in keys:
        values = rows.column(key)
        type_ = values.type
        if not (_types.is_integer(type_) or _types.is_string(type_) or _types.is_date(type_)):
            continue
        ends = pc.min_max(values).as_py()
        if ends["min"] is not None:
            least = expressions.GreaterThanOrEqual(key, _literal(ends["min"]))
            most = expressions.LessThanOrEqual(key, _literal(ends["max"]))
            found = expressions.And(found, expressions.And(least, most))
    return found


def merged(
    there: Iterable[tuple[Any, pa.Table]], rows: pa.Table, given: Sequence[str], keys: Sequence[str]
) -> tuple[pa.Table, list[Replaced]]:
    """Find what rows replace.

    Args:
        there: Files, each with its rows.
        rows: Rows with all columns of the table, or at least the keys.
        given: The columns of ``rows`` that count; the others keep the values that are there.
        keys: The columns that identify a row.

    Returns:
        The rows, with those values, and the files with rows that have one of the keys.
    """
    wanted = _numbered(rows, rows.schema, keys, _FROM)
    kept = [name for name in rows.column_names if name not in given]
    replaced, old_values, places = [], [], []
    for file, held in there:
        kept += [name for name in held.column_names if name not in {*kept, *given}]  # of types that only others write
        pairs = _numbered(held, rows.schema, keys, _AT).join(wanted, wanted.column_names[:-1], join_type="inner")
        if not pairs.num_rows:
            continue
        at = pairs.column(_AT).combine_chunks()
        stays = np.ones(held.num_rows, bool)
        stays[at.to_numpy()] = False
        left = held.filter(pa.array(stays))
        replaced.append(Replaced(file, left if left.num_rows else None))
        old_values.append(held.select(kept).take(at))
        places.append(pairs.column(_FROM).to_numpy())
    if not replaced or not kept:
        return rows, replaced
    return _with_old(rows, pa.concat_tables(old_values), np.concatenate(places)), replaced


def _with_old(rows: pa.Table, old: pa.Table, places: Any) -> pa.Table:
    """Rows with old values in some columns: the first of ``old`` belongs to the row at the first place, and so on."""
    source = np.zeros(rows.num_rows, np.int64)
    source[places] = np.arange(len(places))
    is_new = np.ones(rows.num_rows, bool)
    is_new[places] = False
    taken = old.take(pa.array(source, mask=is_new))
    for name in old.column_names:
        number = rows.schema.get_field_index(name)
        if number < 0:
            rows = rows.append_column(taken.schema.field(name), taken.column(name))
        else:
            field = rows.schema.field(number)
            rows = rows.set_column(number, field, taken.column(name).cast(field.type))
    return rows


def _numbered(rows: pa.Table, schema: pa.Schema, keys: Sequence[str], number: str) -> pa.Table:
    """The keys under names of their own, and the number of each row."""
    columns = {f"key{place}": rows.column(key).cast(schema.field(key).type) for place, key in enumerate(keys)}
    return pa.table({**columns, number: np.arange(rows.num_rows)})


def _literal(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.date) else value
