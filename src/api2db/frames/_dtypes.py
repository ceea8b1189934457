"""The pandas dtypes of a frame, as names that ``DataFrame.astype`` takes and JSON can hold."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from api2db.frames._kinds import is_text
from api2db.frames.unify import widened

_types = pa.types


def dtypes_of(schema: pa.Schema) -> dict[str, str]:
    """Return the dtype of each column: the one that the DataFrame had, if the schema records it, else a lossless one.

    So an int column that may hold nulls is ``Int64``, never ``float64``; a category is ``category`` whatever its
    values are. A column of nulls only has no dtype yet.
    """
    told = told_dtypes(schema)
    return {field.name: told.get(field.name) or _name_of(field) for field in schema if not _types.is_null(field.type)}


def told_dtypes(schema: pa.Schema) -> dict[str, str]:
    """Return the dtypes that the ``pandas`` metadata of a schema records."""
    described = json.loads((schema.metadata or {}).get(b"pandas", b'{"columns": []}'))
    return {str(column["field_name"]): _told_name(column) for column in described["columns"]}


def _told_name(column: Mapping[str, Any]) -> str:
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
        return whole_name(type_, nullable=field.nullable)
    if _types.is_timestamp(type_) or _types.is_duration(type_) or _types.is_floating(type_):
        return str(pd.Series(pa.array([], type_).to_pandas()).dtype)
    return _text_name() if is_text(type_) else "object"


def whole_name(type_: pa.DataType, *, nullable: bool) -> str:
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
    return whole_name(type_, nullable=True) if _types.is_integer(type_) or _types.is_boolean(type_) else name


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
