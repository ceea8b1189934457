"""Child lists: one for each record of a parent list, such as the lines of each order.

Several are read at the same time. Their rows are yielded in the order of the parents, and a poll can be resumed.
"""

import copy
import dataclasses
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from api2db.errors import PollError
from api2db.frames import Refused
from api2db.rest._cursor import digest
from api2db.rest._effects import End, Join, Start, Steps, next_frame
from api2db.rest._endpoint import Endpoint
from api2db.rest._http import Figures, PermanentStatusError
from api2db.rest._paths import Path
from api2db.rest._poll import Poll
from api2db.rest._shaping import Row

logger = logging.getLogger("api2db.rest")
_GONE: Final = frozenset({404, 410})


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

    The state has two entries. ``parent`` is the state of the parent's poll before the page whose records are being
    processed. ``done`` names the records of that page whose lists have been journalled.
    """

    def __init__(self, endpoint: Endpoint, for_each: ForEach, state: dict[str, Any], figures: Figures) -> None:
        self._endpoint = endpoint
        self._for_each = for_each
        self._state = state
        self._figures = figures

    def frames(self) -> Steps[None]:
        """Yield effects, and a frame for each list, changing the state before each."""
        reached = copy.deepcopy(self._state.get("parent", {}))
        before = copy.deepcopy(reached)
        steps = Poll(self._for_each.parent, reached, self._figures, conditional=False, shaped=False).frames()
        while not isinstance(parts := (yield from next_frame(steps)), End):
            records = [record for part in parts or () if isinstance(part, list) for record in part]
            yield from self._lists_of(records, before)
            before = copy.deepcopy(reached)
            self._state["parent"] = copy.deepcopy(reached)
            self._state.pop("done", None)
            yield None

    def _lists_of(self, records: Sequence[Row], before: Mapping[str, Any]) -> Steps[None]:
        """Yield the lists of a page of parents, and record in the state which of them are done."""
        done = list(self._state.get("done", ()))
        endpoints = {digest(endpoint.url): endpoint for endpoint in map(self._endpoint_of, records)}
        todo = deque((name, one) for name, one in endpoints.items() if name not in done)
        running: deque[tuple[str, Any]] = deque()
        while todo or running:
            while todo and len(running) < self._for_each.at_once:
                name, endpoint = todo.popleft()
                running.append((name, (yield Start(_list_of(endpoint, self._figures)))))
            name, started = running.popleft()
            frames = yield Join(started)
            done.append(name)
            self._state["parent"], self._state["done"] = before, list(done)
            yield tuple(frames)

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


def _list_of(endpoint: Endpoint, figures: Figures) -> Steps[list[Any]]:
    """Fetch a whole list: the rejected rows, then all others as one frame. A list that is gone has no rows."""
    rows: list[Row] = []
    refused: list[Refused] = []
    try:
        steps = Poll(endpoint, {}, figures, shaped=False).frames()
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
