"""What a target has no place for, as the table of types tells it."""

import json

import pyarrow as pa

from api2db.frames import is_json
from api2db.targets.types import Types


def reasons_of(types: Types, values: pa.Array) -> list[str | None]:
    """Why each value's row is rejected; None where it is held."""
    if is_json(values.type) and not types.has_mixed:
        return [_reason_of_scalar(types, values.type, text) for text in values.storage.to_pylist()]
    held = _as_held(types, values)
    found = [(limit.says, limit.finds(held).fill_null(False)) for limit in types.limits if limit.applies(held.type)]
    return [next((says for says, beyond in found if beyond[row].as_py()), None) for row in range(len(values))]


def _reason_of_scalar(types: Types, type_: pa.DataType, text: str | None) -> str | None:
    is_scalar = text is not None and not isinstance(json.loads(text), (str, list, dict))
    said = (
        f"JSON does not fit the column's type {types.column(type_)}; correct the value, or give the column another type"
    )
    return said if is_scalar else None


def _as_held(types: Types, values: pa.Array) -> pa.Array:
    """As their column has them, where they can be that; what can't be is another test's."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    column = types.back(str(types.column(values.type)))
    if column is None or values.type.equals(column) or pa.types.is_null(values.type):
        return values
    if is_json(values.type) and not is_json(column):
        values = values.storage
    try:
        return values.cast(column)
    except pa.ArrowException:
        return values
