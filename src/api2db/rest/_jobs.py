"""Job: a list that an API makes in an asynchronous job. A poll submits the job, waits for it, and downloads its list.

The key ``job`` of the state holds the job's id and the time of its submission until its list has been journalled. After
a crash the next poll continues with the same job. The URLs of the result are not stored, because they may be signed.
"""

import dataclasses
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urljoin

from api2db.backoff import BackOff
from api2db.errors import ConfigurationError, PollError
from api2db.rest._arguments import duration_s, of_kind, suggesting
from api2db.rest._effects import End, Steps, Wait, next_frame
from api2db.rest._endpoint import Endpoint
from api2db.rest._limits import date_s, retry_after_s
from api2db.rest._messages import Figures, PermanentStatusError, Request, Response
from api2db.rest._pagination import NoPagination, Page, Position
from api2db.rest._paths import Path, compiled
from api2db.rest._poll import Poll

logger = logging.getLogger("api2db.rest")
_FIRST_PAUSE_S: Final = 1.0
_JITTER_SHARE: Final = 0.2
_GONE: Final = frozenset({404, 410})


@suggesting
@dataclass(frozen=True)
class Job:
    """A list that an API makes in an asynchronous job. The request submits the job, and the result is downloaded.

    Args:
        id: The path of the job's id in the answer to the request, in JMESPath.
        status: The URL path of the job's status, with ``{id}`` for the id.
        state: The path of the job's state in the status, in JMESPath.
        done: The state or states of a job that has its result.
        failed: The state or states of a job that will have no result. In any other state the poll waits.
        result: The URL path of the result, with ``{id}`` for the id. Give either this or ``result_url``.
        result_url: The path of the result's URL in the status, in JMESPath; it may hold a list of URLs.
        every: The longest pause between two requests of the status. The first pause is one second, and each further
            one is twice as long. ``Retry-After`` of the answer replaces it.
        give_up_after: The age at which a job is given up. The next poll submits another one.
        idempotency_header: The header for a key by which the API recognises a repeated request, such as
            ``"Idempotency-Key"``. With it, a crash right after the request does not submit a second job.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    id: str
    status: str
    state: str
    done: str | tuple[str, ...]
    failed: str | tuple[str, ...] = ()
    result: str | None = None
    result_url: str | None = None
    every: str | float = "30s"
    give_up_after: str | float = "1d"
    idempotency_header: str | None = None
    find_id: Path = field(init=False, repr=False, compare=False)
    find_state: Path = field(init=False, repr=False, compare=False)
    find_urls: Path | None = field(init=False, repr=False, compare=False, default=None)
    every_s: float = field(init=False, repr=False, compare=False)
    give_up_after_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        found = {
            "find_id": compiled(self.id, "id of Job"),
            "find_state": compiled(self.state, "state of Job"),
            "find_urls": None if self.result_url is None else compiled(self.result_url, "result_url of Job"),
            "every_s": duration_s(self.every, "every of Job"),
            "give_up_after_s": duration_s(self.give_up_after, "give_up_after of Job"),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def below(self, base: str) -> "Job":
        """Return the same job with whole URLs in place of URL paths."""
        urls = {name: getattr(self, name) for name in ("status", "result")}
        urls = {name: path and f"{base.rstrip('/')}/{path.lstrip('/')}" for name, path in urls.items()}
        return dataclasses.replace(self, **urls)

    def _check(self) -> None:
        for name in ("status", "result"):
            path = getattr(self, name)
            if path is not None and "{id}" not in of_kind(path, str, f"{name} of Job", "text such as '/exports/{id}'"):
                raise ConfigurationError(f"{name} of Job is {path!r}; it needs {{id}}, which stands for the job's id")
        if (self.result is None) == (self.result_url is None):
            raise ConfigurationError("Job needs either result=, the path of its result, or result_url=")
        if not self.done or set(_listed(self.done)) & set(_listed(self.failed)):
            raise ConfigurationError("done of Job needs at least one state, and none of those of failed")


@dataclass(frozen=True)
class _Files:
    """The pagination of a result in several files. A position is the number of a file."""

    urls: tuple[str, ...]

    def params(self, at: Position) -> Mapping[str, Any]:
        return {}

    def url(self, at: Position) -> str | None:
        return self.urls[at or 0]

    def after(self, page: Page, at: Position) -> Position:
        following = (at or 0) + 1
        return following if following < len(self.urls) else None


class _Result(Endpoint):
    """The list that a job made. It is requested without the cursor, which was sent when the job was submitted."""

    def request(self, start: Any, at: Position) -> Request:
        return super().request(None, at)

    def after(self, page: Page, at: Position) -> Position:
        return self.pagination.after(page, at) if isinstance(self.pagination, _Files) else super().after(page, at)


class JobPoll:
    """A poll of a list that a job makes.

    Args:
        endpoint: The request that submits the job, and the records of its result.
        job: The description of the job.
        state: The collector's state, changed in place before each frame.
        figures: Where calls and rows are counted.
    """

    def __init__(self, endpoint: Endpoint, job: Job, state: dict[str, Any], figures: Figures) -> None:
        self._endpoint = endpoint
        self._job = job
        self._state = state
        self._figures = figures
        self._until_s = time.monotonic() + endpoint.limits.poll_s
        self._session = endpoint.session(figures, self._until_s)

    def frames(self) -> Steps[None]:
        """Yield effects, and the frames of the result, changing the state before each.

        Raises:
            PollError: A call failed, the job failed, or it was not done in time. The next poll continues.
        """
        if self._is_too_old():
            logger.warning("%s: the job is older than give_up_after; another is submitted", self._endpoint.url)
            self._forget()
        if "id" not in self._state.get("job", {}):
            yield from self._submitted()
        try:
            document = yield from self._waited_for()
            steps = self._downloaded(document)
            while not isinstance(frame := (yield from next_frame(steps)), End):
                if "poll" not in self._state:
                    self._state.pop("job", None)
                yield frame
        except _LostError as error:
            self._forget()
            yield None
            raise PollError(str(error)) from None

    def _is_too_old(self) -> bool:
        begun_s = self._state.get("job", {}).get("begun", time.time())
        return bool(time.time() - begun_s > self._job.give_up_after_s)

    def _forget(self) -> None:
        self._state.pop("job", None)
        self._state.pop("poll", None)

    def _submitted(self) -> Steps[None]:
        """Submit the job, and store its id before the next call."""
        cursor, reached = self._endpoint.cursor, self._state.get("cursor")
        start = None if cursor is None else cursor.initial if reached is None else cursor.start(reached)
        request = dataclasses.replace(self._endpoint, pagination=NoPagination(), format="json").request(start, None)
        if self._job.idempotency_header is not None:
            kept = self._state.setdefault("job", {"begun": time.time(), "key": uuid.uuid4().hex, "start": start})
            if kept["start"] != start:
                kept |= {"begun": time.time(), "key": uuid.uuid4().hex, "start": start}
            yield None
            request = dataclasses.replace(
                request, headers={**request.headers, self._job.idempotency_header: kept["key"]}
            )
        response = yield from self._session.fetch(request)
        found = self._job.find_id(self._document(response))
        if not isinstance(found, (str, int)) or isinstance(found, bool) or str(found) in {"", ".", ".."}:
            raise PollError(f"{self._shown(response.url)}: the answer has no id of a job at {self._job.id!r}")
        self._state["job"] = {"id": found, "begun": time.time()}
        # The download counts as a poll that began at the submission: it may lack what has changed since.
        self._state["poll"] = {
            "start": start,
            "at": None,
            "high": reached,
            "begun": date_s(response.headers),
            "recent": [],
        }
        yield None

    def _waited_for(self) -> Steps[Any]:
        """Request the status until the job is done; return the last status."""
        url = self._url(self._job.status)
        first_s = min(_FIRST_PAUSE_S, self._job.every_s)
        back_off = BackOff(first_s, self._job.every_s, jitter_share=_JITTER_SHARE)
        while True:
            request = Request("GET", url, {"Accept": "application/json", **self._endpoint.headers})
            response = yield from self._fetched(request)
            document = self._document(response)
            state = self._job.find_state(document)
            if state is None:
                raise PollError(f"{self._shown(url)}: the answer has no state at {self._job.state!r}")
            if str(state) in _listed(self._job.done):
                return document
            if str(state) in _listed(self._job.failed):
                raise _LostError(f"{self._shown(url)}: the job ended as {str(state)!r}; the next poll submits another")
            pause_s, asked_s = back_off.failed(), retry_after_s(response.headers)
            yield from self._wait(pause_s if asked_s is None else max(asked_s, first_s), str(state))

    def _wait(self, seconds: float, state: str) -> Steps[None]:
        if time.monotonic() + seconds > self._until_s:
            raise PollError(
                f"the job is still {state!r}, and the poll may take {self._endpoint.limits.poll_s:g} s (max_poll_time "
                "of RestApi); the next poll goes on with it"
            )
        self._figures.waited_s += seconds
        yield Wait(seconds)

    def _downloaded(self, document: Any) -> Steps[None]:
        endpoint = _Result(**{one.name: getattr(self._endpoint, one.name) for one in dataclasses.fields(Endpoint)})
        endpoint = dataclasses.replace(endpoint, method="GET", body=None, in_body=False, params={}, path={})
        if self._job.result is not None:
            endpoint = dataclasses.replace(endpoint, url=self._url(self._job.result))
        else:
            urls = self._urls(document)
            if not urls:
                self._forget()
                yield None
                return
            endpoint = dataclasses.replace(endpoint, pagination=_Files(urls))
        try:
            poll = Poll(endpoint, self._state, self._figures, conditional=False, until_s=self._until_s)
            yield from poll.frames()
        except PermanentStatusError as error:
            if error.status not in _GONE:
                raise
            raise _LostError(f"{error}; the result is gone, and the next poll submits another job") from None

    def _urls(self, document: Any) -> tuple[str, ...]:
        found = self._job.find_urls(document) if self._job.find_urls is not None else None
        urls = [found] if isinstance(found, str) else found
        if not isinstance(urls, list) or not all(isinstance(url, str) and url for url in urls):
            raise PollError(
                f"{self._endpoint.url}: the job is done, and has no URL at result_url={self._job.result_url!r}; if "
                f"this means that it has no rows, write result_url={f'{self._job.result_url} || `[]`'!r}"
            )
        return tuple(urljoin(self._url(self._job.status), url) for url in urls)

    def _fetched(self, request: Request) -> Steps[Response]:
        try:
            return (yield from self._session.fetch(request))
        except PermanentStatusError as error:
            if error.status not in _GONE:
                raise
            raise _LostError(f"{error}; the job is gone, and the next poll submits another") from None

    def _document(self, response: Response) -> Any:
        return dataclasses.replace(self._endpoint, format="json").document(response)

    def _url(self, template: str) -> str:
        name = quote(str(self._state["job"]["id"]), safe="")
        return template.replace("{id}", name)

    def _shown(self, url: str) -> str:
        return self._session.scrub(url.partition("?")[0])


class _LostError(PollError):
    """A job that will have no result."""


def _listed(states: str | tuple[str, ...]) -> tuple[str, ...]:
    return (states,) if isinstance(states, str) else tuple(states)
