"""Cells as ``tabledata.list`` gives them, typed by their columns: text, whatever the type."""

import base64
import datetime
import decimal
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.servers.bigquery.kinds import Field, is_repeated, kind

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


def listed(fields: Sequence[Field], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows, in their columns' order."""
    return [{"f": [{"v": _cell(field, value)} for field, value in zip(fields, row, strict=True)]} for row in rows]


def _cell(field: Field, value: Any) -> Any:
    if is_repeated(field):
        return [{"v": _cell({**field, "mode": "NULLABLE"}, each)} for each in value or ()]
    return None if value is None else _WRITTEN.get(kind(field), str)(value)


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"


def _numeric(value: decimal.Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_WRITTEN: Mapping[str, Callable[[Any], str]] = {
    "BOOLEAN": lambda value: str(value).lower(),
    "FLOAT": _float,
    "NUMERIC": _numeric,
    "BYTES": lambda value: base64.b64encode(value).decode(),
    "DATETIME": lambda value: str(value.isoformat()),
    "TIME": lambda value: str(value.isoformat()),
    "TIMESTAMP": lambda value: str((value - _EPOCH) // _MICROSECOND),  # as formatOptions.useInt64Timestamp asks for
}
