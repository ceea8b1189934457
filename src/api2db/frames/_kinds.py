"""Kinds of Arrow types, without distinctions that matter only to Arrow."""

import pyarrow as pa

JSON: pa.DataType = pa.json_(pa.utf8())
"""The type of JSON cells."""
_TEXTS = frozenset({pa.utf8(), pa.large_utf8(), pa.string_view()})
_BINARIES = frozenset({pa.binary(), pa.large_binary(), pa.binary_view()})


def is_json(type_: pa.DataType) -> bool:
    """Whether a column of this type holds JSON cells."""
    return isinstance(type_, pa.BaseExtensionType) and type_.extension_name == "arrow.json"


def is_text(type_: pa.DataType) -> bool:
    """Whether a type is text, in any of Arrow's layouts."""
    return type_ in _TEXTS


def is_binary(type_: pa.DataType) -> bool:
    """Whether a type is bytes of any length, in any of Arrow's layouts."""
    return type_ in _BINARIES


def is_bytes(type_: pa.DataType) -> bool:
    """Whether a type is bytes, of any or of a fixed length."""
    return is_binary(type_) or type(type_) is pa.FixedSizeBinaryType


def is_number(type_: pa.DataType) -> bool:
    """Whether a type is an integer, a float or a decimal."""
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def plain(type_: pa.DataType) -> pa.DataType:
    """Return a type without distinctions that only Arrow makes: dictionaries and large offsets."""
    if pa.types.is_dictionary(type_):
        return plain(type_.value_type)
    if pa.types.is_large_string(type_):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(type_) else type_
