"""Casts to the dtypes that a user has asked for: exact casts, and those that the dtype itself implies.

A dtype of text takes numbers, times and nested values, as JSON writes them. A dtype of floats takes the nearest float
to a fraction; a whole number is kept exactly or refused. Booleans and the numbers 0 and 1 become each other.
"""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import ConfigurationError
from api2db.frames._cells import decode_cell
from api2db.frames._exact import cast_exactly, nulled
from api2db.frames._kinds import JSON, is_binary, is_json, is_text
from api2db.frames._texts import is_fraction

_types = pa.types


def type_of_dtype(dtype: object) -> pa.DataType | None:
    """Return the plain Arrow type of a dtype; None for one that leaves values as they are, such as ``object``.

    Raises:
        ConfigurationError: It is not a dtype.
    """
    if dtype is None:  # which pandas takes for float64
        raise ConfigurationError("None is not a dtype; give one that DataFrame.astype accepts, such as 'float64'")
    try:
        known = pd.api.types.pandas_dtype(dtype)
        type_ = pa.Array.from_pandas(pd.Series([], dtype=known)).type
    # pandas raises the first three for what is not a dtype. Arrow raises its own for a dtype without an Arrow type.
    except (TypeError, ValueError, NotImplementedError, pa.ArrowException) as error:
        raise ConfigurationError(
            f"{dtype!r} is not a dtype: {error}; give one that DataFrame.astype accepts"
        ) from error
    if is_text(type_):
        return pa.utf8()
    if _types.is_float16(type_):
        return pa.float32()
    is_kept = any(is_kind(type_) for is_kind in _LEFT) or isinstance(type_, pa.BaseExtensionType)
    return None if is_kept else type_


_LEFT = (_types.is_null, _types.is_dictionary, _types.is_nested, _types.is_interval)


def cast_as_asked(array: pa.Array, to: pa.DataType) -> tuple[pa.Array, pa.Array | None]:
    """Cast as ``cast_exactly`` does, with the additional casts that a dtype implies."""
    if _types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array, pa.ChunkedArray):  # without chunks
        array = pa.array([], array.type)
    if is_text(to) and not is_text(array.type):
        return _as_text(array)
    if _types.is_boolean(array.type) and _types.is_integer(to):
        return array.cast(to), None
    if _types.is_integer(array.type) and _types.is_boolean(to):
        odd = pc.fill_null(pc.invert(pc.is_in(array, pa.array([0, 1], array.type))), False)
        odd = pc.and_(odd, array.is_valid())
        return nulled(array, odd).cast(to), odd if pc.any(odd).as_py() else None
    cast, inexact = cast_exactly(array, to, reads_text=True)
    return (cast, inexact) if inexact is None or not _types.is_floating(to) else _nearest(array, cast, inexact)


def _as_text(array: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    if is_binary(array.type):
        odd = array.is_valid()
        return pa.nulls(len(array), pa.utf8()), odd if pc.any(odd).as_py() else None
    if _types.is_integer(array.type) or _types.is_decimal(array.type):
        return array.cast(pa.utf8()), None
    cells = array if is_json(array.type) else cast_exactly(array, JSON)[0]
    return pa.array([None if text is None else _unquoted(text) for text in cells.storage.to_pylist()], pa.utf8()), None


def _unquoted(text: str) -> str:
    return str(decode_cell(text)) if text.lstrip().startswith('"') else text


def _nearest(array: pa.Array, cast: pa.Array, inexact: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Round fractions to a float; a value beyond the range of floats becomes null."""
    if _types.is_floating(array.type):
        fractions, floats = inexact, array.cast(cast.type, safe=False)
    elif _types.is_decimal(array.type) or is_text(array.type):
        texts = array.cast(pa.utf8())
        fractions = pc.and_(inexact, pc.fill_null(is_fraction(texts), False))
        floats = pc.if_else(fractions, texts, pa.scalar(None, pa.utf8())).cast(cast.type)
    else:
        return cast, inexact
    rounded = pc.and_(fractions, pc.fill_null(pc.is_finite(floats), False))
    left = pc.and_not(inexact, rounded)
    return pc.if_else(rounded, floats, cast), left if pc.any(left).as_py() else None
