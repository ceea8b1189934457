"""The async face of a resource: the same rows as the sync one, without a thread for each poll that waits."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import httpx2
import pytest

from api2db.errors import PollError
from api2db.ingest import _async as ingest_async
from api2db.rest import ApiKey, BearerToken, OAuth2ClientCredentials, PageNumber, Resource, RestApi
from api2db.rest import _hosts as hosts
from api2db.rest import _http as http
from api2db.rest import _network as network
from api2db.testing import cut_gzip, dripping, fail_first, pages_of, slow
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server
from tests.rest.test_children import EXPECTED, Orders, lines
from tests.rest.test_hooks import Portal, bearer
from tests.rest.test_jobs import Exports, exported

ROWS = [{"id": number} for number in range(25)]
Submit = Callable[[Any], "Future[Any]"]


@pytest.fixture(scope="module")
def submit() -> Iterator[Submit]:
    """Runs coroutines on one event loop, whose connections stay open as those of a process do."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop)
    asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.001)


class AsyncPolled(Polled):
    """Polls by the async face."""

    async def poll_async(self) -> list[dict[str, Any]]:
        before = len(self.rows)
        async for page in self.resource.poll_async(self.state):
            self.take(page)
        return self.rows[before:]


def listed(server: Server, **options: Any) -> Resource:
    return RestApi(server.url, **options).get("/items", pagination=PageNumber(size=10))


def numbered(asked: Asked) -> Reply:
    page = int(asked.params["page"])
    return Reply(ROWS[(page - 1) * 10 : page * 10])


def test_it_gives_the_rows_and_the_state_of_the_sync_face(serve: Serve, submit: Submit) -> None:
    resource = listed(serve(fail_first(numbered, 429, 500)))
    asynchronous, plain = AsyncPolled(resource), Polled(resource)
    assert submit(asynchronous.poll_async()).result(20) == plain.poll() == ROWS
    assert asynchronous.state == plain.state
    assert resource.figures.retried == 2


@pytest.mark.parametrize(
    ("fault", "says"), [(cut_gzip, "gzip"), (lambda answer: lambda asked: Reply("no", 403), "HTTP 403")]
)
def test_its_errors_are_those_of_the_sync_face(serve: Serve, submit: Submit, fault: Any, says: str) -> None:
    polled = AsyncPolled(listed(serve(fault(pages_of(ROWS)))))
    with pytest.raises(PollError, match=says):
        submit(polled.poll_async()).result(20)


BOUNDS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "bytes": ({"max_response_bytes": 10}, pages_of(ROWS), "max_response_bytes"),
    "time": ({"max_poll_time": "500ms"}, dripping(pages_of(ROWS), 0.1), "max_poll_time"),
    "silence": ({"timeout": 0.05, "tries": 2}, slow(pages_of(ROWS), 0.5), "ReadTimeout"),
    "private addresses": ({"allow_private": False}, pages_of(ROWS), "which is private"),
    "redirects": ({}, lambda asked: Reply(status=302, headers={"Location": "/items"}), "more than 10 redirects"),
}


@pytest.mark.parametrize(("options", "answer", "says"), BOUNDS.values(), ids=BOUNDS)
def test_its_bounds_are_those_of_the_sync_face(
    serve: Serve, submit: Submit, options: dict[str, Any], answer: Any, says: str
) -> None:
    with pytest.raises(PollError, match=says):
        submit(AsyncPolled(listed(serve(answer), **options)).poll_async()).result(20)


def test_the_lists_of_all_parents_come_in_order(serve: Serve, submit: Submit) -> None:
    orders = Orders()
    polled = AsyncPolled(lines(serve(orders)))
    assert submit(polled.poll_async()).result(20) == EXPECTED
    assert 1 < orders.most_at_once <= 4


def test_a_job_is_followed_as_by_the_sync_face(serve: Serve, submit: Submit) -> None:
    asynchronous, plain = AsyncPolled(exported(serve(Exports()))), Polled(exported(serve(Exports())))
    assert submit(asynchronous.poll_async()).result(20) == plain.poll()
    assert len(asynchronous.rows) == 10
    assert asynchronous.state.keys() == plain.state.keys()


def test_a_late_refusal_of_an_old_session_token_does_not_discard_the_new_one(serve: Serve, submit: Submit) -> None:
    portal, asked_late, others_are_done = Portal(), threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.path == "/late" and asked.headers["authorization"] == "Bearer token-1":
            asked_late.set()
            assert others_are_done.wait(20)
        return portal(asked)

    server = serve(answer)
    api = RestApi(server.url, auth=bearer(server))
    late, other = (api.get(path, pagination=PageNumber()) for path in ("/late", "/items"))
    submit(AsyncPolled(other).poll_async()).result(20)
    portal.revoked = 1
    refused = submit(AsyncPolled(late).poll_async())
    assert asked_late.wait(20)
    polls = [submit(AsyncPolled(other).poll_async()) for _ in range(16)]
    assert [len(poll.result(20)) for poll in polls] == [3] * 16
    others_are_done.set()
    assert len(refused.result(20)) == 3
    assert portal.logins == 2


class Secretive(httpx2.Auth):
    """Asks for a token in a request of its own."""

    requires_response_body = True

    def auth_flow(self, request: httpx2.Request) -> Any:
        answer = yield httpx2.Request("POST", request.url.copy_with(path="/token", query=None))
        request.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield request


AUTHS: dict[str, Callable[[Server], Any]] = {
    "bearer": lambda server: BearerToken("t-1"),
    "param": lambda server: ApiKey("t-1", param="key"),
    "oauth2": lambda server: OAuth2ClientCredentials(f"{server.url}/token", "me", "secret-1"),
    "the client's own": lambda server: Secretive(),
}


@pytest.mark.parametrize("auth", AUTHS.values(), ids=AUTHS)
@pytest.mark.parametrize("face", ["sync", "async"])
def test_each_authentication_works_in_both_faces(
    serve: Serve, submit: Submit, auth: Callable[[Server], Any], face: str
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            return Reply({"access_token": "t-1"})
        known = asked.headers.get("authorization") == "Bearer t-1" or asked.params.get("key") == "t-1"
        return numbered(asked) if known else Reply("no", 401)

    server = serve(answer)
    polled = AsyncPolled(listed(server, auth=auth(server)))
    assert (polled.poll() if face == "sync" else submit(polled.poll_async()).result(20)) == ROWS


def test_many_polls_that_need_a_token_ask_for_one(serve: Serve, submit: Submit) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            time.sleep(0.2)
        return Reply({"access_token": "t-1"}) if asked.path == "/token" else Reply([{"id": 1}])

    server = serve(answer)
    resource = RestApi(server.url, auth=AUTHS["oauth2"](server)).get("/x")
    polls = [submit(AsyncPolled(resource).poll_async()) for _ in range(20)]
    assert [poll.result(20) for poll in polls] == [[{"id": 1}]] * 20
    assert sum(asked.path == "/token" for asked in server.asked) == 1


def test_no_period_has_more_calls_than_the_rate(serve: Serve, submit: Submit) -> None:
    times: list[float] = []

    def answer(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return Reply([{"id": 1}])

    api = RestApi(serve(answer).url, rate_limit="10/500ms")
    polls = [submit(AsyncPolled(api.get(f"/{number}")).poll_async()) for number in range(32)]
    for poll in polls:
        poll.result(20)
    times.sort()
    assert len(times) == 32
    assert all(later - earlier >= 0.5 for earlier, later in zip(times, times[10:], strict=False))


def test_polls_that_wait_hold_no_threads(serve: Serve, submit: Submit) -> None:
    answering = threading.Event()

    def answer(asked: Asked) -> Reply:
        answering.wait(20)
        return Reply([{"id": 1}])

    server = serve(answer)
    resource = RestApi(server.url).get("/x")
    polls = [submit(AsyncPolled(resource).poll_async()) for _ in range(60)]
    while len(server.asked) < 60:
        time.sleep(0.01)
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("api2db-rest")]
    answering.set()
    assert [poll.result(20) for poll in polls] == [[{"id": 1}]] * 60
    assert len(ours) <= 4


@pytest.mark.parametrize("where", ["the network", "a pause", "the rate limit", "a body", "the lists of its parents"])
def test_a_poll_that_is_cancelled_ends_at_once_and_frees_its_call(serve: Serve, submit: Submit, where: str) -> None:
    hanging = threading.Event()

    def answer(asked: Asked) -> Reply:
        if where == "a pause":
            return Reply("later", 429, {"Retry-After": "60"})
        if where == "a body":
            return Reply(b"[1]", midway=lambda: hanging.wait(20))
        if where == "the lists of its parents" and asked.path == "/x":
            return Reply([{"id": number} for number in range(9)])
        hanging.wait(0.1 if where == "the rate limit" else 20)
        return Reply([{"id": 1}])

    server = serve(answer)
    api = RestApi(server.url, rate_limit="1/h" if where == "the rate limit" else None, max_poll_time="2h")
    resource = api.get("/x", pagination=PageNumber() if where == "the rate limit" else None)
    resource = api.get("/x/{id}", for_each=resource) if where == "the lists of its parents" else resource
    poll = submit(AsyncPolled(resource).poll_async())
    while not server.asked:
        time.sleep(0.01)
    time.sleep(0.3)
    begin_s = time.monotonic()
    poll.cancel()
    pace = hosts.host_of(resource.endpoint.origin).pace
    while any(pace._under_way.values()):
        time.sleep(0.01)
    assert time.monotonic() - begin_s < 2
    hanging.set()


def test_lines_are_taken_in_pieces_and_a_cancelled_poll_frees_its_call(serve: Serve, submit: Submit) -> None:
    body = b"".join(b'{"id": %d, "text": "%s"}\n' % (number, b"x" * 1000) for number in range(5000))
    hanging = threading.Event()
    server = serve(lambda asked: Reply(body))
    resource = RestApi(server.url, rate_limit="1000/s").get("/x", format="ndjson")
    polled = AsyncPolled(resource)
    assert len(submit(polled.poll_async()).result(20)) == 5000
    server.answer = lambda asked: Reply(body, midway=lambda: hanging.wait(20))
    polled = AsyncPolled(resource)
    poll = submit(polled.poll_async())
    while not polled.rows:
        time.sleep(0.01)
    poll.cancel()
    pace = hosts.host_of(resource.endpoint.origin).pace
    begin_s = time.monotonic()
    while any(pace._under_way.values()):
        time.sleep(0.01)
    assert time.monotonic() - begin_s < 2
    hanging.set()


@pytest.mark.parametrize("loop_of", [network._loop.running, ingest_async._loop.running], ids=["rest", "ingest"])
def test_look_ups_that_hang_hold_up_no_others(
    loop_of: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, look_up = threading.Event(), socket.getaddrinfo

    def hang_or_look_up(host: str, *arguments: Any) -> Any:
        if host == "hangs.test":
            hanging.wait(20)
        return look_up("127.0.0.1", *arguments)

    monkeypatch.setattr(socket, "getaddrinfo", hang_or_look_up)
    loop = loop_of()
    found = [asyncio.run_coroutine_threadsafe(loop.getaddrinfo("hangs.test", 80), loop) for _ in range(40)]
    try:
        assert asyncio.run_coroutine_threadsafe(loop.getaddrinfo("answers.test", 80), loop).result(5)
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("api2db-look-up"))
    finally:
        hanging.set()
    assert all(one.result(20) for one in found)
