"""Pagination: how the next page of a list is asked for, and how the last one is known.

A position is what JSON holds, for it is kept in the collector's state: a URL, a token, a number. None stands for the
first page, and where a pagination gives it, for the end.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urljoin

from api2db.errors import ConfigurationError, PollError
from api2db.rest._arguments import suggesting, whole
from api2db.rest._paths import Path, compiled

_LINK: Final = re.compile(r"<([^>]*)>([^<]*)")
_RELATION: Final = re.compile(r"""\brel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""", re.IGNORECASE)

Position = Any


class Page(NamedTuple):
    """One page of a list, as it came."""

    url: str
    headers: Mapping[str, str]
    document: Any
    records: Sequence[Any]


class Pagination(Protocol):
    """A way to ask for pages."""

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the parameters that ask for the page at a position."""

    def url(self, at: Position) -> str | None:
        """Return the page's whole URL, where the position is one."""

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
        """There is no next page."""
        return None


@suggesting
@dataclass(frozen=True)
class LinkHeader(_ByUrl):
    """The header ``Link`` has the next page's URL, as GitHub's (RFC 8288).

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
    """The body has the next page's URL, whole or relative.

    Args:
        path: Where, such as ``"_links.next.href"``; a name with a special character needs quotes, as in
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
            raise PollError(f"{self.path} holds {type(found).__name__}, which is no URL")
        return urljoin(page.url, found) if found else None


@suggesting
@dataclass(frozen=True)
class NextToken(_ByParams):
    """The body has a token, which asks for the next page.

    Args:
        path: Where, such as ``"meta.cursor"``.
        param: The parameter that takes it.
        has_more: Where the body says whether there is a next page, if it does.
    """

    path: str
    param: str
    has_more: str | None = None
    _find: Path = field(init=False, repr=False, compare=False)
    _more: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_find", compiled(self.path, "path of NextToken"))
        object.__setattr__(self, "_more", _flag(self.has_more, "has_more of NextToken"))

    def params(self, at: Position) -> Mapping[str, Any]:
        """Return the token."""
        return {} if at is None else {self.param: at}

    def after(self, page: Page, at: Position) -> Position:
        """Return the next token."""
        found = self._find(page.document)
        if isinstance(found, (dict, list)):
            raise PollError(f"{self.path} holds a {type(found).__name__}, which is no token")
        return found if found not in (None, "", False) and self._more(page.document) else None


@suggesting
@dataclass(frozen=True)
class LastId(_ByParams):
    """The last record of a page asks for the next one, as Stripe's ``starting_after``.

    Args:
        id: Where a record has its id.
        param: The parameter that takes it.
        has_more: Where the body says whether there is a next page; without it an empty page is the last.
    """

    id: str
    param: str
    has_more: str | None = None
    _find: Path = field(init=False, repr=False, compare=False)
    _more: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
            raise PollError(f"the last record of a page has no {self.id}, which asks for the next page")
        return found


@suggesting
@dataclass(frozen=True)
class PageNumber(_ByParams):
    """Pages have numbers. An empty page is the last; with ``size`` also a page with fewer records.

    Args:
        param: The parameter that takes the number.
        start: The first page's number.
        size: How many records to ask for.
        size_param: The parameter that takes the size.
        last: Where the body has the last page's number, if it does.
    """

    param: str = "page"
    start: int = 1
    size: int | None = None
    size_param: str = "per_page"
    last: str | None = None
    _last: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        if not page.records or (self.size is not None and len(page.records) < self.size):
            return None
        last = self._last(page.document)
        return None if last is not None and number >= int(last) else number + 1


@suggesting
@dataclass(frozen=True)
class Offset(_ByParams):
    """Records have numbers from 0. A page with fewer records than the limit is the last.

    Args:
        limit: How many records to ask for.
        param: The parameter that takes the first record's number.
        limit_param: The parameter that takes the limit.
        total: Where the body has the number of all records, if it does.
    """

    limit: int = 100
    param: str = "offset"
    limit_param: str = "limit"
    total: str | None = None
    _total: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        return reached if len(page.records) >= self.limit else None


@dataclass(frozen=True)
class PageInfo(_ByParams):
    """GraphQL's connections: ``pageInfo`` says whether there is a next page, and its cursor."""

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
            raise PollError(f"{self.path} holds no pageInfo; ask for pageInfo {{ hasNextPage endCursor }} in the query")
        return found.get("endCursor") if found["hasNextPage"] else None


def checked(pagination: Any) -> Pagination:
    """Return a pagination.

    Raises:
        ConfigurationError: It is not one.
    """
    if not isinstance(pagination, type) and all(hasattr(pagination, verb) for verb in ("params", "url", "after")):
        return pagination  # type: ignore[no-any-return]
    given = pagination.__name__ if isinstance(pagination, type) else type(pagination).__name__
    raise ConfigurationError(
        f"pagination must be an object such as LinkHeader(); what was given is {given}"
        f"{' itself: call it' if isinstance(pagination, type) else ''}"
    )


def _flag(path: str | None, name: str) -> Path:
    """Whether the body says that there is more; True where no path is given."""
    return (lambda _: True) if path is None else compiled(path, name)


def _optional(path: str | None, name: str) -> Path:
    return (lambda _: None) if path is None else compiled(path, name)
