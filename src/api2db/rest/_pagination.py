"""Pagination: how to request the next page of a list, and how to recognise the last one.

A position is a JSON value, because it is kept in the collector's state: a URL, a token, a number. None as an argument
is the first page; None as a result is the end of the list.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urljoin

from api2db.errors import ConfigurationError, PollError
from api2db.rest._arguments import suggesting, text, whole
from api2db.rest._paths import Path, compiled

logger = logging.getLogger("api2db.rest")
_LINK: Final = re.compile(r"<([^>]*)>([^<]*)")
_RELATION: Final = re.compile(r"""\brel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""", re.IGNORECASE)

_CAPS: Final = 50
"""APIs that cap their pages do so at a multiple of this. The length of another short page is chance."""

_told: set[str] = set()

Position = Any


class Page(NamedTuple):
    """One page of a list, as received."""

    url: str
    headers: Mapping[str, str]
    document: Any
    records: Sequence[Any]


class Pagination(Protocol):
    """A way to request pages."""

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the parameters that request the page at a position."""

    def url(self, at: Position) -> str | None:
        """Return the whole URL of the page, if the position is a URL."""

    def after(self, page: Page, at: Position) -> Position:
        """Return the position of the next page; None after the last one."""


class _ByUrl:
    def params(self, at: Position) -> Mapping[str, Any]:
        return {}

    def url(self, at: Position) -> str | None:
        return None if at is None else str(at)


class _ByParams:
    def url(self, at: Position) -> str | None:
        return None


@suggesting
@dataclass(frozen=True)
class NoPagination(_ByUrl):
    """The response is the whole list."""

    def after(self, page: Page, at: Position) -> Position:
        """Return None: there is no next page."""
        return None


@suggesting
@dataclass(frozen=True)
class LinkHeader(_ByUrl):
    """The header ``Link`` has the next page's URL, as in GitHub's API (RFC 8288).

    Args:
        relation: The link's ``rel``.
    """

    relation: str = "next"

    def after(self, page: Page, at: Position) -> Position:
        """Return the link's URL."""
        for target, described in _LINK.findall(page.headers.get("link", "")):
            found = _RELATION.search(described)
            if found and self.relation in (found[1] or found[2] or "").split():
                return urljoin(page.url, target)
        return None


@suggesting
@dataclass(frozen=True)
class NextUrl(_ByUrl):
    """The body has the next page's URL, absolute or relative.

    Args:
        path: Its path, such as ``"_links.next.href"``. A name with a special character needs quotes, as in
            ``'"@odata.nextLink"'``.
    """

    path: str
    _find: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_find", compiled(self.path, "path of NextUrl"))

    def after(self, page: Page, at: Position) -> Position:
        """Return the URL."""
        found = self._find(page.document)
        if found is not None and not isinstance(found, str):
            raise PollError(f"{self.path} holds a {type(found).__name__}, not a URL")
        return urljoin(page.url, found) if found else None


@suggesting
@dataclass(frozen=True)
class NextToken(_ByParams):
    """The body has a token that requests the next page.

    Args:
        path: The path of the token, such as ``"meta.cursor"``.
        param: The parameter for the token.
        has_more: The path of a flag that says whether there is a next page, if the body has one.
    """

    path: str
    param: str
    has_more: str | None = None
    _find: Path = field(init=False, repr=False, compare=False)
    _more: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text(self.param, "param of NextToken")
        object.__setattr__(self, "_find", compiled(self.path, "path of NextToken"))
        object.__setattr__(self, "_more", _flag(self.has_more, "has_more of NextToken"))

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the token."""
        return {} if at is None else {self.param: at}

    def after(self, page: Page, at: Position) -> Position:
        """Return the next token."""
        found = self._find(page.document)
        if isinstance(found, (dict, list)):
            raise PollError(f"{self.path} holds a {type(found).__name__}, not a token")
        return found if found not in (None, "", False) and self._more(page.document) else None


@suggesting
@dataclass(frozen=True)
class LastId(_ByParams):
    """The id of a page's last record requests the next page, as in Stripe's ``starting_after``.

    Args:
        id: The path of the id in a record.
        param: The parameter for the id.
        has_more: The path of a flag that says whether there is a next page. Without it, an empty page is the last one.
    """

    id: str
    param: str
    has_more: str | None = None
    _find: Path = field(init=False, repr=False, compare=False)
    _more: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text(self.param, "param of LastId")
        object.__setattr__(self, "_find", compiled(self.id, "id of LastId"))
        object.__setattr__(self, "_more", _flag(self.has_more, "has_more of LastId"))

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the last id."""
        return {} if at is None else {self.param: at}

    def after(self, page: Page, at: Position) -> Position:
        """Return the id of the last record."""
        if not page.records or not self._more(page.document):
            return None
        found = self._find(page.records[-1])
        if found is None:
            raise PollError(f"the last record of a page has no {self.id} to request the next page with")
        return found


@suggesting
@dataclass(frozen=True)
class PageNumber(_ByParams):
    """Pages have numbers. An empty page is the last one. With ``size`` and no ``last``, so is a shorter page.

    Args:
        param: The parameter for the page number.
        start: The number of the first page.
        size: The number of records to request.
        size_param: The parameter for the size.
        last: The path of the last page's number, if the body has it.
    """

    param: str = "page"
    start: int = 1
    size: int | None = None
    size_param: str = "per_page"
    last: str | None = None
    _last: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text(self.param, "param of PageNumber")
        text(self.size_param, "size_param of PageNumber")
        whole(self.start, "start of PageNumber", 0)
        if self.size is not None:
            whole(self.size, "size of PageNumber")
        object.__setattr__(self, "_last", _optional(self.last, "last of PageNumber"))

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the number, and the size."""
        sizes = {} if self.size is None else {self.size_param: self.size}
        return {self.param: self.start if at is None else at, **sizes}

    def after(self, page: Page, at: Position) -> Position:
        """Return the next number."""
        number = self.start if at is None else int(at)
        if not page.records:
            return None
        last = self._last(page.document)
        if last is not None:
            return number + 1 if number < int(last) else None
        if self.size is None or len(page.records) >= self.size:
            return number + 1
        if at is None:
            _warn_if_capped(page, "size", self.size)
        return None


@suggesting
@dataclass(frozen=True)
class Offset(_ByParams):
    """Pages begin at a record number, from 0. Without ``total``, a page with fewer records than ``limit`` is the last.

    Args:
        limit: The number of records to request.
        param: The parameter for the offset.
        limit_param: The parameter for the limit.
        total: The path of the total number of records, if the body has it.
    """

    limit: int = 100
    param: str = "offset"
    limit_param: str = "limit"
    total: str | None = None
    _total: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        text(self.param, "param of Offset")
        text(self.limit_param, "limit_param of Offset")
        whole(self.limit, "limit of Offset")
        object.__setattr__(self, "_total", _optional(self.total, "total of Offset"))

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the offset and the limit."""
        return {self.param: at or 0, self.limit_param: self.limit}

    def after(self, page: Page, at: Position) -> Position:
        """Return the next offset."""
        reached = (at or 0) + len(page.records)
        total = self._total(page.document)
        if total is not None:
            return reached if page.records and reached < int(total) else None
        if len(page.records) >= self.limit:
            return reached
        if at is None:
            _warn_if_capped(page, "limit", self.limit)
        return None


@dataclass(frozen=True)
class PageInfo(_ByParams):
    """GraphQL connections: ``pageInfo`` has the cursor of the next page."""

    path: str
    param: str
    _find: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_find", compiled(self.path, "page_info"))

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the variable."""
        return {} if at is None else {self.param: at}

    def after(self, page: Page, at: Position) -> Position:
        """Return ``endCursor``."""
        found = self._find(page.document)
        if not isinstance(found, dict) or "hasNextPage" not in found:
            raise PollError(f"{self.path} has no pageInfo; request pageInfo {{ hasNextPage endCursor }} in the query")
        return found.get("endCursor") if found["hasNextPage"] else None


def _warn_if_capped(page: Page, option: str, requested: int) -> None:
    """Warn once of a list whose first and only page is as long as a cap of the API may be."""
    count, url = len(page.records), page.url.partition("?")[0]
    if count % _CAPS or not count or url in _told:
        return
    _told.add(url)
    logger.warning(
        "%s returned %d records for a %s of %d: if it never returns more, further pages are not read; then set %s=%d",
        *(url, count, option, requested, option, count),
    )


def checked(pagination: Any) -> Pagination:
    """Return the argument.

    Raises:
        ConfigurationError: It is not a pagination.
    """
    if not isinstance(pagination, type) and all(hasattr(pagination, verb) for verb in ("params", "url", "after")):
        return pagination  # type: ignore[no-any-return]
    is_class = isinstance(pagination, type)
    given = f"the class {pagination.__name__}; call it" if is_class else f"of type {type(pagination).__name__}"
    raise ConfigurationError(f"pagination must be an object such as LinkHeader(), not {given}")


def _flag(path: str | None, name: str) -> Path:
    """Return the function that reads the flag; it returns True if no path is given."""
    return (lambda _: True) if path is None else compiled(path, name)


def _optional(path: str | None, name: str) -> Path:
    return (lambda _: None) if path is None else compiled(path, name)
