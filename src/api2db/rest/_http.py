"""Calls to an API: paced, authenticated, tried again where that helps, and bounded in time and size."""

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import httpx2

from api2db.backoff import BackOff
from api2db.errors import PollError
from api2db.rest._addresses import Origin, origin_of
from api2db.rest._arguments import Rate
from api2db.rest._auth import Added, Auth, NoAuth
from api2db.rest._blocking_driver import finished
from api2db.rest._effects import Begin, Call, Steps, TimeUpError, Wait
from api2db.rest._hosts import Host, host_of, rates_of
from api2db.rest._json import decode
from api2db.rest._limits import limit_reset_s, retry_after_s
from api2db.rest._lines import Lines
from api2db.rest._messages import Figures, Limits, PermanentStatusError, Request, Response
from api2db.rest._pace import TooLongError
from api2db.rest._secrets import SentSecrets
from api2db.rest._transfer import Transfer
from api2db.rest._urls import joined, shown

logger = logging.getLogger("api2db.rest")
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_JITTER_SHARE: Final = 0.5
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 10
_SHOWN: Final = 200
_READ: Final = 1 << 16
"""How much of an error's body is searched for secrets before it is cut to what is shown."""
_OF_BODY: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Session:
    """The calls of one poll.

    Args:
        base: The API's own origin, the only one that gets its authentication.
        auth: A form of authentication, or one of httpx2.
        limits: What bounds the calls.
        figures: Where calls are counted.
        until_s: When the poll must have ended, in seconds of ``time.monotonic``; by default ``limits`` tell.
    """

    def __init__(
        self,
        base: Origin,
        auth: Auth | httpx2.Auth,
        limits: Limits,
        figures: Figures,
        until_s: float | None = None,
    ) -> None:
        self._base = base
        self._auth = auth
        self._limits = limits
        self._figures = figures
        self._secrets = SentSecrets()
        self._sent = Added()
        self._trusted = {base}
        self._until_s = time.monotonic() + limits.poll_s if until_s is None else until_s
        self._transfer = Transfer(limits, self._trusted, self._until_s)

    def fetch(self, request: Request, accept: Callable[[int], bool] = lambda _: False) -> Steps[Response]:
        """Make a call, with its retries; return the response.

        Args:
            request: What to ask for.
            accept: Which statuses beside 2xx are answers.

        Raises:
            PollError: No try gave an answer.
            TimeUpError: The poll has taken as long as it may.

        No secret is in the messages.
        """
        try:
            return (yield from self._fetch(request, accept))
        except PermanentStatusError as error:
            raise PermanentStatusError(self.scrub(str(error)), error.status) from None
        except TimeUpError as error:
            raise TimeUpError(self.scrub(f"{request.method} {shown(request.url)}: {error}")) from None
        except PollError as error:
            raise PollError(self.scrub(str(error))) from None

    def scrub(self, text: str) -> str:
        """Hide all secrets that this poll has sent."""
        return self._secrets.scrub(text)

    def holds_secret(self, text: str) -> bool:
        """Whether a text has a secret in it that this poll has sent."""
        return self._secrets.holds_secret(text)

    def _fetch(self, request: Request, accept: Callable[[int], bool]) -> Steps[Response]:
        renewed, why, back_off, attempt = False, "", _new_back_off(), 0
        while attempt < self._limits.tries:
            attempt += 1
            try:
                response = yield from self._call(request, self._auth)
            except (httpx2.InvalidURL, UnicodeError):
                raise PollError(f"{shown(request.url)!r} is not a URL that can be asked") from None
            except httpx2.TransportError as error:
                why, wait_s = _failed(error), back_off.failed()
            else:
                if 200 <= response.status < 300 or accept(response.status):
                    return response
                if not renewed and self._renews(response):
                    renewed, attempt = True, attempt - 1
                    continue
                why = _said(response)
                wait_s = self._asked_s(response, back_off)
            if attempt < self._limits.tries:
                yield from self._pause(request, why, wait_s)
        raise PollError(f"{request.method} {shown(request.url)} failed {self._limits.tries} times: {why}")

    def _renews(self, response: Response) -> bool:
        """Whether authentication may do better after this 401."""
        return response.status == 401 and not isinstance(self._auth, httpx2.Auth) and self._auth.refused(self._sent)

    def _pause(self, request: Request, why: str, wait_s: float) -> Steps[None]:
        self._figures.retried += 1
        logger.info("%s", self.scrub(f"{shown(request.url)}: {why}; trying again in {wait_s:.1f} s"))
        yield from self._sleep(wait_s, why)

    def _asked_s(self, response: Response, back_off: BackOff) -> float:
        """How long to wait after a response that says to come again; the whole host waits where it was asked to.

        Raises:
            PermanentStatusError: Another try would not help.
        """
        if not _may_help(response):
            raise PermanentStatusError(f"{shown(response.url)}: {_said(response)}", response.status)
        asked_s = retry_after_s(response.headers)
        if asked_s is None:
            asked_s = limit_reset_s(response.headers)
        if asked_s is None:
            return back_off.failed()
        host_of(origin_of(response.url)).pace.pause(asked_s)
        return asked_s

    def _call(self, request: Request, auth: Auth | httpx2.Auth) -> Steps[Response]:
        """Send a request and follow its redirects."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = yield from self._send(request, auth)
            target = response.headers.get("location")
            if response.status not in _REDIRECTS or target is None:
                return response
            request = _redirected(request, response.status, joined(request.url, target))
        raise PollError(f"{shown(request.url)}: more than {_MOST_REDIRECTS} redirects")

    def _send(self, request: Request, auth: Auth | httpx2.Auth) -> Steps[Response]:
        origin = origin_of(request.url)
        host = host_of(origin)
        own = origin == self._base
        if origin not in self._trusted:
            request = replace(request, url=self._secrets.without(request.url, getattr(self._auth, "secret_params", ())))
        added = (yield from self._added(auth)) if own and not isinstance(auth, httpx2.Auth) else Added()
        rates = rates_of(origin, self._limits)
        yield from self._begun(host, rates)
        body: Any
        try:
            added = yield from self._signed(added, request)
            prepared = yield from self._transfer.prepared(origin, request, added)
            if own and isinstance(auth, httpx2.Auth):
                answer, body = yield from self._exchange(host, prepared, auth)
            else:
                answer, body = yield from self._transfer.answered(host, prepared, in_lines=request.in_lines)
        finally:
            # A call whose body is read in lines ends here, too: it may wait for the lists of its records.
            host.pace.end(rates)
        lines, body = (body, b"") if isinstance(body, Lines) else (None, body)
        response = Response(answer.status_code, request.url, _lowered(answer.headers), body, lines, self.scrub)
        if (reset_s := limit_reset_s(response.headers)) is not None:
            host.pace.pause(reset_s)
        return response

    def _exchange(self, host: Host, request: httpx2.Request, auth: httpx2.Auth) -> Steps[tuple[httpx2.Response, bytes]]:
        """Carry out an authentication of httpx2, which may send several requests. Its code may block."""
        prepared = httpx2.Request(request.method, request.url, headers=request.headers)
        flow = auth.sync_auth_flow(request)
        try:
            sent = yield Call(partial(next, flow), self._until_s, auth)
            while True:
                self._secrets.note_changes(prepared, sent)
                answer, body = yield from self._transfer.answered(host, sent)
                sent = yield Call(partial(_next, flow, _whole(answer, body)), self._until_s, auth)
                if sent is None:
                    return answer, body
        finally:
            flow.close()

    def _added(self, auth: Auth) -> Steps[Added]:
        if getattr(auth, "is_ready", False):
            added = auth.added(self._post_form)
        else:
            added = yield Call(lambda: auth.added(self._post_form), self._until_s, auth)
        self._secrets.add(added.secrets)
        self._sent = added
        return added

    def _signed(self, added: Added, request: Request) -> Steps[Added]:
        """Sign a request as the last thing before it is sent: a signature may hold for some seconds only."""
        if added.sign is None:
            return added
        made: Added = yield Call(partial(added.sign, request), self._until_s, self._auth)
        self._secrets.add(made.secrets)
        self._sent = made
        return made

    def _post_form(
        self, url: str, form: Mapping[str, str] | bytes | None, headers: Mapping[str, str], secrets: Sequence[str]
    ) -> Any:
        """Ask a token server, which is trusted with the secrets that it is sent."""
        self._secrets.add(secrets)
        content = {"Accept": "application/json"}
        if form is not None:
            content["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form).encode() if isinstance(form, Mapping) else form
        request = Request("GET" if form is None else "POST", url, {**content, **headers}, body)
        self._trusted.add(origin_of(url))
        answer = finished(self._fetch_once(request)).body
        try:
            return decode(answer, self._limits.depth)
        except PollError:  # its message shows the beginning of the body, which may be a token
            raise PollError(f"{request.method} {shown(url)}: the answer is not JSON") from None

    def _fetch_once(self, request: Request) -> Steps[Response]:
        """Without redirects: a form of secrets goes nowhere else."""
        attempt, response, back_off = 1, (yield from self._send(request, NoAuth())), _new_back_off()
        while _may_help(response) and attempt < self._limits.tries:
            yield from self._sleep(self._asked_s(response, back_off), _said(response))
            attempt, response = attempt + 1, (yield from self._send(request, NoAuth()))
        if 200 <= response.status < 300:
            return response
        raise PermanentStatusError(f"{request.method} {shown(request.url)}: {_said(response)}", response.status)

    def _begun(self, host: Host, rates: tuple[Rate, ...]) -> Steps[None]:
        """Wait for the pace of a host; the call counts until its end."""
        try:
            if host.pace.try_begin(rates) is not None:
                self._figures.waited_s += yield Begin(host, rates, max(0.0, self._left_s()))
        except TooLongError as error:
            raise TimeUpError(
                f"{self._base.host} asks for a pause of {error.wait_s:.0f} s, or its rate limit is spent, and the poll "
                f"may take {self._limits.poll_s:g} s (max_poll_time of RestApi); the next poll goes on"
            ) from None
        self._figures.calls += 1

    def _left_s(self) -> float:
        return self._until_s - time.monotonic()

    def _sleep(self, seconds: float, why: str) -> Steps[None]:
        if time.monotonic() + seconds > self._until_s:
            raise TimeUpError(
                f"{why}; another try in {seconds:.0f} s would be later than max_poll_time of RestApi allows "
                f"({self._limits.poll_s:g} s); the next poll goes on"
            )
        self._figures.waited_s += seconds
        yield Wait(seconds)


def _next(flow: Generator[httpx2.Request, httpx2.Response, None], response: httpx2.Response) -> httpx2.Request | None:
    """The next request of an authentication; None if the response is its last."""
    try:
        return flow.send(response)
    except StopIteration:
        return None


def _whole(response: httpx2.Response, body: bytes) -> httpx2.Response:
    """A response with its body, which is decompressed already."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _OF_BODY]
    return httpx2.Response(response.status_code, headers=headers, content=body, request=response.request)


def _new_back_off() -> BackOff:
    return BackOff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, jitter_share=_JITTER_SHARE)


def _redirected(request: Request, status: int, url: str) -> Request:
    """The request that a redirect asks for. What the user's own headers hold may be meant for the first host only."""
    becomes_get = status == 303 or (status in {301, 302} and request.method == "POST")
    same = origin_of(url) == origin_of(request.url)
    if request.json is not None and not becomes_get and not same:
        raise PollError(
            f"{shown(request.url)} redirects a POST to {shown(url)}, another host, which is not sent the body; give "
            "RestApi the URL of that host if it is right"
        )
    if becomes_get:
        return Request("GET", url, request.headers if same else {}, in_lines=request.in_lines)
    return Request(request.method, url, request.headers if same else {}, request.json, request.in_lines)


def _may_help(response: Response) -> bool:
    """Whether another try may do better; a 403 with a spent rate limit is GitHub's 429."""
    return response.status in _AGAIN or (
        response.status == 403 and (retry_after_s(response.headers) or limit_reset_s(response.headers)) is not None
    )


def _said(response: Response) -> str:
    body = " ".join(response.scrub(response.body[:_READ].decode("utf-8", "replace")).split())
    return f"HTTP {response.status}{f': {body[:_SHOWN]}' if body else ''}"


def _failed(error: httpx2.TransportError) -> str:
    """Describe an error of the network, with the option that bounds the time."""
    option = "connect_timeout" if isinstance(error, httpx2.ConnectTimeout) else "timeout"
    hint = f"; raise {option} of RestApi if the API is that slow" if isinstance(error, httpx2.TimeoutException) else ""
    return f"{type(error).__name__}{f': {error}' if str(error) else ''}{hint}"


def _lowered(headers: httpx2.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _WithoutHeaders(logging.Filter):
    """Takes headers out of what the transport logs: links may repeat a key, and cookies are secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        event, _, said = record.getMessage().partition(" ")
        if said and "headers" in event:
            record.msg, record.args = f"{event} ***", ()
        return True


class _WithoutQuery(logging.Filter):
    """Takes queries out of what the client library logs: a key may stand there."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_cut(value) for value in record.args)
        return True


def _cut(value: Any) -> Any:
    return str(value).partition("?")[0] if isinstance(value, httpx2.URL) else value


logging.getLogger("httpx2").addFilter(_WithoutQuery())
for _part in ("connection", "http11", "http2", "proxy", "socks"):
    logging.getLogger(f"httpcore2.{_part}").addFilter(_WithoutHeaders())
