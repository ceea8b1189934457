"""One poll of an endpoint: its pages as frames, and the state that belongs to each of them.

The state of a collector that polls an endpoint:

    cursor      the highest value of the cursor's field in the polls that got through
    known       the rows of the cursor's overlap, as hashes
    changes     the last row of each key, as hashes, with ``changes_only``
    records     where the records are, where nobody has named that
    validators  what the last poll of one page was told to ask with, and the hash of its body
    poll        only while a poll is under way: where and when it began, the position of the next page or line, the
                highest value so far, and its last rows as hashes

A frame is yielded with the state that is right once it has been journalled. So whatever ends the process, the next poll
goes on at the page after the last one that was journalled.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import httpx2

from api2db.errors import PollError
from api2db.rest._cursor import Known, digest
from api2db.rest._effects import Steps
from api2db.rest._endpoint import Endpoint
from api2db.rest._http import Figures, PermanentStatusError, Request, Response
from api2db.rest._limits import date_s
from api2db.rest._lines import Lines
from api2db.rest._order import Order, order_of
from api2db.rest._pagination import Page, Position
from api2db.rest._shaping import Row, rejected

logger = logging.getLogger("api2db.rest")
State = dict[str, Any]
_STALE: Final = frozenset({400, 404, 409, 410, 422})
_MOST_CHANGES: Final = 20_000
_MOST_RECENT: Final = 1_000


class Poll:
    """A poll, from where the last one came to.

    Args:
        endpoint: What to poll.
        state: The collector's; changed in place before each frame.
        figures: Where calls and rows are counted.
        conditional: Whether a list that has not changed gives no rows.
        shaped: Whether frames have the columns' types; otherwise they are lists of rows.
    """

    def __init__(
        self, endpoint: Endpoint, state: State, figures: Figures, *, conditional: bool = True, shaped: bool = True
    ) -> None:
        self._endpoint = endpoint
        self._cursor = endpoint.cursor
        self._conditional = conditional
        self._shaped = shaped
        self._state = state
        self._figures = figures
        self._session = endpoint.session(figures)
        self._seen: set[str] = set()
        self._page_again = False
        self._pages_again = 0
        self._recent: dict[str, None] = {}
        self._resumed = "poll" in state
        self._records: str | None = None
        self._start: Any = None
        self._at: Position = None
        self._high: Any = None
        self._high_order: Order | None = None
        self._window: Order | None = None
        self._begun_s: float | None = None
        self._safe: tuple[Any, Any] = (None, None)
        self._begin(state.get("poll"))

    def frames(self) -> Steps[None]:
        """Yield effects, and the frames of all pages, changing the state before each.

        Raises:
            PollError: A call failed, a page can't be read, or there is no end; what came before is kept.
        """
        if self._endpoint.is_in_lines:
            yield from self._frames_of_lines()
            return
        for number in range(1, self._endpoint.max_pages + 1):
            response = yield from self._fetched()
            if response.status == 304 or self._is_unchanged(response):
                yield from self._not_modified()
                return
            if self._begun_s is None:
                self._begun_s = date_s(response.headers)
            page, self._records = self._endpoint.page(response, self._state.get("records"))
            after = self._endpoint.after(page, self._at)
            if self._repeats(page, after):
                self._state.pop("poll", None)
                yield None
                raise PollError(self._session.scrub(f"page {number} or its next position {after!r} repeats: no end"))
            reached_known, rows, refused = self._sorted_rows(page)
            after = None if reached_known else after
            yield from self._committing(page, response, after, rows, refused)
            if after is None:
                return
            self._at = after
        raise PollError(
            f"the list has more than max_pages={self._endpoint.max_pages} pages; the next poll goes on at the page "
            "after them; raise max_pages if the list is that long"
        )

    def _frames_of_lines(self) -> Steps[None]:
        """Yield the frames of a body of lines: a piece of it at a time.

        The position is the lines that have been yielded. A poll that goes on passes over them if the body still begins
        with just these, and asks again for the whole body if it does not.
        """
        before, self._at = self._at if isinstance(self._at, dict) else None, None
        unchanged = None if self._resumed else self._validators_for(self._endpoint.request(self._start, None))
        known = (unchanged or {}).get("lines") if before is None else before
        while True:
            response = yield from self._fetched()
            if response.lines is None:  # 304
                yield from self._not_modified()
                return
            try:
                if known is None or ((yield from response.lines.skip(known)) and before is not None):
                    yield from self._pieces(response, response.lines)
                    return
                if response.lines.position == known and (yield from response.lines.is_over()):
                    yield from self._not_modified()
                    return
            except httpx2.TransportError as error:
                url, said = response.url.partition("?")[0], self._session.scrub(str(error))
                raise PollError(f"{url} broke off: {said}; the next poll goes on there") from None
            finally:
                response.lines.close()
            known = before = None
            self._begin(None)
            self._resumed = False

    def _pieces(self, response: Response, lines: Lines) -> Steps[None]:
        if self._begun_s is None:
            self._begun_s = date_s(response.headers)
        is_last = False
        while not is_last:
            first_line = lines.count + 1
            page = self._endpoint.page_of_lines(response, (yield from lines.next()), first_line)
            is_last, rows, refused = self._sorted_rows(page)
            is_last = is_last or (yield from lines.is_over())
            yield from self._committing(page, response, None if is_last else lines.position, rows, refused)

    def _not_modified(self) -> Steps[None]:
        self._figures.not_modified += 1
        self._state.pop("poll", None)
        yield None

    def _begin(self, kept: Mapping[str, Any] | None) -> None:
        """Begin at the position that an unfinished poll left, or at the cursor."""
        self._set_place(kept)
        self._high_order = None if self._cursor is None else order_of(self._high, self._cursor.type)

    def _set_place(self, kept: Mapping[str, Any] | None) -> None:
        self._recent = dict.fromkeys(kept["recent"] if kept is not None else ())
        if kept is not None:
            self._start, self._at, self._high, self._begun_s = (kept[name] for name in ("start", "at", "high", "begun"))
            return
        reached = self._state.get("cursor")
        self._at, self._high, self._start, self._begun_s = None, reached, None, None
        if self._cursor is not None:
            self._start = self._cursor.initial if reached is None else self._cursor.start(reached)

    def _fetched(self) -> Steps[Response]:
        """The page at the position; a position that the API no longer knows is given up for the beginning, once."""
        try:
            return (yield from self._session.fetch(*self._asked()))
        except PermanentStatusError as error:
            if not self._resumed or self._at is None or error.status not in _STALE:
                raise
            logger.info("the API no longer knows the page where the last poll ended: it begins again")
        self._begin(None)
        self._resumed = False
        self._seen.clear()
        return (yield from self._session.fetch(*self._asked()))

    def _asked(self) -> tuple[Request, Any]:
        request = self._endpoint.request(self._start, self._at)
        validators = self._validators_for(request)
        conditions = {"If-None-Match": validators.get("etag"), "If-Modified-Since": validators.get("modified")}
        headers = {name: value for name, value in conditions.items() if value} | dict(request.headers)
        conditional = headers != request.headers
        self._request = request
        return (
            Request(request.method, request.url, headers, request.json, self._endpoint.is_in_lines),
            lambda status: conditional and status == 304,
        )

    def _validators_for(self, request: Request) -> Mapping[str, Any]:
        kept = self._state.get("validators", {})
        return kept if self._conditional and kept.get("for") == _name(request) else {}

    def _is_unchanged(self, response: Response) -> bool:
        known = self._validators_for(self._request).get("body")
        return known is not None and known == _hash(response.body)

    def _validators(self, response: Response) -> dict[str, Any]:
        headers = response.headers
        found: dict[str, Any] = {"for": _name(self._request)}
        found |= {"body": _hash(response.body)} if response.lines is None else {"lines": response.lines.position}
        named = {"etag": headers.get("etag"), "modified": headers.get("last-modified")}
        return found | {name: value for name, value in named.items() if value}

    def _repeats(self, page: Page, after: Position) -> bool:
        """Whether the list has no end: a position comes again, or a page's records do for the second time.

        Once they may: a page's worth of new rows has moved them to the next page while the list was read.
        """
        at, records = digest(["at", after]), digest(["page", page.records])
        self._page_again = bool(page.records) and records in self._seen
        self._pages_again += self._page_again
        endless = (after is not None and at in self._seen) or self._pages_again > 1
        self._seen.update((at, records))
        return endless

    def _sorted_rows(self, page: Page) -> tuple[bool, list[Row], list[tuple[Row, str]]]:
        """The rows of a page that are new, and those that a type refuses; and whether it reached what is known."""
        self._known = Known(
            dict(self._state.get("known", {})), self._endpoint.keys, self._cursor.remember if self._cursor else 0
        )
        self._changes = dict(self._state.get("changes", {}))
        floor = None if self._cursor is None else order_of(self._start, self._cursor.type)
        self._window = self._window_now()
        rows: list[Row] = []
        refused: list[tuple[Row, str]] = []
        self._figures.rows_repeated += len(page.records) if self._page_again else 0
        for record in page.records if not self._page_again else ():
            row = self._endpoint.shape.row(record)
            order = self._order(record)
            below = floor is not None and order is not None and order.kind == floor.kind and order < floor
            if below and self._cursor is not None and self._cursor.descending:
                return True, rows, refused
            if (below and self._drops_below()) or self._is_recent(row) or self._is_known(row, order):
                self._figures.rows_repeated += 1
                continue
            if not self._changed(row):
                self._figures.rows_repeated += 1
                continue
            made, reason = self._endpoint.shape.cast(row)
            if reason is None:
                rows.append(made)
            else:
                refused.append((row, reason))
        return False, rows, refused

    def _order(self, record: Any) -> Order | None:
        """What a record is ordered by; the highest of the poll is remembered."""
        if self._cursor is None:
            return None
        order, high = self._cursor.order(record), self._high_order
        if order is None or (high is not None and high.kind != order.kind):
            self._without_cursor()
            return None
        if high is None or order > high:
            value = self._cursor.find(record)
            self._high, self._high_order = str(value) if isinstance(value, Decimal) else value, order
        return order

    def _without_cursor(self) -> None:
        if not self._figures.rows_without_cursor and self._cursor is not None:
            logger.warning(
                "%s has records whose %s is missing or can't be compared; they are loaded, and don't move the cursor",
                self._endpoint.url,
                self._cursor.field,
            )
        self._figures.rows_without_cursor += 1

    def _drops_below(self) -> bool:
        """Whether what is older than where the poll began was loaded before, as far as anyone can tell."""
        return self._cursor is not None and (self._cursor.param is None or not self._endpoint.keys)

    def _is_recent(self, row: Row) -> bool:
        """Whether an earlier page of this poll had the row: new rows shift the pages of a list that is numbered."""
        if self._cursor is None or self._endpoint.keys:
            return False
        name = digest(row)
        known = name in self._recent
        self._recent[name] = None
        if len(self._recent) > _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        return known

    def _is_known(self, row: Row, order: Order | None) -> bool:
        """Whether the row was loaded before; a new one is remembered where a later poll may give it again."""
        if self._cursor is None:
            return False
        window = self._window
        if order is not None and window is not None and order.kind == window.kind and order < window:
            return self._known.knows(row)
        return self._known.note(row, order)

    def _window_now(self) -> Order | None:
        """Where the next poll would begin if this one ended now."""
        high = self._safe_high()
        return None if high is None or self._cursor is None else order_of(self._cursor.start(high), self._cursor.type)

    def _changed(self, row: Row) -> bool:
        if not self._endpoint.changes_only:
            return True
        name, content = digest([row.get(key) for key in self._endpoint.keys]), digest(row)
        same = self._changes.pop(name, None) == content
        self._changes[name] = content
        if len(self._changes) > _MOST_CHANGES:
            del self._changes[next(iter(self._changes))]
        return not same

    def _committing(
        self, page: Page, response: Response, after: Position, rows: list[Row], refused: list[tuple[Row, str]]
    ) -> Iterator[Any]:
        """Yield what a page gave in one tuple, which is journalled together with the state after it."""
        pages = [rows] if not self._shaped else self._endpoint.shape.pages(rows)
        self._move(response, after)
        self._figures.rows_new += len(rows)
        self._figures.rows_rejected += len(refused)
        yield (*rejected(refused), *(pages if rows else ()))

    def _move(self, response: Response, after: Position) -> None:
        """Let the state say where the next poll goes on."""
        # A poll that went on within lines has compared those before with what it was given.
        is_whole = response.lines is not None or (self._at is None and not self._resumed)
        is_only_page = after is None and is_whole
        if self._endpoint.records is None and self._records is not None:
            self._state["records"] = self._records
        if self._endpoint.changes_only:
            self._state["changes"] = self._changes
        if is_only_page:
            self._state["validators"] = self._validators(response)
        if after is None:
            self._end()
        else:
            secret = self._session.holds_secret(json.dumps(after))
            self._state["poll"] = {
                "start": self._start,
                "at": None if secret else after,
                "high": self._high,
                "begun": self._begun_s,
                "recent": list(self._recent),
            }
        if self._cursor is not None:
            # What lies below the old cursor was known before this poll, whose later pages may have it.
            before = order_of(self._state.get("cursor"), self._cursor.type) if after is not None else None
            self._known.forget_below(self._window_now(), before)
            self._state["known"] = self._known.kept

    def _end(self) -> None:
        """Move the cursor: the poll has got through."""
        self._state.pop("poll", None)
        reached = self._safe_high()
        if self._cursor is not None and reached is not None:
            self._state["cursor"] = reached

    def _safe_high(self) -> Any:
        """The highest value, but not beyond when the poll began, and not below the cursor.

        A long poll may see a row on its last page that changed later than others which its first pages could not have.
        """
        if self._safe[0] != self._high or self._high is None:
            self._safe = (self._high, self._bounded())
        return self._safe[1]

    def _bounded(self) -> Any:
        if self._cursor is None or self._begun_s is None:
            return self._high
        bounded = self._cursor.not_after(self._high, self._begun_s)
        before = self._state.get("cursor")
        low, order = order_of(before, self._cursor.type), order_of(bounded, self._cursor.type)
        return before if low is not None and order is not None and order.kind == low.kind and order < low else bounded


def _hash(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def _name(request: Request) -> str:
    return digest([request.method, request.url, None if request.json is None else request.json.decode()])
