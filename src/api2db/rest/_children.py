"""Child lists: one for each record of a parent list, such as the lines of each order.

Several are read at the same time. Their rows are yielded in the order of the parents, and a poll can be resumed.
"""

import copy
import dataclasses
import json
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from api2db.errors import PollError
from api2db.frames import Refused
from api2db.rest._cursor import digest
from api2db.rest._effects import End, Join, Start, Steps, TimeUpError, next_frame
from api2db.rest._endpoint import Endpoint
from api2db.rest._json import decode
from api2db.rest._messages import Figures, PermanentStatusError
from api2db.rest._paths import Path
from api2db.rest._poll import ListError, Poll
from api2db.rest._shaping import Row
from api2db.rest._sorting import name_of

logger = logging.getLogger("api2db.rest")
_GONE: Final = frozenset({404, 410})
_UNAUTHORIZED: Final = 401
_MOST_IN_A_ROW: Final = 3
_MOST_FAILED: Final = 1_000
_DEEPEST: Final = 10_000
_exact = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True)
class ForEach:
    """The parent list of a child list.

    Attributes:
        parent: The endpoint of the parent records.
        from_parent: For each name in braces of the path, its value in a parent record.
        include: For each column to add, its value in a parent record.
        at_once: How many lists are fetched at the same time.
    """

    parent: Endpoint
    from_parent: Mapping[str, Path]
    include: Mapping[str, Path]
    at_once: int = 4


class ChildPoll:
    """A poll of the child lists of all parent records that are new or have changed.

    In the state, ``parent`` is the state of the parent's poll before the current page, ``done`` names the records of
    this page whose lists have been journalled, and ``failed`` holds the records whose lists could not be polled. The
    next poll requests the failed lists again.
    """

    def __init__(self, endpoint: Endpoint, for_each: ForEach, state: dict[str, Any], figures: Figures) -> None:
        self._endpoint = endpoint
        self._for_each = for_each
        self._state = state
        self._figures = figures
        self._tried: set[str] = set()
        self._error: PollError | None = None
        self._in_a_row = 0
        self._until_s = time.monotonic() + endpoint.limits.poll_s

    def frames(self) -> Steps[None]:
        """Yield effects, and a frame for each list, changing the state before each.

        Raises:
            PollError: The parent list or a child list can't be polled. Earlier frames are kept.
        """
        reached = copy.deepcopy(self._state.get("parent", {}))
        before = copy.deepcopy(reached)
        waiting = list(self._state.get("failed", ()))
        poll = Poll(self._parent(), reached, self._figures, conditional=False, shaped=False, until_s=self._until_s)
        steps = poll.frames()
        while not isinstance(parts := (yield from next_frame(steps)), End):
            records = [record for part in parts or () if isinstance(part, list) for record in part]
            yield from self._lists_of(records, before)
            if parts is not None or _position(reached) != _position(before):
                self._state.pop("done", None)
            before = copy.deepcopy(reached)
            self._state["parent"] = copy.deepcopy(reached)
            yield None
        failed = self._state.get("failed", {})
        again = [(name, decode(failed[name].encode(), _DEEPEST)) for name in waiting if name in failed]
        yield from self._polled(deque((name, record) for name, record in again if name not in self._tried), None)
        if (failed := self._state.get("failed")) and self._error is not None:
            raise PollError(
                f"{len(failed)} of the lists can't be polled, and the next poll asks for them again; "
                f"the first: {self._error}"
            )

    def _parent(self) -> Endpoint:
        """Return the parent without types: a record that a type refuses has a list, too."""
        parent = self._for_each.parent
        return dataclasses.replace(parent, shape=dataclasses.replace(parent.shape, casts={}))

    def _lists_of(self, records: Sequence[Row], before: Mapping[str, Any]) -> Steps[None]:
        """Yield the lists of a page of parents. The state after each names those that are done."""
        done = set(self._state.get("done", ()))
        found = {digest(record): record for record in records}
        todo = deque((name, record) for name, record in found.items() if name not in done)
        yield from self._polled(todo, before)

    def _polled(self, todo: deque[tuple[str, Row]], before: Mapping[str, Any] | None) -> Steps[None]:
        """Yield the lists of records.

        Args:
            todo: The records, with their names in ``done``.
            before: The parent's state before their page; None if the records are from earlier polls.
        """
        running: deque[tuple[str, Row, Any]] = deque()
        while todo or running:
            while todo and len(running) < self._for_each.at_once:
                name, record = todo.popleft()
                running.append((name, record, (yield Start(self._list_of(record)))))
            name, record, started = running.popleft()
            frames: list[Any] = []
            try:
                frames = yield Join(started)
            except TimeUpError:
                raise
            except PollError as error:
                self._remember(record, error)
            else:
                self._forget(record)
            if before is not None:
                self._state["parent"], self._state["done"] = before, [*self._state.get("done", ()), name]
            yield tuple(frames)

    def _remember(self, record: Row, error: PollError) -> None:
        """Store a record whose list failed, for the next poll.

        Raises:
            PollError: Several lists in a row failed, or too many.
        """
        refused = isinstance(error, PermanentStatusError) and error.status != _UNAUTHORIZED
        is_of_list = refused or isinstance(error, ListError)
        self._in_a_row = 0 if is_of_list else self._in_a_row + 1
        name, failed = self._name_of(record), dict(self._state.get("failed", {}))
        if self._in_a_row >= _MOST_IN_A_ROW or len(failed) >= _MOST_FAILED:
            raise error
        failed[name] = _text_of(record)
        self._state["failed"] = failed
        self._tried.add(name)
        self._error = self._error or error

    def _forget(self, record: Row) -> None:
        self._in_a_row = 0
        name = self._name_of(record)
        if name in self._state.get("failed", {}):
            left = {other: text for other, text in self._state["failed"].items() if other != name}
            self._state["failed"] = left
            if not left:
                del self._state["failed"]

    def _name_of(self, record: Row) -> str:
        """Return the name of a record, which is the same for a later version of it."""
        keys = self._for_each.parent.keys
        if keys:
            return name_of(record, keys)
        finds = (*self._for_each.from_parent.values(), *self._for_each.include.values())
        return digest([find(record) for find in finds])

    def _list_of(self, record: Row) -> Steps[list[Any]]:
        return (yield from _list_of(self._endpoint_of(self._cast(record)), self._figures, self._until_s))

    def _cast(self, record: Row) -> Row:
        """Return a record with the types of its columns; values that do not fit stay as they are."""
        row = dict(record)
        for name, cast in self._for_each.parent.shape.casts.items():
            with suppress(ValueError, ArithmeticError):
                row[name] = None if row.get(name) is None else cast.value(row[name])
        return row

    def _endpoint_of(self, record: Row) -> Endpoint:
        url = self._endpoint.url
        for name, find in self._for_each.from_parent.items():
            value = find(record)
            if value is None or isinstance(value, (dict, list)) or str(value) in {"", ".", ".."}:
                raise PollError(
                    f"{self._for_each.parent.url} has a record whose {name} is {value!r}, which can't be part of a URL"
                )
            url = url.replace("{" + name + "}", quote(str(value), safe=""))
        include = {name: find(record) for name, find in self._for_each.include.items()}
        shape = dataclasses.replace(self._endpoint.shape, include={**self._endpoint.shape.include, **include})
        return dataclasses.replace(self._endpoint, url=url, shape=shape)


def _position(state: Mapping[str, Any]) -> Any:
    return state.get("poll", {}).get("at")


def _text_of(record: Row) -> str:
    """A record as JSON with all digits of its numbers."""
    try:
        return _exact.encode(record).decode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(record, default=str)


def _list_of(endpoint: Endpoint, figures: Figures, until_s: float) -> Steps[list[Any]]:
    """Fetch a whole list: the rejected rows, then all others as one frame. A list that is gone has no rows."""
    rows: list[Row] = []
    refused: list[Refused] = []
    try:
        steps = Poll(endpoint, {}, figures, shaped=False, until_s=until_s, is_resumable=False).frames()
        while not isinstance(parts := (yield from next_frame(steps)), End):
            for part in parts or ():
                if isinstance(part, Refused):
                    refused.append(part)
                else:
                    rows += part
    except PermanentStatusError as error:
        if error.status not in _GONE:
            raise
        logger.warning("%s; the list is skipped", error)
    return [*refused, *(endpoint.shape.pages(rows) if rows else ())]
