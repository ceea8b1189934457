"""RestApi: the URL, authentication and limits that all resources of one API share."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import httpx2

from api2db.errors import ConfigurationError, PollError
from api2db.rest._addresses import origin_of
from api2db.rest._arguments import (
    flag,
    headers_of,
    nearest,
    of_kind,
    one_of,
    positive_s,
    rate,
    size_bytes,
    suggesting,
    suggesting_call,
    text,
    whole,
)
from api2db.rest._auth import Auth, NoAuth
from api2db.rest._cursor import Cursor
from api2db.rest._formats import Format
from api2db.rest._hosts import add_rates
from api2db.rest._jobs import Job
from api2db.rest._lists import DEFAULTS, OPTIONS, Lists
from api2db.rest._messages import TRIES, Limits
from api2db.rest._pagination import PageInfo, Pagination
from api2db.rest._resource import Resource


class ListOptions(TypedDict, total=False):
    """Options that ``graphql`` shares with ``get``, which describes them."""

    headers: Mapping[str, str] | None
    cursor: Cursor | None
    keys: str | Sequence[str]
    fields: Mapping[str, str] | None
    types: Mapping[str, str] | None
    flatten: bool
    include: Mapping[str, Any] | None
    changes_only: bool
    max_pages: int


@suggesting
@dataclass(frozen=True)
class RestApi:
    """An API that is polled over HTTP. Creating one makes no call.

    Args:
        url: The base URL; the paths of resources are appended to it.
        auth: BearerToken, ApiKey, Basic, OAuth2ClientCredentials, or an ``httpx2.Auth``.
        rate_limit: The maximum number of calls in a period, such as ``"80/min"``, to the host, by all collectors. If
            several APIs of one host have different rates, all of them hold for each call.
        headers: Sent with each call.
        connect_timeout: The longest time to connect.
        timeout: The longest time without a byte from the server.
        max_poll_time: The longest time of a poll, including waits for the rate limit.
        max_response_bytes: The maximum size of a response as received.
        max_decompressed_bytes: The maximum size of a response once decompressed.
        max_depth: The maximum nesting of a document.
        tries: The maximum number of attempts of a call that fails with a temporary error.
        allow_private: Whether calls to private and link-local addresses are allowed. By default they are allowed to the
            API's own host only, not to other hosts that a redirect or a link leads to.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    url: str
    auth: Auth | httpx2.Auth | None = field(default=None, repr=False)
    rate_limit: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: str | float = "10s"
    timeout: str | float = "30s"
    max_poll_time: str | float = "1h"
    max_response_bytes: str | int = "64MB"
    max_decompressed_bytes: str | int = "256MB"
    max_depth: int = 100
    tries: int = TRIES
    allow_private: bool | None = None
    _lists: Lists = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        of_kind(self.url, str, "url of RestApi", "text such as 'https://api.example.com'")
        try:
            origin_of(self.url)
        except PollError as error:
            raise ConfigurationError(f"url of RestApi: {error}") from None
        if "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ConfigurationError("url of RestApi has a user in it; give auth=Basic(…) instead")
        if "#" in self.url or not self.url.isprintable() or " " in self.url:
            raise ConfigurationError("url of RestApi has a fragment, a blank or a control character in it")
        if "?" in self.url:
            raise ConfigurationError(
                "url of RestApi contains a query; give params= to its resources, and secrets as auth="
            )
        headers_of(self.headers, "headers of RestApi")
        if isinstance(self.auth, type):
            raise ConfigurationError(f"auth of RestApi is the class {self.auth.__name__} itself: call it")
        if self.auth is not None and not isinstance(self.auth, httpx2.Auth) and not hasattr(self.auth, "added"):
            given = f"of type {type(self.auth).__name__}"
            raise ConfigurationError(f"auth of RestApi is {given}; use one such as BearerToken('$TOKEN')")
        limits = self._checked_limits()
        object.__setattr__(self, "_lists", Lists(self.url, self.auth or NoAuth(), self.headers, limits))
        add_rates(origin_of(self.url), limits)

    def _checked_limits(self) -> Limits:
        return Limits(
            rates=() if self.rate_limit is None else (rate(self.rate_limit, "rate_limit of RestApi"),),
            connect_s=positive_s(self.connect_timeout, "connect_timeout of RestApi"),
            read_s=positive_s(self.timeout, "timeout of RestApi"),
            poll_s=positive_s(self.max_poll_time, "max_poll_time of RestApi"),
            response_bytes=size_bytes(self.max_response_bytes, "max_response_bytes of RestApi"),
            decompressed_bytes=size_bytes(self.max_decompressed_bytes, "max_decompressed_bytes of RestApi"),
            depth=whole(self.max_depth, "max_depth of RestApi"),
            tries=whole(self.tries, "tries of RestApi"),
            allow_private=None if self.allow_private is None else flag(self.allow_private, "allow_private of RestApi"),
        )

    # get and post both list their options: a TypedDict leaves no room for the names in the path's braces.
    @suggesting_call
    def get(
        self,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        records: str | None = None,
        pagination: Pagination | None = None,
        cursor: Cursor | None = None,
        keys: str | Sequence[str] = (),
        fields: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        flatten: bool = False,
        include: Mapping[str, Any] | None = None,
        format: Format = "json",
        changes_only: bool = False,
        max_pages: int = 10_000,
        for_each: Resource | None = None,
        include_parent: Mapping[str, str] | None = None,
        at_once: int = 4,
        **path_parameters: Any,
    ) -> Resource:
        """Describe a list that is read with GET.

        Args:
            path: Appended to the API's URL. ``{name}`` is replaced by the argument of that name.
            params: Query parameters; a list repeats its parameter.
            headers: Sent in addition to those of the API.
            records: The path of the records in the document, in JMESPath. By default the top-level list, the one list
                of objects, or the object itself.
            pagination: How to request the next page.
            cursor: The field that marks where the next poll begins.
            keys: The columns by which a row replaces an earlier one, in streams without ``keys`` of their own.
            fields: For each column its path in a record, in JMESPath. By default all fields become columns.
            types: The types of columns: ``"decimal(18,8)"``, ``"int"``, ``"float"``, ``"bool"``, ``"text"``,
                ``"date"``, ``"timestamp"``, ``"unix_s"``, ``"unix_ms"``, ``"unix_us"``, ``"unix_ns"``, ``"json"``. A
                row with a value that can't be cast is rejected with the reason.
            flatten: Whether nested objects become columns with dotted names. By default they are JSON.
            include: Columns with the same value in every row.
            format: ``"json"``, ``"ndjson"``, ``"csv"`` or ``"xml"``.
            changes_only: Whether to load a row only if it differs from the last row with its key.
            max_pages: The maximum number of pages of a poll.
            for_each: Another resource. This list is read once for each of its records. Columns of the record fill the
                braces in the path that have no argument. If the other resource has a cursor, the lists of new and
                changed records are read.
            include_parent: Columns that are copied from the record of ``for_each``.
            at_once: How many lists are read at the same time.
            path_parameters: The values for the braces in the path.

        Raises:
            ConfigurationError: An argument can't be used.
        """
        options = {name: value for name, value in locals().items() if name in OPTIONS}
        if for_each is None:
            if include_parent:
                raise ConfigurationError("include_parent needs for_each, from whose records it takes values")
            return self._lists.resource("GET", path, path_parameters, options)
        return self._lists.child(path, path_parameters, options, for_each, include_parent or {}, at_once)

    @suggesting_call
    def post(
        self,
        path: str,
        *,
        json: Mapping[str, Any],
        params_in: str = "json",
        job: Job | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        records: str | None = None,
        pagination: Pagination | None = None,
        cursor: Cursor | None = None,
        keys: str | Sequence[str] = (),
        fields: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        flatten: bool = False,
        include: Mapping[str, Any] | None = None,
        format: Format = "json",
        changes_only: bool = False,
        max_pages: int = 10_000,
        **path_parameters: Any,
    ) -> Resource:
        """Describe a list that is read with POST, such as a search. Calls are retried as those of ``get``.

        Args:
            path: As in ``get``. So are all arguments that are not listed here.
            json: The body.
            params_in: Where to send the parameters of pagination and cursor: in the body (``"json"``) or in the
                ``"query"``. In the body a dotted name sets a field of a nested object.
            job: The description of the job, if the call submits a job that makes the list. ``records``, ``format`` and
                ``pagination`` then describe the job's result.

        Raises:
            ConfigurationError: An argument can't be used.
        """
        options = {name: value for name, value in locals().items() if name in OPTIONS}
        one_of(params_in, ("json", "query"), "params_in")
        body = dict(of_kind(json, Mapping, "json", "a dict"))
        resource = self._lists.resource("POST", path, path_parameters, options, body=body, in_body=params_in == "json")
        if job is None:
            return resource
        if of_kind(job, Job, "job", "a Job").result_url is not None and pagination is not None:
            raise ConfigurationError(
                "pagination can't be used with result_url of Job; name the result's path as result="
            )
        return dataclasses.replace(resource, job=job.below(self.url))

    @suggesting_call
    def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        records: str,
        path: str = "/graphql",
        after: str = "after",
        page_info: str | None = None,
        **options: Unpack[ListOptions],
    ) -> Resource:
        """Describe a connection that is read with a GraphQL query.

        The query must request ``pageInfo { hasNextPage endCursor }`` and take a variable for ``endCursor``.

        Args:
            query: The query.
            variables: Its variables.
            records: The path of the nodes, such as ``"data.repository.issues.nodes"``.
            path: The path of the GraphQL endpoint.
            after: The variable that takes ``endCursor``.
            page_info: The path of ``pageInfo``; by default beside the nodes.
            options: As in ``get``; the ``param`` and ``until`` of a cursor name variables.

        Raises:
            ConfigurationError: An argument can't be used.
        """
        known = ["query", "variables", "records", "path", "after", "page_info", *ListOptions.__annotations__]
        for name in options:
            if name not in known:
                raise ConfigurationError(f"graphql of RestApi has no argument {name!r}{nearest(name, known)}")
        text(query, "query")
        text(records, "records")
        text(after, "after")
        of_kind(variables or {}, Mapping, "variables", "a dict")
        beside = page_info or f"{records.partition('[')[0].rpartition('.')[0]}.pageInfo".removeprefix(".")
        cursor = options.get("cursor")
        if cursor is not None:
            options["cursor"] = of_kind(cursor, Cursor, "cursor", "a Cursor").within("variables")
        pagination = PageInfo(beside, f"variables.{after}")
        given = {**DEFAULTS, **options, "records": records, "pagination": pagination}
        body = {"query": query, "variables": dict(variables or {})}
        return self._lists.resource("POST", path, {}, given, body=body, in_body=True, is_graphql=True)
