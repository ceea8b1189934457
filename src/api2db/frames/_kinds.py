"""Kinds of Arrow types, without distinctions that matter only to Arrow."""

import pyarrow as pa

_TEXTS = frozenset({pa.utf8(), pa.large_utf8(), pa.string_view()})
_BINARIES = frozenset({pa.binary(), pa.large_binary(), pa.binary_view()})


def is_text(type_: pa.DataType) -> bool:
    """Whether a type is text, whatever the width of its offsets."""
    return type_ in _TEXTS


def is_binary(type_: pa.DataType) -> bool:
    """Whether a type is bytes of any length."""
    return type_ in _BINARIES
