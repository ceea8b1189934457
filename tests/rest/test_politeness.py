"""Politeness: rates, pauses that the API asks for, tries again, and requests that ask whether anything changed."""

import email.utils
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from api2db.backoff import BackOff
from api2db.errors import PollError
from api2db.rest import BearerToken, PageNumber, RestApi
from api2db.rest import _http as http
from api2db.rest._addresses import origin_of
from api2db.rest._arguments import Rate, rate
from api2db.rest._hosts import rates_of
from api2db.rest._limits import date_s, limit_reset_s, retry_after_s
from api2db.rest._pace import Pace, TooLongError
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply


class Failing:
    """Answers with some replies first, then with rows."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)

    def __call__(self, asked: Asked) -> Reply:
        return self.replies.pop(0) if self.replies else Reply([{"id": 1}])


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.001)


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_go_better_is_tried_again(serve: Serve, status: int) -> None:
    server = serve(Failing(Reply("no", status), Reply("no", status)))
    polled = Polled(RestApi(server.url).get("/x"))
    assert polled.poll() == [{"id": 1}]
    assert (polled.resource.figures.calls, polled.resource.figures.retried) == (3, 2)


@pytest.mark.usefixtures("_quick")
def test_after_all_tries_the_error_has_status_url_and_the_beginning_of_the_body(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"why": "x" * 500}, 500))
    with pytest.raises(PollError) as caught:
        Polled(RestApi(server.url, tries=3).get("/x", params={"q": "secret"})).poll()
    said = str(caught.value)
    assert said.startswith(f"GET {server.url}/x failed 3 times: HTTP 500: {{")
    assert "secret" not in said
    assert len(said) < 300
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422, 451])
def test_what_another_try_cannot_change_is_not_tried_again(serve: Serve, status: int) -> None:
    server = serve(lambda asked: Reply({"message": "no"}, status))
    with pytest.raises(PollError, match=f"HTTP {status}: .*no"):
        Polled(RestApi(server.url, auth=BearerToken("abcdef")).get("/x")).poll()
    assert len(server.asked) == 1


@pytest.mark.usefixtures("_quick")
def test_a_connection_that_breaks_is_tried_again(serve: Serve) -> None:
    server = serve(Failing(Reply(b"[", headers={"Content-Length": "100", "Connection": "close"})))
    assert Polled(RestApi(server.url, timeout="2s").get("/x")).poll() == [{"id": 1}]


@pytest.mark.usefixtures("_quick")
def test_a_server_that_is_silent_is_a_timeout(serve: Serve) -> None:
    def slow(asked: Asked) -> Reply:
        time.sleep(0.5)
        return Reply([])

    with pytest.raises(PollError, match=r"failed 2 times: ReadTimeout.*raise timeout of RestApi"):
        Polled(RestApi(serve(slow).url, timeout=0.05, tries=2).get("/x")).poll()


@pytest.mark.usefixtures("_quick")
def test_nobody_at_the_port_is_an_error() -> None:
    with pytest.raises(PollError, match="failed 2 times: ConnectError"):
        Polled(RestApi("http://127.0.0.1:1", tries=2).get("/x")).poll()


def test_retry_after_is_obeyed_by_the_whole_host(serve: Serve) -> None:
    server = serve(Failing(Reply("slow", 429, {"Retry-After": "1"})))
    api = RestApi(server.url)
    begin_s = time.monotonic()
    first = threading.Thread(target=lambda: Polled(api.get("/a")).poll())
    first.start()
    while not server.asked:
        time.sleep(0.005)
    time.sleep(0.1)
    Polled(api.get("/b")).poll()
    assert time.monotonic() - begin_s >= 1
    first.join()


def test_a_pause_that_is_longer_than_the_poll_may_take_ends_it(serve: Serve) -> None:
    server = serve(lambda asked: Reply("slow", 429, {"Retry-After": "3600"}))
    resource = RestApi(server.url, max_poll_time="2s").get("/x")
    with pytest.raises(PollError, match=r"HTTP 429: .*slow.*max_poll_time"):
        Polled(resource).poll()
    with pytest.raises(PollError, match="asks for a pause of"):
        Polled(resource).poll()
    assert len(server.asked) == 1


def in_future(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


RETRY_AFTER: list[tuple[str, float | None]] = [("0", 0), ("7", 7), ("1.5", 1.5), ("soon", None), ("", None)]


@pytest.mark.parametrize(("said", "expected"), RETRY_AFTER)
def test_retry_after_is_read_in_seconds(said: str, expected: float | None) -> None:
    assert retry_after_s({"retry-after": said}) == expected


def test_retry_after_is_read_as_a_date() -> None:
    assert retry_after_s({"retry-after": in_future(60)}) == pytest.approx(60, abs=2)
    assert retry_after_s({"retry-after": in_future(-60)}) == 0


UNBELIEVABLE = [
    "99999999999999999999",
    "90000",
    "9" * 5000,
    "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "-5",
]


@pytest.mark.parametrize("said", UNBELIEVABLE)
def test_a_pause_of_more_than_a_day_is_not_believed(said: str) -> None:
    assert not retry_after_s({"retry-after": said})


def test_retry_after_may_be_a_moment_since_1970() -> None:
    assert retry_after_s({"retry-after": str(int(time.time()) + 60)}) == pytest.approx(60, abs=2)


def test_a_date_header_that_no_clock_can_say_is_passed_over() -> None:
    assert date_s({"date": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"}) == pytest.approx(time.time(), abs=2)


RESETS: dict[str, tuple[Callable[[], dict[str, str]], float | None]] = {
    "GitHub": (lambda: {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 60)}, 60),
    "milliseconds": (
        lambda: {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time() * 1000) + 60000)},
        60,
    ),
    "microseconds": (
        lambda: {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int((time.time() + 60) * 1e6))},
        60,
    ),
    "beyond a day": (lambda: {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2000000"}, None),
    "from now": (lambda: {"x-rate-limit-remaining": "0", "x-rate-limit-reset": "60"}, 60),
    "draft 6": (lambda: {"ratelimit-remaining": "0", "ratelimit-reset": "60"}, 60),
    "draft 7": (lambda: {"ratelimit": "limit=100, remaining=0, reset=60"}, 60),
    "draft 9": (lambda: {"ratelimit": '"default";r=0;t=60'}, 60),
    "calls are left": (lambda: {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "60"}, None),
    "nonsense": (lambda: {"x-ratelimit-remaining": "none", "x-ratelimit-reset": "later"}, None),
}


@pytest.mark.parametrize(("headers", "expected"), RESETS.values(), ids=RESETS)
def test_a_spent_limit_is_read_from_all_usual_headers(
    headers: Callable[[], dict[str, str]], expected: float | None
) -> None:
    found = limit_reset_s(headers())
    assert found == (None if expected is None else pytest.approx(expected, abs=2))


def test_after_the_last_call_of_a_limit_the_next_waits_for_the_reset(serve: Serve) -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}
    server = serve(Failing(Reply([{"id": 1}], headers=spent)))
    polled = Polled(RestApi(server.url).get("/x"))
    begin_s = time.monotonic()
    polled.poll()
    assert time.monotonic() - begin_s < 0.9
    polled.poll()
    assert time.monotonic() - begin_s >= 1
    assert polled.resource.figures.waited_s > 0


@pytest.mark.usefixtures("_quick")
def test_githubs_403_for_a_spent_limit_is_tried_again(serve: Serve) -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}
    assert Polled(RestApi(serve(Failing(Reply("limit", 403, spent))).url).get("/x")).poll() == [{"id": 1}]


def test_no_period_has_more_calls_than_the_rate(serve: Serve) -> None:
    times: list[float] = []

    def answer(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return Reply([{"id": int(asked.params["page"])}] if int(asked.params["page"]) < 8 else [])

    api = RestApi(serve(answer).url, rate_limit="10/500ms")
    resources = [api.get(f"/{name}", pagination=PageNumber()) for name in "abcd"]
    threads = [threading.Thread(target=Polled(resource).poll) for resource in resources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 32
    times.sort()
    assert all(later - earlier >= 0.5 for earlier, later in zip(times, times[10:], strict=False))


def test_the_rates_of_all_apis_of_a_host_hold_for_each_call(serve: Serve) -> None:
    times: list[float] = []

    def answer(asked: Asked) -> Reply:
        times.append(time.monotonic())
        return Reply([{"id": 1}])

    url = serve(answer).url
    apis = [RestApi(url, rate_limit=rate) for rate in ("5/200ms", "100/s", None)]
    for number in range(12):
        Polled(apis[number % 3].get("/x")).poll()
    assert all(later - earlier >= 0.2 for earlier, later in zip(times, times[5:], strict=False))
    del apis[0]
    gc.collect()
    assert rates_of(origin_of(url), RestApi(url)._lists.limits) == (Rate(100, 1.0),)


def test_a_call_that_would_wait_too_long_is_not_counted() -> None:
    pace, rates = Pace(), (rate("2/300ms", "rate"),)
    for _ in range(2):
        with pace.call(rates, 0):
            pass
    with pytest.raises(TooLongError), pace.call(rates, 0.1):
        pass
    with pace.call(rates, 10) as waited_s:
        assert 0.1 < waited_s < 5


def test_a_call_counts_until_a_period_after_its_end() -> None:
    pace, rates = Pace(), (rate("1/100ms", "rate"),)
    with pace.call(rates, 0):
        time.sleep(0.1)
        with pytest.raises(TooLongError), pace.call(rates, 0.01):
            pass
    with pytest.raises(TooLongError), pace.call(rates, 0.05):
        pass
    with pace.call(rates, 10):
        pass


def test_a_back_off_grows_and_is_bounded() -> None:
    back_off = BackOff(0.5, 60, jitter_share=0.5)
    pauses_s = [back_off.failed() for _ in range(50)]
    assert 0.25 <= pauses_s[0] <= 0.5
    assert 1 <= pauses_s[2] <= 2
    assert 30 <= pauses_s[49] <= 60


@pytest.mark.parametrize(
    ("answered", "asked_with"),
    [
        ({"ETag": '"v1"'}, ("if-none-match", '"v1"')),
        ({"Last-Modified": "Wed, 01 May 2024 00:00:00 GMT"}, ("if-modified-since", "Wed, 01 May 2024 00:00:00 GMT")),
    ],
    ids=["ETag", "Last-Modified"],
)
def test_a_list_that_has_not_changed_is_not_sent_again(
    serve: Serve, answered: dict[str, str], asked_with: tuple[str, str]
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.headers.get(asked_with[0]) == asked_with[1]:
            return Reply(status=304)
        return Reply([{"id": 1}], headers=answered)

    polled = Polled(RestApi(serve(answer).url).get("/x"))
    assert len(polled.poll()) == 1
    assert polled.poll() == []
    assert polled.resource.figures.not_modified == 1


def test_a_body_that_has_not_changed_is_not_loaded_again(serve: Serve) -> None:
    rows: list[dict[str, Any]] = [{"id": 1}]
    polled = Polled(RestApi(serve(lambda asked: Reply(rows)).url).get("/x"))
    polled.poll()
    assert polled.poll() == []
    rows.append({"id": 2})
    assert len(polled.poll()) == 2


def test_a_list_of_several_pages_is_read_whole_though_its_first_has_not_changed(serve: Serve) -> None:
    rows = [{"id": number} for number in range(15)]

    def answer(asked: Asked) -> Reply:
        page = int(asked.params["page"])
        return Reply(rows[(page - 1) * 10 : page * 10], headers={"ETag": '"1"'})

    polled = Polled(RestApi(serve(answer).url).get("/x", pagination=PageNumber(size=10)))
    polled.poll()
    rows.append({"id": 15})
    assert polled.poll() == rows
