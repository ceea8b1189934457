"""Arrow frames as DataFrames, for users' code and for the file formats that pandas writes, and the dtypes of frames.

A dtype is a name that ``DataFrame.astype`` takes and JSON can hold.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from api2db.frames._cells import decode_cell
from api2db.frames._kinds import is_json, is_text
from api2db.frames.unify import widened

_types = pa.types
_WORTH_FREEING_BYTES = 64 << 20
_WITHOUT_COPY: dict[str, Any] = {} if int(pd.__version__.split(".")[0]) >= 3 else {"copy": False}
_UNDECIDED = frozenset({"float64", "category"})
_FINE_TIME = pa.time64("ns")


def to_pandas(frame: pa.RecordBatch | pa.Table) -> pd.DataFrame:
    """Return a DataFrame with the dtypes that the frame had, if its schema records them.

    Ints and booleans with nulls take the nullable dtypes (``Int64``, ``boolean``) and never become floats. JSON cells
    become dicts, lists and so on again. Decimals, dates and times are Python objects.
    """
    table = pa.Table.from_batches([frame]) if isinstance(frame, pa.RecordBatch) else frame
    recorded = _recorded_dtypes(table.schema)
    ours = {
        name: place
        for place, name in enumerate(table.column_names)
        if _is_ours(table.column(place), recorded.get(name))
    }
    converted = _by_arrow(table.drop_columns(list(ours)), table.num_rows)
    for name, place in ours.items():
        converted.insert(place, name, _series(table.column(place), recorded.get(name)))
    return converted


def consumed_to_pandas(batches: list[pa.RecordBatch], schema: pa.Schema) -> pd.DataFrame:
    """Return the same as ``to_pandas`` for all batches together, in little more memory than the result takes.

    The batches are removed from the list. Their columns are converted and freed one by one, if nothing else holds them.
    """
    table = pa.Table.from_batches(batches, schema)
    batches.clear()
    if table.nbytes < _WORTH_FREEING_BYTES or not table.num_columns:
        return to_pandas(table)
    columns = table.columns[::-1]
    del table  # it would keep every column alive
    converted = []
    for field in schema:
        converted.append(to_pandas(pa.table([columns.pop()], pa.schema([field], schema.metadata))))
        pa.default_memory_pool().release_unused()
    joined: pd.DataFrame = pd.concat(converted, axis=1, **_WITHOUT_COPY)
    return joined


def _is_ours(column: pa.ChunkedArray, recorded: str | None) -> bool:
    """Whether Arrow's own conversion would lose something."""
    if is_json(column.type) or column.type == _FINE_TIME:
        return True
    if _types.is_null(column.type):
        return recorded in _UNDECIDED
    whole = _types.is_integer(column.type) or _types.is_boolean(column.type)
    return whole and column.null_count > 0 and not (recorded or "").endswith("[pyarrow]")


def _by_arrow(table: pa.Table, rows: int) -> pd.DataFrame:
    return (
        table.to_pandas()
        if table.num_columns
        else pd.DataFrame(index=pd.RangeIndex(rows), columns=pd.Index([], dtype=str))
    )


def _series(column: pa.ChunkedArray, recorded: str | None) -> "pd.Series[Any]":
    if _types.is_null(column.type):
        return pd.Series([None] * len(column), dtype=pd.api.types.pandas_dtype(recorded))
    if is_json(column.type):
        cells = [None if text is None else decode_cell(text) for text in column.cast(pa.utf8()).to_pylist()]
        return pd.Series(cells, dtype=object)
    if column.type == _FINE_TIME:  # Python's times hold only microseconds
        return pd.Series(pd.arrays.ArrowExtensionArray(column))
    dtype = pd.api.types.pandas_dtype(_whole_name(column.type, nullable=True))
    series: pd.Series[Any] = column.to_pandas(types_mapper=lambda _: dtype)
    return series


def dtypes_of(schema: pa.Schema) -> dict[str, str]:
    """Return the dtype of each column: the one that the DataFrame had, if the schema records it, else a lossless one.

    So an int column that may hold nulls is ``Int64``, never ``float64``; a category is ``category`` whatever its
    values are. A column of nulls only has no dtype yet.
    """
    recorded = _recorded_dtypes(schema)
    return {
        field.name: recorded.get(field.name) or _name_of(field) for field in schema if not _types.is_null(field.type)
    }


def _recorded_dtypes(schema: pa.Schema) -> dict[str, str]:
    """Return the dtypes that the ``pandas`` metadata of a schema records."""
    described = json.loads((schema.metadata or {}).get(b"pandas", b'{"columns": []}'))
    return {str(column["field_name"]): _recorded_name(column) for column in described["columns"]}


def _recorded_name(column: Mapping[str, Any]) -> str:
    if column["pandas_type"] == "categorical":
        return "category"
    name = str(column["numpy_type"])
    zone = (column["metadata"] or {}).get("timezone")
    return name if zone is None or "," in name else f"{name[:-1]}, {zone}]"


def _name_of(field: pa.Field) -> str:
    type_ = field.type
    if _types.is_dictionary(type_):
        return "category"
    if _types.is_integer(type_) or _types.is_boolean(type_):
        return _whole_name(type_, nullable=field.nullable)
    if _types.is_timestamp(type_) or _types.is_duration(type_) or _types.is_floating(type_):
        return str(pd.Series(pa.array([], type_).to_pandas()).dtype)
    return _text_name() if is_text(type_) else "object"


def _whole_name(type_: pa.DataType, *, nullable: bool) -> str:
    """Return the dtype of ints or booleans, with or without nulls."""
    name = "boolean" if _types.is_boolean(type_) else str(type_)
    if not nullable:
        return name.removesuffix("ean")
    return name if name == "boolean" else name.replace("uint", "UInt").replace("int", "Int", 1)


def _text_name() -> str:
    return str(pd.Series([""]).dtype)


def merge_dtypes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Join the dtypes of two frames: if they differ, the dtype that holds both, else ``object``.

    Whole numbers beside fractions become floats, as in a table, if floats hold them exactly. A column that one frame
    lacks is null there, so it takes a dtype that has nulls.
    """
    if not old or not new:
        return dict(old or new)
    return {
        name: _merged(old[name], new[name]) if name in old and name in new else _with_nulls(old.get(name) or new[name])
        for name in dict.fromkeys([*old, *new])
    }


def _with_nulls(name: str) -> str:
    type_ = _arrow_type(name)
    if type_ is None or pd.api.types.is_extension_array_dtype(pd.api.types.pandas_dtype(name)):
        return name
    return _whole_name(type_, nullable=True) if _types.is_integer(type_) or _types.is_boolean(type_) else name


def _merged(old: str, new: str) -> str:
    if old == new:
        return old
    types = _arrow_type(old), _arrow_type(new)
    common = None if None in types else widened(*types) or _common_float(*types)
    if common is None or "category" in (old, new):
        return "object"
    nullable = any(pd.api.types.is_extension_array_dtype(pd.api.types.pandas_dtype(name)) for name in (old, new))
    return _name_of(pa.field("", common, nullable=nullable))


def _common_float(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    kinds = (_types.is_integer, _types.is_floating)
    mixed = all(any(is_kind(type_) for type_ in (one, other)) for is_kind in kinds)
    return pa.float64() if mixed else None


def _arrow_type(name: str) -> pa.DataType | None:
    try:
        type_ = pa.Array.from_pandas(pd.Series([], dtype=pd.api.types.pandas_dtype(name))).type
    except (TypeError, ValueError, pa.ArrowException):
        return None
    return None if _types.is_null(type_) else type_
