"""Calls to an API: paced, authenticated, tried again where that helps, and bounded in time and size."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import quote, unquote_plus, urlencode, urljoin, urlsplit, urlunsplit

import httpx2

from api2db.backoff import BackOff
from api2db.errors import PollError
from api2db.rest._addresses import Origin, origin_of, public_address
from api2db.rest._arguments import Rate
from api2db.rest._auth import Added, Auth, NoAuth
from api2db.rest._encoding import ACCEPTED, decompressed
from api2db.rest._json import decode
from api2db.rest._limits import Pace, TooLongError, limit_reset_s, retry_after_s
from api2db.rest._secrets import scrub

logger = logging.getLogger("api2db.rest")
TRIES: Final = 5
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_JITTER_SHARE: Final = 0.5
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 10
_SHOWN: Final = 200
_AGENT: Final = "api2db"


@dataclass(frozen=True)
class Limits:
    """What bounds the calls to one API; see RestApi."""

    rates: tuple[Rate, ...] = ()
    connect_s: float = 10.0
    read_s: float = 30.0
    poll_s: float = 3600.0
    response_bytes: int = 64 * 10**6
    decompressed_bytes: int = 256 * 10**6
    depth: int = 100
    tries: int = TRIES
    allow_private: bool | None = None


@dataclass(frozen=True)
class Request:
    """One call, without authentication.

    Attributes:
        json: The body of a POST, encoded already.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json: bytes | None = None


@dataclass(frozen=True)
class Response:
    """What came back, whole.

    Attributes:
        url: Where it came from, after redirects.
        headers: Their names in lower case.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Figures:
    """Counts of a resource since its process was started."""

    calls: int = 0
    not_modified: int = 0
    retried: int = 0
    waited_s: float = 0.0
    rows_new: int = 0
    rows_repeated: int = 0
    rows_rejected: int = 0
    rows_without_cursor: int = 0


class PermanentStatusError(PollError):
    """A status that another try will not change."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type["PermanentStatusError"], tuple[str, int]]:
        return type(self), (str(self), self.status)


class _Host:
    """The connections to one host and its pace, shared by all polls of this process."""

    def __init__(self) -> None:
        self.pace = Pace()
        # No cookies: they would carry one user's session into the calls of another.
        self.client = httpx2.Client(cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())), follow_redirects=False)


class _Hosts:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[Origin, _Host] = {}

    def of(self, origin: Origin) -> _Host:
        with self._lock:
            return self._hosts.setdefault(origin, _Host()) if origin not in self._hosts else self._hosts[origin]


_hosts = _Hosts()


class Session:
    """The calls of one poll.

    Args:
        base: The API's own origin, the only one that gets its authentication.
        auth: A form of authentication, or one of httpx2.
        limits: What bounds the calls.
        figures: Where calls are counted.
    """

    def __init__(self, base: Origin, auth: Auth | httpx2.Auth, limits: Limits, figures: Figures) -> None:
        self._base = base
        self._auth = auth
        self._limits = limits
        self._figures = figures
        self._secrets: set[str] = set()
        self._trusted = {base}
        self._deadline_s = time.monotonic() + limits.poll_s

    def fetch(self, request: Request, accept: Callable[[int], bool] = lambda _: False) -> Response:
        """Make a call, with its retries.

        Args:
            request: What to ask for.
            accept: Which statuses beside 2xx are answers.

        Raises:
            PollError: No try gave an answer, or time is up. No secret is in the message.
        """
        try:
            return self._fetch(request, accept)
        except PermanentStatusError as error:
            raise PermanentStatusError(self.scrub(str(error)), error.status) from None
        except PollError as error:
            raise PollError(self.scrub(str(error))) from None

    def scrub(self, text: str) -> str:
        """Hide all secrets that this poll has sent."""
        return scrub(text, self._secrets)

    def holds_secret(self, text: str) -> bool:
        """Whether a text has a secret in it that this poll has sent."""
        return self.scrub(text) != text

    def _fetch(self, request: Request, accept: Callable[[int], bool]) -> Response:
        renewed, why, back_off = False, "", _new_back_off()
        for attempt in range(1, self._limits.tries + 1):
            try:
                response = self._call(request, self._auth)
            except httpx2.TransportError as error:
                why, wait_s = f"{type(error).__name__}: {error}", back_off.failed()
            else:
                if 200 <= response.status < 300 or accept(response.status):
                    return response
                if not renewed and self._renews(response):
                    renewed = True
                    continue
                why = _said(response)
                wait_s = self._asked_s(response, back_off)
            if attempt < self._limits.tries:
                self._pause(request, why, wait_s)
        raise PollError(f"{request.method} {_shown(request.url)} failed {self._limits.tries} times: {why}")

    def _renews(self, response: Response) -> bool:
        """Whether authentication may do better after this 401."""
        return response.status == 401 and not isinstance(self._auth, httpx2.Auth) and self._auth.refused()

    def _pause(self, request: Request, why: str, wait_s: float) -> None:
        self._figures.retried += 1
        logger.info("%s", self.scrub(f"{_shown(request.url)}: {why}; trying again in {wait_s:.1f} s"))
        self._sleep(wait_s, why)

    def _asked_s(self, response: Response, back_off: BackOff) -> float:
        """How long to wait after a response that says to come again; the whole host waits where it was asked to.

        Raises:
            PermanentStatusError: Another try would not help.
        """
        if not _may_help(response):
            raise PermanentStatusError(f"{_shown(response.url)}: {_said(response)}", response.status)
        asked_s = retry_after_s(response.headers)
        if asked_s is None:
            asked_s = limit_reset_s(response.headers)
        if asked_s is None:
            return back_off.failed()
        _hosts.of(origin_of(response.url)).pace.pause(asked_s)
        return asked_s

    def _call(self, request: Request, auth: Auth | httpx2.Auth) -> Response:
        """Send a request and follow its redirects."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._send(request, auth)
            target = response.headers.get("location")
            if response.status not in _REDIRECTS or target is None:
                return response
            request = _redirected(request, response.status, urljoin(request.url, target))
        raise PollError(f"{_shown(request.url)}: more than {_MOST_REDIRECTS} redirects")

    def _send(self, request: Request, auth: Auth | httpx2.Auth) -> Response:
        origin = origin_of(request.url)
        host = _hosts.of(origin)
        own = origin == self._base
        added = self._added(auth, request) if own and not isinstance(auth, httpx2.Auth) else Added()
        url, headers, extensions = self._pinned(origin, with_params(request.url, added.params))
        prepared = host.client.build_request(
            request.method,
            url,
            headers={"User-Agent": _AGENT, "Accept-Encoding": ACCEPTED, **headers, **request.headers, **added.headers},
            content=request.json,
            timeout=httpx2.Timeout(self._limits.read_s, connect=self._limits.connect_s),
            extensions=extensions,
        )
        theirs = auth if own and isinstance(auth, httpx2.Auth) else None
        with self._paced(host.pace):
            streamed = host.client.send(prepared, stream=True, auth=theirs)
            try:
                self._note_secrets(streamed.request)
                response = Response(streamed.status_code, request.url, _lowered(streamed.headers), self._body(streamed))
            finally:
                streamed.close()
        if (reset_s := limit_reset_s(response.headers)) is not None:
            host.pace.pause(reset_s)
        return response

    def _pinned(self, origin: Origin, url: str) -> tuple[str, dict[str, str], dict[str, Any]]:
        """A URL with the address that was checked instead of the host's name, where private ones are refused."""
        allowed = self._limits.allow_private
        if allowed or (allowed is None and origin in self._trusted):
            return url, {}, {}
        address = public_address(origin)
        parts = urlsplit(url)
        netloc = f"[{address}]:{origin.port}" if ":" in address else f"{address}:{origin.port}"
        return (
            urlunsplit((parts.scheme, netloc, parts.path, parts.query, "")),
            {"Host": parts.netloc.rpartition("@")[2]},
            {"sni_hostname": origin.host},
        )

    def _added(self, auth: Auth, request: Request) -> Added:
        added = auth.added(self._post_form)
        self._secrets.update(secret for secret in added.secrets if secret)
        if added.sign is not None:
            added = added.sign(request)
            self._secrets.update(secret for secret in added.secrets if secret)
        return added

    def _note_secrets(self, request: httpx2.Request) -> None:
        """An authentication of httpx2 puts what nobody else may see into this header."""
        value = request.headers.get("authorization", "")
        self._secrets.update(part for part in value.split()[1:] if part)

    def _post_form(
        self, url: str, form: Mapping[str, str] | bytes | None, headers: Mapping[str, str], secrets: Sequence[str]
    ) -> Any:
        """Ask a token server, which is trusted with the secrets that it is sent."""
        self._secrets.update(secret for secret in secrets if secret)
        content = {"Accept": "application/json"}
        if form is not None:
            content["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form).encode() if isinstance(form, Mapping) else form
        request = Request("GET" if form is None else "POST", url, {**content, **headers}, body)
        self._trusted.add(origin_of(url))
        answer = self._fetch_once(request).body
        try:
            return decode(answer, self._limits.depth)
        except PollError:  # its message shows the begin of the answer, which may be a token
            raise PollError(f"{request.method} {_shown(url)}: the answer is not JSON") from None

    def _fetch_once(self, request: Request) -> Response:
        """Without redirects: a form of secrets goes nowhere else."""
        attempt, response, back_off = 1, self._send(request, NoAuth()), _new_back_off()
        while _may_help(response) and attempt < self._limits.tries:
            self._sleep(self._asked_s(response, back_off), _said(response))
            attempt, response = attempt + 1, self._send(request, NoAuth())
        if 200 <= response.status < 300:
            return response
        raise PermanentStatusError(f"{request.method} {_shown(request.url)}: {_said(response)}", response.status)

    @contextmanager
    def _paced(self, pace: Pace) -> Iterator[None]:
        try:
            with pace.call(self._limits.rates, max(0.0, self._deadline_s - time.monotonic())) as waited_s:
                self._figures.waited_s += waited_s
                self._figures.calls += 1
                yield
        except TooLongError as error:
            raise PollError(
                f"{self._base.host} asks for a pause of {error.wait_s:.0f} s, or its rate limit is spent, and the poll "
                f"may take {self._limits.poll_s:g} s (max_poll_time of RestApi); the next poll goes on"
            ) from None

    def _sleep(self, seconds: float, why: str) -> None:
        if time.monotonic() + seconds > self._deadline_s:
            raise PollError(
                f"{why}; another try in {seconds:.0f} s would be later than max_poll_time of RestApi allows "
                f"({self._limits.poll_s:g} s); the next poll goes on"
            )
        self._figures.waited_s += seconds
        time.sleep(seconds)  # in a poll's own thread, which nobody waits for when the process ends

    def _body(self, response: httpx2.Response) -> bytes:
        encoding = response.headers.get("content-encoding", "")
        pieces = []
        chunks = response.iter_raw()
        for piece in decompressed(chunks, encoding, self._limits.response_bytes, self._limits.decompressed_bytes):
            pieces.append(piece)
            if time.monotonic() > self._deadline_s:
                raise PollError(
                    f"the response did not end within {self._limits.poll_s:g} s; raise max_poll_time of RestApi if the "
                    "API is that slow"
                )
        return b"".join(pieces)


def _new_back_off() -> BackOff:
    return BackOff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, jitter_share=_JITTER_SHARE)


def _shown(url: str) -> str:
    """A URL without its query, which may hold a secret, and without a password."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def with_params(url: str, params: Mapping[str, Any]) -> str:
    """Return a URL whose query has these parameters, in place of those of the same names."""
    if not params:
        return url
    parts = urlsplit(url)
    # What stays is not encoded again: a signature is for the query as it is.
    kept = [one for one in parts.query.split("&") if one and unquote_plus(one.partition("=")[0]) not in params]
    added = [(name, _text(value)) for name, values in params.items() for value in _listed(values) if value is not None]
    query = "&".join([*kept, urlencode(added, quote_via=quote, safe=":,/")]) if added else "&".join(kept)
    return urlunsplit(parts._replace(query=query))


def without_params(url: str, names: frozenset[str]) -> str:
    """Return a URL without the parameters of these names."""
    return with_params(url, dict.fromkeys(names)) if names else url


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _redirected(request: Request, status: int, url: str) -> Request:
    """The request that a redirect asks for. What the user's own headers hold may be meant for the first host only."""
    becomes_get = status == 303 or (status in {301, 302} and request.method == "POST")
    same = origin_of(url) == origin_of(request.url)
    if becomes_get:
        return Request("GET", url, request.headers if same else {})
    return Request(request.method, url, request.headers if same else {}, request.json)


def _may_help(response: Response) -> bool:
    """Whether another try may do better; a 403 with a spent rate limit is GitHub's 429."""
    return response.status in _AGAIN or (
        response.status == 403 and (retry_after_s(response.headers) or limit_reset_s(response.headers)) is not None
    )


def _said(response: Response) -> str:
    body = " ".join(response.body.decode("utf-8", "replace").split())
    return f"HTTP {response.status}{f': {body[:_SHOWN]}' if body else ''}"


def _lowered(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _WithoutQuery(logging.Filter):
    """Takes queries out of what the client library logs: a key may stand there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_cut(value) for value in record.args)
        return True


def _cut(value: Any) -> Any:
    return str(value).partition("?")[0] if isinstance(value, httpx2.URL) else value


logging.getLogger("httpx2").addFilter(_WithoutQuery())
