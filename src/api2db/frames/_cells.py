"""JSON cells: dicts, lists and mixed values, which no column type holds, kept as JSON text.

A JSON cell holds what JSON can express. Other values are converted: a Decimal becomes a number with all its digits,
dates and times ISO 8601, bytes base64, a set a list sorted by its texts, NaN and other missing values ``null``, an
infinity the text ``"Infinity"``. Every other object becomes what ``value_of`` returns for it, such as a path's text.

If a value of a mixed column is not a text but is written as one, a blank comes before it: a space, or a tab for bytes.
JSON ignores the blank; ``single_value`` uses it to recover the value.
"""

import base64
import datetime
import decimal
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import FrameError
from api2db.frames._cell_values import value_of
from api2db.frames._kinds import JSON, is_json

_SINGLE = frozenset({str, int, float, bool, type(None)})
_PLAIN = _SINGLE | {dict, list}
_MOST_WITHIN = 1000
_MOST_LEVELS = 100
_WRITTEN_PLAIN = frozenset({str, int, bool})
_BLANK, _BLANK_OF_BYTES = " ", "\t"
_NOT_EXACT_AS_FLOAT = re.compile(r"[0-9][0-9.]{15}|[0-9][eE]")
_LONGEST_EXPONENT = 400
_DURATION = re.compile(r"P(-?\d+)DT(\d+)H(\d+)M(\d+)(?:\.(\d+))?S")


def encode_cell(value: object) -> str:
    """Write one cell as JSON text, with characters as they are rather than escaped.

    Raises:
        FrameError: Part of the value has no JSON form, the value contains itself, or two keys of a dict have the same
            text.
    """
    try:
        return _encode_plain(value) if _is_plain(value) else _text(value)
    except RecursionError:
        raise FrameError("a cell contains itself or is nested too deeply for JSON; flatten it before the put") from None
    except (TypeError, ValueError):
        return _text(value)


def decode_cell(text: str) -> Any:
    """Read what ``encode_cell`` wrote: dicts, lists, texts, booleans, None, and numbers, without rounding.

    A number that no float holds is a Decimal.
    """
    return _decode_exactly(text) if _NOT_EXACT_AS_FLOAT.search(text) else json.loads(text)


def single_value(text: str) -> Any:
    """Read as ``decode_cell`` does; a text that represents a date, a time, bytes or an infinity becomes that again."""
    value = decode_cell(text)
    if not isinstance(value, str) or text[0] == '"':
        return value
    try:
        return base64.b64decode(value, validate=True) if text[0] == _BLANK_OF_BYTES else _parsed(value)
    except ValueError:
        return value


def json_array(values: Iterable[object], *, marked: bool = False) -> pa.Array:
    """Encode every value as a JSON cell; a None is a null, not the text ``null``.

    Args:
        values: Of any classes.
        marked: Whether to mark values that are written as text, so that ``single_value`` can recover them.

    Raises:
        FrameError: A value has no JSON form.
        UnicodeEncodeError: A text holds half of a surrogate pair.
    """
    texts: Iterable[str | None] | None = None
    if not marked:
        values = list(values)
        texts = _plain_texts(values)
    if texts is None:
        encode = _encode_marked if marked else encode_cell
        texts = [None if value is None else encode(value) for value in values]
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))


def _plain_texts(values: list[Any]) -> list[str | None] | None:
    """Encode many values at once; return None if JSON's own encoder is not safe for all of them."""
    present = [value for value in values if value is not None]
    if not _are_plain(present):
        return None
    try:
        texts = list(map("".join, map(_chunks, present, repeat(0))))
    except (TypeError, ValueError, RecursionError):
        return None
    if len(present) == len(values):
        return texts  # type: ignore[return-value]
    rest = iter(texts)
    return [None if value is None else next(rest) for value in values]


def _are_plain(values: list[Any]) -> bool:
    """Like ``_is_plain``, for many values: it looks at all of them level by level, which takes half the time.

    It gives up at many levels, or if one has far more values than there were: a value may contain itself.
    """
    most = (len(values) + _MOST_WITHIN) * _MOST_WITHIN
    for _ in range(_MOST_LEVELS):
        classes = set(map(type, values))
        if not classes <= _PLAIN:
            return False
        dicts, lists = _of_class(dict, values, classes), _of_class(list, values, classes)
        if not dicts and not lists:
            return True
        if not set(map(type, chain.from_iterable(dicts))) <= {str}:
            return False
        below = chain(chain.from_iterable(map(dict.values, dicts)), chain.from_iterable(lists))
        values = list(islice(below, most))
        if len(values) == most:
            return False
    return False


def _of_class(class_: type, values: list[Any], classes: set[type]) -> list[Any]:
    if class_ not in classes:
        return []
    return values if len(classes) == 1 else [value for value in values if value.__class__ is class_]


def json_cells(array: pa.Array) -> pa.Array:
    """Return a column of any type as JSON cells, whose values ``single_value`` recovers."""
    return array if is_json(array.type) else json_array(python_values(array), marked=True)


def text_cells(array: pa.Array) -> pa.Array:
    """Return a column of any type as text: texts as they are, other values as ``encode_cell`` writes them."""
    cells = json_cells(array).storage.to_pylist()
    return pa.array([None if cell is None else _without_quotes(cell.lstrip()) for cell in cells], pa.large_utf8())


def _without_quotes(cell: str) -> str:
    return str(json.loads(cell)) if cell.startswith('"') else cell


def base64_texts(array: pa.Array) -> pa.Array:
    """Return bytes as base64 text."""
    return pa.array(
        [None if value is None else base64.b64encode(value).decode() for value in array.to_pylist()], pa.utf8()
    )


def unmarked(array: pa.Array) -> pa.Array:
    """Return JSON cells without the blanks by which ``single_value`` recognizes values that are not text."""
    return pa.ExtensionArray.from_storage(array.type, pc.ascii_ltrim(array.storage, _BLANK + _BLANK_OF_BYTES))


def python_values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values as Python objects; times outside the range of Python, such as the year 10000, as text."""
    try:
        values: list[Any] = array.to_pylist()
    except (OverflowError, ValueError):
        return [_python_value(scalar) for scalar in array]
    return values


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        text = str(scalar.value) if pa.types.is_duration(scalar.type) else str(scalar.cast(pa.utf8()))
        return text if not text.startswith("<") else f"{scalar.value} {getattr(scalar.type, 'unit', 'days')} since 1970"


def _encode_plain(value: object) -> str:
    return "".join(_chunks(value, 0))


def _encoder() -> Callable[[object, int], Iterable[str]]:
    """Return what ``JSONEncoder.encode`` makes for every value again."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)
    make, text = getattr(json.encoder, "c_make_encoder", None), getattr(json.encoder, "encode_basestring", None)
    if make is None or text is None:
        return lambda value, _level: encoder.iterencode(value)
    chunks: Callable[[object, int], Iterable[str]] = make(
        None, encoder.default, text, None, encoder.key_separator, encoder.item_separator, False, False, False
    )
    return chunks


_chunks = _encoder()


def _is_plain(value: object) -> bool:
    """Whether JSON's own encoder is safe: it silently gives two keys the same text, such as 1 and "1"."""
    class_ = value.__class__
    if class_ is dict:
        for key in value:  # type: ignore[attr-defined]
            if key.__class__ is not str:
                return False
        value = value.values()  # type: ignore[attr-defined]
    elif class_ is not list:
        return class_ in _SINGLE
    for item in value:  # type: ignore[attr-defined] # noqa: SIM110 - all() takes twice as long
        if item.__class__ not in _SINGLE and not _is_plain(item):
            return False
    return True


def _encode_marked(value: object) -> str:
    text = encode_cell(value)
    if text[0] != '"':
        return text
    if isinstance(value, (bytes, bytearray)):
        return _BLANK_OF_BYTES + text
    return _BLANK + text if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, float)) else text


def _text(cell: Any) -> str:
    value = value_of(cell)
    class_ = type(value)
    if value is None or class_ in _WRITTEN_PLAIN:
        return _encode_plain(value)
    if class_ is float:
        return _float_text(value)
    if isinstance(value, Mapping):
        return _mapping_text(value)
    if isinstance(value, AbstractSet):
        return f"[{', '.join(sorted(map(_text, value)))}]"
    if isinstance(value, (np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)):
        return f"[{', '.join([_text(item) for item in _items(value)])}]"
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return f"[{', '.join([_text(item) for item in value])}]"
    return _scalar_text(value)


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "null"
    if math.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    return float.__repr__(value)


def _decimal_text(value: decimal.Decimal) -> str:
    """Write the number without trailing zeros: their count is lost anyway if other values of its column are finer."""
    if not value.is_finite():
        return _float_text(float("nan") if value.is_nan() else float(value))
    if not value:
        return "0"
    if abs(value.adjusted()) > _LONGEST_EXPONENT:
        return str(value)
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _mapping_text(mapping: Mapping[Any, Any]) -> str:
    encoded = {_key(key): _text(value) for key, value in mapping.items()}
    if len(encoded) != len(mapping):
        raise FrameError(f"two keys of a dict cell have the same text; its keys are {list(mapping)!r}; rename one")
    return "{" + ", ".join([f"{_encode_plain(key)}: {text}" for key, text in encoded.items()]) + "}"


def _key(key: object) -> str:
    value = value_of(key)
    if isinstance(value, str):
        return value
    text = _text(value)
    return str(json.loads(text)) if text.startswith('"') else text


def _items(values: Any) -> Iterable[object]:
    if values.dtype.kind in "mM" and isinstance(values, np.ndarray):
        boxed = pd.to_datetime if values.dtype.kind == "M" else pd.to_timedelta
        return [boxed(row) if values.ndim == 1 else row for row in values]
    return list(values) if not isinstance(values, np.ndarray) or values.ndim else [values.item()]


def _scalar_text(value: Any) -> str:
    if isinstance(value, np.longdouble):
        raise FrameError("a cell of type longdouble has no JSON form; convert it to a float or a Decimal first")
    for kinds, text in _TEXTS:
        if isinstance(value, kinds):
            return text(value)
    raise FrameError(f"a cell of type {type(value).__qualname__} has no JSON form; convert it to text or numbers first")


def _duration_text(value: datetime.timedelta) -> str:
    """Write it as pandas does, whose own class has a smaller range."""
    if isinstance(value, pd.Timedelta):
        return _encode_plain(value.isoformat())
    minutes, seconds = divmod(value.seconds, 60)
    fraction = f".{value.microseconds:06}".rstrip("0").rstrip(".")
    return f'"P{value.days}DT{minutes // 60}H{minutes % 60}M{seconds}{fraction}S"'


_TEXTS: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (decimal.Decimal, _decimal_text),
    (datetime.timedelta, _duration_text),
    ((datetime.date, datetime.time), lambda value: _encode_plain(value.isoformat())),
    ((bytes, bytearray), lambda value: f'"{base64.b64encode(value).decode("ascii")}"'),
)


def _exact_number(digits: str) -> float | decimal.Decimal:
    value = float(digits)
    exact = math.isfinite(value) and decimal.Decimal(repr(value)) == decimal.Decimal(digits)
    return value if exact else decimal.Decimal(digits)


_decode_exactly = json.JSONDecoder(parse_float=_exact_number).decode


def _parsed(text: str) -> Any:
    """Return the value that a text of ISO 8601, or an infinity, represents.

    Raises:
        ValueError: It represents no value of a class of Python or pandas.
    """
    if text.endswith("Infinity"):
        return float(text)
    if text.startswith("P"):
        return _parsed_duration(text)
    if "T" in text:
        fraction = re.search(r"\.(\d+)", text)
        finer = fraction is not None and len(fraction[1]) > len("micros")
        return pd.Timestamp(text) if finer else datetime.datetime.fromisoformat(text)
    return datetime.time.fromisoformat(text) if ":" in text else datetime.date.fromisoformat(text)


def _parsed_duration(text: str) -> datetime.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = map(int, found.groups()[:4])
    fraction = (found[5] or "").ljust(9, "0")
    whole = datetime.timedelta(days, seconds, int(fraction[:6]), 0, minutes, hours)
    nanoseconds = int(fraction[6:])
    return whole if not nanoseconds else pd.Timedelta(whole) + pd.Timedelta(nanoseconds, "ns")
