"""Cursors: from where on a poll asks, and which rows of it are known already."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from api2db.errors import ConfigurationError
from api2db.rest._arguments import duration_s, one_of, suggesting, whole
from api2db.rest._json import encode
from api2db.rest._order import TYPES, CursorType, Order, at_moment, lowered, order_of
from api2db.rest._paths import Path, compiled

_HASH_BYTES: Final = 12


@suggesting
@dataclass(frozen=True)
class Cursor:
    """A field of the records that grows: each poll asks only for what is newer than the highest one so far.

    Args:
        field: Where a record has it.
        param: The parameter that takes the value to begin at; None where the API has none.
        until: The parameter that takes the value to end at, for ``api2db backfill``.
        template: What the parameter is sent, with ``{}`` for the value, such as ``"modified ge {}"`` for OData.
        overlap: How far before that value to begin, such as ``"5m"``, so that rows which come late are read, too. Rows
            that are known already are not loaded again.
        initial: The value to begin at in the first poll.
        type: ``"iso"``, ``"unix_s"``, ``"unix_ms"`` or ``"number"``; by default ISO 8601 text, and numbers.
        descending: Whether the API gives the newest records first. A poll then ends at the first record that is older
            than where it begins.
        remember: How many rows of the overlap are recognised.
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
        whole(self.remember, "remember of Cursor", 0)
        if self.template.count("{}") != 1:
            raise ConfigurationError(f"template of Cursor is {self.template!r}; it needs {{}} once, for the value")
        if self.type is not None:
            one_of(self.type, TYPES, "type of Cursor")
        if self.initial is not None and order_of(self.initial, self.type) is None:
            raise ConfigurationError(
                f"initial of Cursor is {self.initial!r}, which is neither ISO 8601 text nor a number"
            )

    def order(self, record: Any) -> Order | None:
        """What a record's value is compared by; None where it has none that can be."""
        return order_of(self.find(record), self.type)

    def within(self, place: str) -> "Cursor":
        """The same with its parameters within an object of the body."""
        param, until = (None if name is None else f"{place}.{name}" for name in (self.param, self.until))
        return dataclasses.replace(self, param=param, until=until)

    def not_after(self, value: Any, moment_s: float) -> Any:
        """A value that is a time, but at most a moment in seconds since 1970; others as they are."""
        order = order_of(value, self.type)
        if order is None or (order.kind != "iso" and self.type not in ("unix_s", "unix_ms")):
            return value
        scale = 1000 if self.type == "unix_ms" else 1
        return at_moment(value, moment_s, self.type) if order.value > Decimal(moment_s) * scale else value

    def of_moment(self, text: str) -> Any:
        """A moment in ISO 8601, in the form of the cursor's values."""
        order = order_of(text, "iso")
        if order is None or self.type not in ("unix_s", "unix_ms"):
            return text
        return int(order.value * (1000 if self.type == "unix_ms" else 1))

    def start(self, value: Any) -> Any:
        """The value to begin at, which lies before a cursor by the overlap."""
        return lowered(value, self.overlap_by, self.type, is_duration=isinstance(self.overlap, str))


class Known:
    """The rows of the overlap, as hashes in the state: by key with their content, or by content alone.

    Args:
        kept: What the state holds: by the id of a row its content, and what it is ordered by.
        keys: The columns of the key; none: rows are known by their content.
        most: How many are kept; those of the lowest order go first.
    """

    def __init__(self, kept: dict[str, list[Any]], keys: Sequence[str], most: int) -> None:
        self.kept = kept
        self._keys = keys
        self._most = most

    def note(self, row: Mapping[str, Any], order: Order | None) -> bool:
        """Remember a row; return whether it was known as it is."""
        content = digest(row)
        name = digest([row.get(key) for key in self._keys]) if self._keys else content
        found = self.kept.pop(name, None)
        same = found is not None and found[0] == (content if self._keys else "")
        self.kept[name] = [content if self._keys else "", None if order is None else str(order.value)]
        return same

    def knows(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is known as it is."""
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
            window: What lies below it goes.
            above: Only what lies above this does.
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
    """A hash of a value, the same in every process."""
    return hashlib.blake2b(encode(value), digest_size=_HASH_BYTES).hexdigest()
