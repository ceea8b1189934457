"""One poll of an endpoint: its pages as frames, and the state that belongs to each of them.

The state of a collector that polls an endpoint:

    cursor      the highest value of the cursor's field in all finished polls
    known       hashes of the rows of the cursor's overlap
    changes     a hash of the last row of each key, with ``changes_only``
    records     the path of the records, if it is not an argument of the resource
    validators  the ETag and the date of the last response of a list of one page, and the hash of its body
    poll        only during a poll: where and when it began, the position of the next page or line, the number of polls
                that have failed there, the highest value so far, and hashes of its last rows

The state is changed before each frame to the one after that frame, and both are journalled together. After a crash the
next poll continues at the page after the last one that was journalled.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import httpx2

from api2db.errors import PollError
from api2db.rest._auth import Basic
from api2db.rest._cursor import digest
from api2db.rest._effects import Steps
from api2db.rest._endpoint import Endpoint
from api2db.rest._lines import Lines
from api2db.rest._messages import Figures, PermanentStatusError, Request, Response
from api2db.rest._pagination import LinkHeader, Page, Position
from api2db.rest._reach import Reach
from api2db.rest._secrets import Secret, holds_secret
from api2db.rest._shaping import rejected
from api2db.rest._sorting import Sorted, Sorting, replace_remembered

logger = logging.getLogger("api2db.rest")
State = dict[str, Any]
_STALE: Final = frozenset({400, 404, 409, 410, 422})
_MOST_FAILURES: Final = 3
_MOST_EQUAL: Final = 10


class ListError(PollError):
    """A response came, but the list can't be read from it."""


class _Fetched(NamedTuple):
    """A page, its request, and the position of the next page. There is no page if the list has not changed."""

    at: Position
    request: Request
    response: Response
    page: Page | None
    after: Position


class Poll:
    """A poll of an endpoint, which continues where the last one ended.

    Args:
        endpoint: The list to poll.
        state: The collector's state, changed in place before each frame.
        figures: Where calls and rows are counted.
        conditional: Whether a list that has not changed gives no rows.
        shaped: Whether frames have the columns' types; otherwise they are lists of rows.
        beside: The state of the live polls, if this poll is a backfill into their table.
        until_s: When it must have ended, in seconds of ``time.monotonic``, if it is a part of another poll.
        is_resumable: Whether the next poll goes on where this one ends.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        state: State,
        figures: Figures,
        *,
        conditional: bool = True,
        shaped: bool = True,
        beside: State | None = None,
        until_s: float | None = None,
        is_resumable: bool = True,
    ) -> None:
        self._endpoint = endpoint
        self._shaped = shaped
        self._state = state
        self._beside = beside
        self._figures = figures
        self._is_resumable = is_resumable
        self._session = endpoint.session(figures, until_s)
        self._validators = _Validators(state if conditional else {})
        self._records: str | None = None
        kept = state.get("poll")
        self._resumed = kept is not None
        self._at: Position = None if kept is None else kept["at"]
        self._reach = Reach(endpoint.cursor, state.get("cursor"), kept)
        self._sorting = Sorting(endpoint, state, kept, self._reach, figures)

    def frames(self) -> Steps[None]:
        """Yield effects, and the frames of all pages, changing the state before each.

        Raises:
            PollError: A call failed, a page can't be read, or the list has no end. Earlier frames are kept.
        """
        if self._endpoint.is_in_lines:
            yield from self._frames_of_lines()
            return
        repeats = _Repeats()
        for number in range(1, self._endpoint.max_pages + 1):
            fetched = yield from (self._first() if number == 1 else self._fetched())
            if fetched.page is None:
                yield from self._not_modified()
                return
            self._reach.begin(fetched.response.headers)
            if repeats.has_no_end(fetched.page, fetched.after):
                self._state.pop("poll", None)
                yield None
                raise ListError(
                    self._session.scrub(
                        f"page {number} or its next position {fetched.after!r} repeats: no end; check that the "
                        "parameters of pagination= are those of the API"
                    )
                )
            self._at = fetched.after
            if repeats.holds(fetched.page) and self._at is not None:
                continue
            found = self._sorting.sort(repeats.released())
            self._at = None if found.is_last else fetched.after
            yield from self._committing(fetched, found)
            if self._at is None:
                return
        goes_on = "the next poll goes on at the page after them; " if self._is_resumable else ""
        raise ListError(
            f"the list has more than max_pages={self._endpoint.max_pages} pages; {goes_on}raise max_pages if the list "
            "is that long"
        )

    def _frames_of_lines(self) -> Steps[None]:
        """Yield the frames of a body of lines: a piece of it at a time.

        The position names the lines that have been yielded. The next poll skips them if the body still begins with the
        same lines. Otherwise it requests the body again and reads all of it.
        """
        before, self._at = self._at if isinstance(self._at, dict) else None, None
        request = self._endpoint.request(self._reach.start, None)
        known = self._validators.of(request).get("lines") if not self._resumed else before
        while True:
            request, response = yield from self._asked()
            if response.lines is None:  # 304
                yield from self._not_modified()
                return
            try:
                if known is None or ((yield from response.lines.skip(known)) and before is not None):
                    yield from self._pieces(request, response, response.lines)
                    return
                if response.lines.position == known and (yield from response.lines.is_over()):
                    yield from self._not_modified()
                    return
            except httpx2.TransportError as error:
                url, said = response.url.partition("?")[0], self._session.scrub(str(error))
                raise PollError(f"{url} broke off: {said}; the next poll goes on there") from None
            known = before = None
            self._restart()

    def _pieces(self, request: Request, response: Response, lines: Lines) -> Steps[None]:
        self._reach.begin(response.headers)
        is_last = False
        while not is_last:
            first_line = lines.count + 1
            page = self._endpoint.page_of_lines(response, (yield from lines.next()), first_line)
            found = self._sorting.sort(page.records)
            is_last = found.is_last or (yield from lines.is_over())
            self._at = None if is_last else lines.position
            yield from self._committing(_Fetched(None, request, response, page, self._at), found)

    def _not_modified(self) -> Steps[None]:
        self._figures.not_modified += 1
        self._state.pop("poll", None)
        yield None

    def _restart(self) -> None:
        """Begin at the cursor, not at the position of an unfinished poll."""
        self._resumed = False
        self._at = None
        self._reach = Reach(self._endpoint.cursor, self._state.get("cursor"), None)
        self._sorting = self._sorting.restart(self._reach)

    def _first(self) -> Steps[_Fetched]:
        """Fetch the first page. If the API no longer knows the position, begin again."""
        kept = self._state.get("poll")
        if kept is None or self._at is None:
            return (yield from self._fetched())
        try:
            return (yield from self._fetched())
        except PermanentStatusError as error:
            failure: PollError = error
            is_stale = error.status in _STALE
        except PollError as error:
            failure, is_stale = error, False
        failures = kept.get("failures", 0) + 1
        if not is_stale and failures < _MOST_FAILURES:
            self._state["poll"] = {**kept, "failures": failures}
            yield None
            raise failure
        return (yield from self._from_beginning(failure, is_stale=is_stale))

    def _from_beginning(self, failure: PollError, *, is_stale: bool) -> Steps[_Fetched]:
        """Fetch the page at the cursor if the API returns it, but not the page at the position.

        Raises:
            PollError: It returns neither. The position is kept.
        """
        place = self._at, self._reach, self._sorting
        self._restart()
        try:
            beginning = yield from self._fetched()
        except PollError as error:
            raise (error if is_stale else failure) from None
        if not is_stale:  # the API may only have come back meanwhile
            self._resumed = True
            self._at, self._reach, self._sorting = place
            try:
                return (yield from self._fetched())
            except PollError:
                self._restart()
        logger.info("the API no longer knows the page where the last poll ended: it begins again")
        return beginning

    def _fetched(self) -> Steps[_Fetched]:
        """Fetch the page at the position."""
        request, response = yield from self._asked()
        if response.status == 304:
            return _Fetched(self._at, request, response, None, None)
        try:
            known_path = self._state.get("records")
            page, self._records = self._endpoint.page(response, known_path, is_first=self._at is None)
            after = self._endpoint.after(page, self._at)
        except PollError as error:
            raise ListError(self._session.scrub(str(error))) from None
        is_unchanged = after is None and self._validators.have(request, response)
        return _Fetched(self._at, request, response, None if is_unchanged else page, after)

    def _asked(self) -> Steps[tuple[Request, Response]]:
        """Request the page at the position if it has changed."""
        found = self._endpoint.request(self._reach.start, self._at)
        request = Request(found.method, found.url, found.headers, found.json, self._endpoint.is_in_lines)
        asked = self._validators.conditional(request)
        response = yield from self._session.fetch(asked, lambda status: asked is not request and status == 304)
        if response.status == 304 and self._has_next(response):
            # The page has not changed, and there is another one now.
            response = yield from self._session.fetch(request)
        return request, response

    def _has_next(self, response: Response) -> bool:
        pagination = self._endpoint.pagination
        bare = Page(response.url, response.headers, None, ())
        return isinstance(pagination, LinkHeader) and pagination.after(bare, None) is not None

    def _committing(self, fetched: _Fetched, found: Sorted) -> Iterator[Any]:
        """Yield the frames of a page as one tuple, which is journalled together with the state after it."""
        pages = [found.rows] if not self._shaped else self._endpoint.shape.pages(found.rows)
        self._move(fetched)
        if self._beside is not None:
            replace_remembered(self._beside, found.uncast, self._endpoint.keys)
        self._figures.rows_new += len(found.rows)
        self._figures.rows_rejected += len(found.refused)
        yield (*rejected(found.refused), *(pages if found.rows else ()))

    def _move(self, fetched: _Fetched) -> None:
        """Change the state to the one after a page."""
        # A poll that went on within lines has compared those before with what it was given.
        is_whole = fetched.response.lines is not None or (fetched.at is None and not self._resumed)
        is_over = self._at is None
        if self._endpoint.records is None and self._records is not None:
            self._state["records"] = self._records
        if is_over and is_whole:
            self._validators.note(fetched.request, fetched.response)
        if is_over:
            self._state.pop("poll", None)
            if self._endpoint.cursor is not None and self._reach.safe is not None:
                self._state["cursor"] = self._reach.safe
        else:
            at = None if self._holds_secret(self._at) else self._at
            self._state["poll"] = {"at": at, **self._reach.kept(), **self._sorting.kept()}
        self._sorting.keep(is_over=is_over)

    def _holds_secret(self, position: Position) -> bool:
        """Whether a position has a secret in it that the resource's own URL does not have.

        A user name with a password is not a secret: it may be any word.
        """
        text, auth = json.dumps(position).replace(self._endpoint.filled_url(), ""), self._endpoint.auth
        if isinstance(auth, Basic) and auth.password and isinstance(auth.username, Secret):
            name = auth.username.value()
            return holds_secret(text, [secret for secret in auth.added(_no_post).secrets if secret != name])
        return self._session.holds_secret(text)


class _Validators:
    """The validators and the hash of the last response of a list of one page.

    Args:
        state: The collector's state.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def of(self, request: Request) -> Mapping[str, Any]:
        """Return the validators for a request; none if they are of another one."""
        kept: Mapping[str, Any] = self._state.get("validators", {})
        return kept if kept.get("for") == _name(request) else {}

    def conditional(self, request: Request) -> Request:
        """Return the request with its validators; the same object if there are none."""
        kept = self.of(request)
        conditions = {"If-None-Match": kept.get("etag"), "If-Modified-Since": kept.get("modified")}
        headers = {name: value for name, value in conditions.items() if value} | dict(request.headers)
        if headers == request.headers:
            return request
        return Request(request.method, request.url, headers, request.json, request.in_lines)

    def have(self, request: Request, response: Response) -> bool:
        """Whether the body is the same as in the last poll."""
        known = self.of(request).get("body")
        return known is not None and known == _hash(response.body)

    def note(self, request: Request, response: Response) -> None:
        """Store the validators of a response."""
        found: dict[str, Any] = {"for": _name(request)}
        found |= {"body": _hash(response.body)} if response.lines is None else {"lines": response.lines.position}
        named = {"etag": response.headers.get("etag"), "modified": response.headers.get("last-modified")}
        self._state["validators"] = found | {name: value for name, value in named.items() if value}


class _Repeats:
    """Distinguishes a list without an end from a list with equal pages.

    Pages that are equal to the one before them are held until a different page comes. If none comes, nothing is loaded
    twice.
    """

    def __init__(self) -> None:
        self._positions: set[str] = set()
        self._last = ""
        self._equal = 0
        self._held: list[Any] = []

    def has_no_end(self, page: Page, after: Position) -> bool:
        """Whether a position is repeated, or too many pages in a row are equal."""
        position, records = digest(after), digest(page.records)
        comes_again = after is not None and position in self._positions
        self._positions.add(position)
        self._equal = self._equal + 1 if page.records and records == self._last else 0
        self._last = records
        return comes_again or self._equal > _MOST_EQUAL

    def holds(self, page: Page) -> bool:
        """Take a page; return whether it is equal to the one before it."""
        self._held += page.records
        return self._equal > 0

    def released(self) -> list[Any]:
        """Return the records of the pages taken."""
        found, self._held = self._held, []
        return found


def _no_post(*_: object) -> None:
    """Basic authentication asks no server for a token."""


def _hash(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def _name(request: Request) -> str:
    return digest([request.method, request.url, None if request.json is None else request.json.decode()])
