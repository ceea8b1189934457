"""Cursors: where a poll begins, and which rows of its overlap have been loaded before."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from api2db.errors import ConfigurationError
from api2db.rest._arguments import duration_s, flag, of_kind, one_of, optional_text, suggesting, whole
from api2db.rest._json import encode
from api2db.rest._order import TYPES, CursorType, Order, at_moment, lowered, order_of
from api2db.rest._paths import Path, compiled

_HASH_BYTES: Final = 12


@suggesting
@dataclass(frozen=True)
class Cursor:
    """A growing field of the records. Each poll requests only records from its highest value so far on.

    Args:
        field: The path of the field in a record.
        param: The parameter for the value to begin at; None if the API has none.
        until: The parameter for the value to end at, for ``api2db backfill``.
        template: The value of the parameter, with ``{}`` for the cursor value, such as ``"modified ge {}"`` for OData.
        overlap: How far before the highest value to begin, such as ``"5m"``, to read rows that appear late. Rows that
            have been loaded are not loaded again.
        initial: The value to begin at in the first poll.
        type: ``"iso"``, ``"unix_s"``, ``"unix_ms"`` or ``"number"``; by default ISO 8601 text, and numbers.
        descending: Whether the API returns the newest records first. A poll then ends at the first record that is older
            than the value it begins at.
        remember: The maximum number of rows of the overlap that are recognised.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    field: str
    param: str | None = None
    until: str | None = None
    template: str = "{}"
    overlap: str | float = 0
    initial: str | float | None = None
    type: CursorType | None = None
    descending: bool = False
    remember: int = 10_000
    find: Path = dataclasses.field(init=False, repr=False, compare=False)
    overlap_by: float = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "find", compiled(self.field, "field of Cursor"))
        object.__setattr__(self, "overlap_by", duration_s(self.overlap, "overlap of Cursor"))
        optional_text(self.param, "param of Cursor")
        optional_text(self.until, "until of Cursor")
        flag(self.descending, "descending of Cursor")
        whole(self.remember, "remember of Cursor", 0)
        if of_kind(self.template, str, "template of Cursor", "text").count("{}") != 1:
            raise ConfigurationError(f"template of Cursor is {self.template!r}; it needs {{}} once, for the value")
        if self.type is not None:
            one_of(self.type, TYPES, "type of Cursor")
        self._check_values()

    def _check_values(self) -> None:
        initial = order_of(self.initial, self.type)
        if self.initial is not None and initial is None:
            raise ConfigurationError(
                f"initial of Cursor is {self.initial!r}, which is neither ISO 8601 text nor a number"
            )
        is_number = self.type == "number" or (self.type is None and initial is not None and initial.kind == "number")
        if is_number and isinstance(self.overlap, str):
            raise ConfigurationError(
                f"overlap of Cursor is {self.overlap!r}, a duration, and its values are numbers; write a plain number, "
                "or type='unix_s' or type='unix_ms' if they are times"
            )

    def order(self, record: Any) -> Order | None:
        """Return the sort value of a record; None if its field is null or can't be compared."""
        return order_of(self.find(record), self.type)

    def within(self, place: str) -> "Cursor":
        """Return the same cursor with its parameters within an object of the body."""
        param, until = (None if name is None else f"{place}.{name}" for name in (self.param, self.until))
        return dataclasses.replace(self, param=param, until=until)

    def not_after(self, value: Any, moment_s: float) -> Any:
        """Return a time limited to a moment in seconds since 1970; return other values unchanged."""
        order = order_of(value, self.type)
        if order is None or (order.kind != "iso" and self.type not in ("unix_s", "unix_ms")):
            return value
        scale = 1000 if self.type == "unix_ms" else 1
        return at_moment(value, moment_s, self.type) if order.value > Decimal(moment_s) * scale else value

    def of_moment(self, text: str) -> Any:
        """Convert an ISO 8601 time to the form of the cursor's values."""
        order = order_of(text, "iso")
        if order is None or self.type not in ("unix_s", "unix_ms"):
            return text
        return int(order.value * (1000 if self.type == "unix_ms" else 1))

    def start(self, value: Any) -> Any:
        """Return the value to begin at: a cursor value minus the overlap."""
        return lowered(value, self.overlap_by, self.type, is_duration=isinstance(self.overlap, str))


class Known:
    """The rows of the overlap, kept as hashes in the state. With keys each hash of a key has a hash of the content.

    Args:
        kept: From the state: for each row id, the hash of the content and the sort value.
        keys: The columns of the key. Without keys a row is identified by its content.
        most: The maximum number of rows; those with the lowest sort values are removed first.
    """

    def __init__(self, kept: dict[str, list[Any]], keys: Sequence[str], most: int) -> None:
        self.kept = kept
        self._keys = keys
        self._most = most

    def note(self, row: Mapping[str, Any], order: Order | None) -> bool:
        """Remember a row; return whether it was known with the same content."""
        content = digest(row)
        name = digest([row.get(key) for key in self._keys]) if self._keys else content
        found = self.kept.pop(name, None)
        same = found is not None and found[0] == (content if self._keys else "")
        self.kept[name] = [content if self._keys else "", None if order is None else str(order.value)]
        return same

    def knows(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is known with the same content."""
        content = digest(row)
        name = digest([row.get(key) for key in self._keys]) if self._keys else content
        found = self.kept.get(name)
        return found is not None and found[0] == (content if self._keys else "")

    def highest(self) -> str | None:
        """What the highest row is ordered by; None if no row has an order."""
        return max((value for _, value in self.kept.values() if value is not None), key=Decimal, default=None)

    def forget_below(self, window: Order | None, above: str | None = None) -> None:
        """Forget rows below a window, and the lowest of what is too much.

        Args:
            window: Rows below it are forgotten.
            above: Of those, only rows above this one.
        """
        orders = {name: Decimal(value or 0) for name, (_, value) in self.kept.items()}
        spared = None if above is None else Decimal(above)
        for name, value in orders.items() if window is not None else ():
            if self.kept[name][1] is None or window is None or (value == 0 and window.kind != "number"):
                continue  # a zero among times stands for a missing one
            if value < window.value and (spared is None or value > spared):
                del self.kept[name]
        excess = len(self.kept) - self._most
        for name in sorted(self.kept, key=lambda one: orders[one])[:excess] if excess > 0 else ():
            del self.kept[name]


def digest(value: Any) -> str:
    """Return a hash of a value that is the same in every process."""
    return hashlib.blake2b(encode(value), digest_size=_HASH_BYTES).hexdigest()
