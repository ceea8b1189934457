"""Endpoint: how to request a page of a list, and how to read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx2

from api2db.errors import PollError
from api2db.rest._addresses import Origin, origin_of
from api2db.rest._auth import Auth
from api2db.rest._cursor import Cursor
from api2db.rest._formats import Format, document_of
from api2db.rest._http import Session
from api2db.rest._json import encode
from api2db.rest._messages import Figures, Limits, Request, Response
from api2db.rest._pagination import NoPagination, Page, Pagination, Position
from api2db.rest._paths import Path
from api2db.rest._records import WHOLE, check_list, check_path, guessed_records, records_at
from api2db.rest._shaping import Shape
from api2db.rest._urls import with_params, without_params

_NO_CONTENT: Final = 204
_ACCEPT: Mapping[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson, application/jsonl, */*;q=0.5",
    "csv": "text/csv, */*;q=0.5",
    "xml": "application/xml, text/xml, */*;q=0.5",
}


@dataclass(frozen=True)
class Endpoint:
    """The description of a list that a poll reads. Most attributes are arguments of RestApi and its methods.

    Attributes:
        url: With the path's parameters still in braces.
        body: The JSON of a POST; the parameters of pagination and cursor go into it where ``in_body`` is set.
        until: The value of the cursor to end at, in a backfill.
        find: The function for ``records``.
    """

    method: str
    url: str
    auth: Auth | httpx2.Auth = field(repr=False)
    limits: Limits
    path: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] | None = None
    in_body: bool = False
    is_graphql: bool = False
    records: str | None = None
    find: Path | None = None
    pagination: Pagination = field(default_factory=NoPagination)
    cursor: Cursor | None = None
    until: Any = None
    keys: tuple[str, ...] = ()
    shape: Shape = field(default_factory=Shape)
    format: Format = "json"
    changes_only: bool = False
    max_pages: int = 10_000

    @property
    def origin(self) -> Origin:
        """The API's own origin."""
        return origin_of(self.url.partition("{")[0])

    def session(self, figures: Figures, until_s: float | None = None) -> Session:
        """Start the session of one poll, which ends at ``until_s`` if that is given."""
        return Session(self.origin, self.auth, self.limits, figures, until_s)

    def request(self, start: Any, at: Position) -> Request:
        """Return the request for the page at a position.

        Args:
            start: The cursor value to begin at; None for all records.
            at: The position.
        """
        headers = {"Accept": _ACCEPT[self.format], **self.headers}
        url = self.pagination.url(at)
        asked = dict(self.pagination.params(at)) | self._window(start)
        body = None
        if self.body is not None:
            headers["Content-Type"] = "application/json"
            body = encode(_merged(self.body, asked) if self.in_body else self.body)
        if url is None:
            url = with_params(self.filled_url(), self.params if self.in_body else dict(self.params) | asked)
        return Request(self.method, url, headers, body)

    def _window(self, start: Any) -> dict[str, Any]:
        """The parameters that say where the cursor's values begin and end."""
        cursor, found = self.cursor, dict[str, Any]()
        if cursor is not None and cursor.param is not None and start is not None:
            found[cursor.param] = start if cursor.template == "{}" else cursor.template.replace("{}", str(start))
        if cursor is not None and cursor.until is not None and self.until is not None:
            found[cursor.until] = self.until
        return found

    def filled_url(self) -> str:
        """Return the URL with the path parameters filled in."""
        url = self.url
        for name, value in self.path.items():
            url = url.replace("{" + name + "}", quote(str(value), safe="/"))
        return url

    @property
    def is_in_lines(self) -> bool:
        """Whether the list is one body of lines, which is read in pieces."""
        of_client = isinstance(self.auth, httpx2.Auth)  # its requests are sent as it says, and their answers are whole
        is_whole = isinstance(self.pagination, NoPagination) and self.records in (None, WHOLE)
        return self.format == "ndjson" and is_whole and not of_client

    def page_of_lines(self, response: Response, body: bytes, first_line: int) -> Page:
        """Read some lines of a response.

        Raises:
            PollError: One can't be read; the message names the URL.
        """
        content_type = response.headers.get("content-type", "")
        try:
            found = document_of(body, self.format, content_type, self.limits.depth, first_line, response.scrub)
        except PollError as error:
            raise _of_url(response, error) from None
        return Page(response.url, response.headers, found, found)

    def document(self, response: Response) -> Any:
        """Decode a response.

        Raises:
            PollError: It does not have the endpoint's format.
        """
        content_type = response.headers.get("content-type", "")
        return document_of(response.body, self.format, content_type, self.limits.depth, scrub=response.scrub)

    def page(self, response: Response, known_path: str | None, *, is_first: bool) -> tuple[Page, str | None]:
        """Read a response.

        Args:
            response: What came.
            known_path: Where earlier pages had their records.
            is_first: Whether it is the list's first page, which may be empty: of a later one that is a failure.

        Returns:
            The page, and where it has its records; None if that says nothing about further pages.

        Raises:
            PollError: It can't be read; the message names the URL.
        """
        is_empty = self.format == "json" and response.headers.get("content-length") == "0"
        if response.status == _NO_CONTENT or (is_empty and is_first):
            return Page(response.url, response.headers, None, []), None
        try:
            document = self.document(response)
            if self.is_graphql:
                _check_graphql(document, response.scrub)
            path, records = self._found(document, known_path)
        except PollError as error:
            raise _of_url(response, error) from None
        return Page(response.url, response.headers, document, records), path

    def _found(self, document: Any, known_path: str | None) -> tuple[str | None, list[Any]]:
        """The path of the records, if it is to be kept, and the records."""
        path = self.records or known_path
        if path is None:
            return guessed_records(document)
        if path != WHOLE:
            check_path(document, path, is_xml=self.format == "xml")
        elif self.records is None:
            check_list(document)
        return path, records_at(document, path, self.find)

    def after(self, page: Page, at: Position) -> Position:
        """The position of the next page, without the secrets that an API may put into its links."""
        try:
            found = self.pagination.after(page, at)
        except PollError:
            raise
        except (ValueError, TypeError, KeyError, OverflowError) as error:  # such as a total that is no number
            name, url = type(self.pagination).__name__, page.url.partition("?")[0]
            raise PollError(
                f"{url}: what the response has for the next page is of no use to {name} ({type(error).__name__})"
            ) from None
        if self.pagination.url(found) is None or isinstance(self.auth, httpx2.Auth):
            return found
        return without_params(str(found), self.auth.secret_params)


def _merged(body: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Merge parameters into a body; a dotted name sets a field of a nested object."""
    merged = dict(body)
    for name, value in params.items():
        first, _, rest = name.partition(".")
        below = merged.get(first)
        merged[first] = _merged(below if isinstance(below, Mapping) else {}, {rest: value}) if rest else value
    return merged


def _of_url(response: Response, error: PollError) -> PollError:
    """An error on what a response holds, without the secrets that the API may repeat in it."""
    return PollError(response.scrub(f"{response.url.partition('?')[0]}: {error}"))


def _check_graphql(document: Any, scrub: Callable[[str], str]) -> None:
    errors = document.get("errors") if isinstance(document, dict) else None
    if errors:
        first = errors[0] if isinstance(errors, list) else errors
        said = first.get("message", first) if isinstance(first, dict) else first
        raise PollError(f"GraphQL: {scrub(str(said))[:200]}")
