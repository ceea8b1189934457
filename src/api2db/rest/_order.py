"""Comparison of cursor values by meaning: ISO 8601 text with any offset, Unix times, numbers, numeric text."""

import datetime
import re
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple

from api2db.errors import ConfigurationError

CursorType = Literal["iso", "unix_s", "unix_ms", "number"]
TYPES: Final = ("iso", "unix_s", "unix_ms", "number")
_ISO: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:([T ])(\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?\s*(Z|z|[+-]\d\d:?(?:\d\d)?)?)?")
_DIGITS: Final = 12
_MOST_EXPONENT: Final = 1_000
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Order(NamedTuple):
    """The sort value of a cursor value. Only values of the same kind can be compared."""

    kind: str
    value: Decimal | int

    @property
    def is_zero(self) -> bool:
        """Whether it is the number 0, which some APIs write where there is no time."""
        return self.kind == "number" and self.value == 0


def order_of(value: Any, type_: CursorType | None) -> Order | None:
    """Return the sort value of a value; None for a null, and for a value that does not have the type."""
    if value is None or isinstance(value, (bool, dict, list)):
        return None
    if type_ in (None, "iso") and isinstance(value, str) and (moment := _moment(value)) is not None:
        return Order("iso", moment)
    if type_ == "iso":
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    # The arithmetic of larger exponents overflows or takes long.
    is_usable = number.is_finite() and abs(number.adjusted()) <= _MOST_EXPONENT
    return Order("number", number) if is_usable else None


def lowered(value: Any, by: float, type_: CursorType | None, *, is_duration: bool) -> Any:
    """Subtract from a value, and keep its form.

    Args:
        value: A cursor value.
        by: What to subtract: seconds for times, otherwise a number.
        type_: The type of the cursor.
        is_duration: Whether ``by`` was given with a unit of time.

    Raises:
        ConfigurationError: A duration can't be subtracted from a plain number.
    """
    if not by or value is None:
        return value
    if isinstance(value, str) and _ISO.fullmatch(value) and type_ in (None, "iso"):
        return _earlier(value, by)
    if type_ not in ("unix_s", "unix_ms") and is_duration:
        raise ConfigurationError(
            f"overlap is a duration, and the cursor's values are numbers such as {value!r}; give Cursor the argument "
            "type='unix_s' or type='unix_ms', or an overlap without a unit"
        )
    number = Decimal(str(value)) - Decimal(str(by)) * (1000 if type_ == "unix_ms" else 1)
    number = number.to_integral_value() if number == number.to_integral_value() or isinstance(value, int) else number
    return str(number) if isinstance(value, str) else int(number) if isinstance(value, int) else float(number)


def at_moment(value: Any, moment_s: float, type_: CursorType | None) -> Any:
    """Return a moment in the form of a value that is a time; what the form has no digits for is cut off."""
    if isinstance(value, str) and _ISO.fullmatch(value.strip()) and type_ in (None, "iso"):
        return _at(value, moment_s)
    number = Decimal(moment_s) * (1000 if type_ == "unix_ms" else 1)
    number = number if isinstance(value, float) else number.to_integral_value(ROUND_FLOOR)
    return str(number) if isinstance(value, str) else int(number) if isinstance(value, int) else float(number)


def _parts(text: str) -> tuple[datetime.datetime, str] | None:
    found = _ISO.fullmatch(text.strip())
    if found is None:
        return None
    day, _, minutes, seconds, fraction, offset = found.groups()
    offset = (offset or "Z").upper().replace("Z", "+00:00")
    try:
        moment = datetime.datetime.fromisoformat(f"{day}T{minutes or '00:00'}{seconds or ':00'}{offset}")
    except ValueError:
        return None
    return moment, fraction or ""


def _moment(text: str) -> Decimal | int | None:
    if text[4:5] == "-" == text[7:8] and "." not in text and "," not in text:
        try:  # faster, but only exact without a fraction
            found = datetime.datetime.fromisoformat(text)
        except ValueError:
            return None
        since = (found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)) - _EPOCH
        return since.days * 86_400 + since.seconds
    parts = _parts(text)
    if parts is None:
        return None
    moment, fraction = parts
    try:
        whole = moment - _EPOCH
    except OverflowError:
        return None
    return Decimal(whole.days * 86_400 + whole.seconds) + Decimal(f"0.{fraction[:_DIGITS] or 0}")


def _earlier(text: str, seconds: float) -> str:
    """Return an earlier time, with the precision, offset and punctuation of the text."""
    parts, found = _parts(text), _ISO.fullmatch(text)
    if parts is None or found is None:
        return text
    try:
        moment = parts[0] - datetime.timedelta(seconds=-(-seconds // 1))
    except OverflowError:
        return text
    return _in_form_of(found, moment, found[5] or "")


def _at(text: str, moment_s: float) -> str:
    """A moment with the precision, the offset and the punctuation of the text."""
    parts, found = _parts(text), _ISO.fullmatch(text.strip())
    if parts is None or found is None:
        return text
    moment = _EPOCH + datetime.timedelta(seconds=moment_s // 1)
    return _in_form_of(found, moment.astimezone(parts[0].tzinfo), "0" * len(found[5] or ""))


def _in_form_of(found: re.Match[str], moment: datetime.datetime, fraction: str) -> str:
    if found[2] is None:
        return moment.date().isoformat()
    tail = found[0][found.end(4) if found[4] else found.end(3) :]
    if found[5]:
        tail = f"{tail[0]}{fraction}{tail[1 + len(fraction) :]}"
    clock = moment.strftime("%H:%M:%S" if found[4] else "%H:%M")
    return f"{moment.date().isoformat()}{found[2]}{clock}{tail}"
