"""Lossless decoding of JSON: integers of any size, and a Decimal where a float would not be exact."""

import json
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

from api2db.errors import PollError

_SURELY_EXACT: Final = 16
_SHOWN: Final = 60
_MOST_DIGITS: Final = 4_000
_READ: Final = 1 << 16
_BOM: Final = b"\xef\xbb\xbf"


def decode(body: bytes, max_depth: int, scrub: Callable[[str], str] = str) -> Any:
    """Decode a document.

    A number with a point or an exponent is a float if that is exact, else a Decimal. Text with half of a surrogate pair
    is kept: only its row is rejected later, not the whole page.

    Args:
        body: The document.
        max_depth: How deeply it may be nested.
        scrub: Hides secrets in what a message shows of it.

    Raises:
        PollError: It is not JSON, not UTF-8, or nested too deeply.
    """
    body = body.removeprefix(_BOM)
    try:
        found = _decode(body)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except UnicodeDecodeError as error:
        raise PollError(f"the response is not UTF-8: {error.reason} at byte {error.start}") from None
    except ValueError as error:
        raise PollError(f"the response is not JSON: {error}; it begins with {_head(body, scrub)}") from None
    _check_depth(found, max_depth)
    return found


def encode(value: Any) -> bytes:
    """Encode a value so that equal values give equal bytes."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value, sort_keys=True, default=str).encode()


def number(text: str) -> float | Decimal:
    """Convert a number with a point or an exponent to a float if that is exact, else to a Decimal."""
    value = float(text)
    if len(text) <= _SURELY_EXACT and "e" not in text and "E" not in text:
        return value
    return value if Decimal(repr(value)) == Decimal(text) else Decimal(text)


_encoder = msgspec.json.Encoder(order="sorted", decimal_format="string")
_decoder = msgspec.json.Decoder(float_hook=number)


def loads(text: str | bytes) -> Any:
    """Decode as the standard library does, which takes integers of any length and half of a surrogate pair.

    Raises:
        ValueError: It is not JSON.
    """
    return json.loads(text, parse_float=number, parse_int=_integer, parse_constant=_no_constant)


def _decode(body: bytes) -> Any:
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError:  # an integer of thousands of digits
        return loads(body)
    except msgspec.DecodeError:
        if b"\\ud" not in body and b"\\uD" not in body:
            raise
    return loads(body)


def _integer(text: str) -> int | Decimal:
    """Convert an integer; Python converts no more than 4,300 digits to an int."""
    return int(text) if len(text) <= _MOST_DIGITS else Decimal(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _check_depth(found: Any, max_depth: int) -> None:
    level: list[Any] = [found] if isinstance(found, (dict, list)) else []
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            raise _too_deep(max_depth)
        level = [item for container in level for item in _items(container) if type(item) is dict or type(item) is list]


def _items(container: Any) -> Iterable[Any]:
    return container.values() if type(container) is dict else container


def _too_deep(max_depth: int) -> PollError:
    return PollError(
        f"the response is nested deeper than {max_depth} levels; raise max_depth of RestApi if that is right"
    )


def _head(body: bytes, scrub: Callable[[str], str]) -> str:
    """The beginning of a body, cut after its secrets are hidden: half of one would not be recognised."""
    return repr(scrub(body[:_READ].decode("utf-8", "replace"))[:_SHOWN])
