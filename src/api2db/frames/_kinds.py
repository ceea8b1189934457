"""Groups of Arrow types that Arrow divides further than api2db needs."""

import pyarrow as pa

_TEXTS = frozenset({pa.utf8(), pa.large_utf8(), pa.string_view()})
_BINARIES = frozenset({pa.binary(), pa.large_binary(), pa.binary_view()})


def is_text(type_: pa.DataType) -> bool:
    """Whether a type is text, whatever the width of its offsets."""
    return type_ in _TEXTS


def is_binary(type_: pa.DataType) -> bool:
    """Whether a type is bytes of any length."""
    return type_ in _BINARIES
