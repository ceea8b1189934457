"""What a target has no place for, as the table of types tells it."""

import pyarrow as pa

from api2db.frames import is_json
from api2db.targets.types import Types


def reasons_of(types: Types, values: pa.Array) -> list[str | None]:
    """Why each value's row is rejected; None where it is held."""
    held = _as_held(types, values)
    found = [(limit.says, limit.finds(held).fill_null(False)) for limit in types.limits if limit.applies(held.type)]
    return [next((says for says, beyond in found if beyond[row].as_py()), None) for row in range(len(values))]


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
