"""The servers for users' tests: each fault is one that a resource gets over by itself, or tells of clearly."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from api2db import testing
from api2db.errors import ConfigurationError, PollError
from api2db.rest import (
    ApiKey,
    Basic,
    BearerToken,
    LinkHeader,
    LoginCall,
    OAuth2ClientCredentials,
    RestApi,
    SessionToken,
)
from api2db.rest import _http as http
from api2db.testing import Answer, ApiServer, Call, Cassette, Reply, pages_of
from tests.rest.conftest import Polled

pytest_plugins = ("api2db.testing.fixtures",)
ROWS = [{"id": number} for number in range(25)]
Start = Callable[[Answer], ApiServer]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.001)


def polled(server: ApiServer, **options: Any) -> Polled:
    api = RestApi(server.url, **options)
    return Polled(api.get("/items", pagination=LinkHeader(), max_pages=20))


@pytest.mark.parametrize(
    "fault",
    [
        lambda answer: testing.fail_first(answer, 429, 500, 503),
        lambda answer: testing.rate_limited(answer, 2, 0.5),
        lambda answer: testing.slow(answer, 0.01),
        lambda answer: testing.dripping(answer, 0.0001),
        testing.with_etag,
    ],
    ids=["fail_first", "rate_limited", "slow", "dripping", "with_etag"],
)
def test_some_faults_cost_only_time(api_server: Start, fault: Callable[[Answer], Answer]) -> None:
    assert polled(api_server(fault(pages_of(ROWS)))).poll() == ROWS


FAULTS: dict[str, tuple[Answer, str, int]] = {
    "cut_gzip": (testing.cut_gzip(pages_of(ROWS)), "gzip", 0),
    "bad_utf8": (testing.bad_utf8(pages_of(ROWS)), "not JSON|not UTF-8", 0),
    "repeating": (testing.repeating(pages_of(ROWS)), "repeats: no end", 10),
    "endless": (testing.endless(), "more than max_pages=20", 20),
    "endless and the same": (testing.endless({"id": 1}), "repeats: no end", 1),
}


@pytest.mark.parametrize(("answer", "says", "rows"), FAULTS.values(), ids=FAULTS)
def test_others_are_told_of_clearly(api_server: Start, answer: Answer, says: str, rows: int) -> None:
    found = polled(api_server(answer))
    with pytest.raises(PollError, match=says):
        found.poll()
    assert len(found.rows) == rows


def test_after_a_fault_the_next_poll_goes_on(api_server: Start) -> None:
    server = api_server(pages_of(ROWS))
    found = polled(server)
    pages = pages_of(ROWS)
    server.answer = lambda call: testing.cut_gzip(pages)(call) if call.params.get("page") == "2" else pages(call)
    with pytest.raises(PollError):
        found.poll()
    server.answer = pages
    found.poll()
    assert found.rows == ROWS


def test_a_server_that_drips_longer_than_a_poll_may_take_is_given_up(api_server: Start) -> None:
    begin_s = time.monotonic()
    with pytest.raises(PollError, match="max_poll_time"):
        polled(api_server(testing.dripping(pages_of(ROWS), 0.1)), max_poll_time="1s").poll()
    assert time.monotonic() - begin_s < 10


CANARY = "canary-5e0d"


def guarded(call: Call) -> Reply:
    given = f"{call.headers.get('authorization')} {call.params.get('api_key')} {call.headers.get('x-api-key')}"
    assert CANARY in given
    reply = pages_of(ROWS)(call)
    return Reply(reply.body, headers={**reply.headers, "X-Echo": given, "Set-Cookie": f"s={CANARY}"})


AUTHS: dict[str, Any] = {
    "bearer": BearerToken(CANARY),
    "param": ApiKey(CANARY, param="api_key"),
    "header": ApiKey(CANARY, header="X-Api-Key"),
}


@pytest.mark.parametrize("auth", AUTHS.values(), ids=AUTHS)
def test_a_cassette_gives_again_what_an_api_answered_without_the_secrets(
    api_server: Start, tmp_path: Path, auth: Any
) -> None:
    server = api_server(guarded)
    file = tmp_path / "items.json"
    with Cassette(file, server.url) as recording:
        api = RestApi(recording.url, auth=auth)
        assert Polled(api.get("/items", pagination=LinkHeader())).poll() == ROWS
    assert CANARY not in file.read_text()
    assert len(json.loads(file.read_text())) == 3
    before = len(server.asked)
    with Cassette(file, server.url) as replay:
        api = RestApi(replay.url, auth=auth)
        assert Polled(api.get("/items", pagination=LinkHeader())).poll() == ROWS
        with pytest.raises(PollError, match="has no response to GET /other"):
            Polled(api.get("/other")).poll()
    assert len(server.asked) == before


def echoing(call: Call) -> Reply:
    if call.path == "/token":
        return Reply({"access_token": f"{CANARY}-token", "refresh_token": f"{CANARY}-refresh", "expires_in": 3600})
    given = f"{call.headers.get('authorization', '')}{call.headers.get('x-mine', '')}{call.query}"
    assert CANARY in given or base64.b64decode(given.partition(" ")[2])
    assert "***" not in given
    user = "canary-user" if "authorization" in call.headers else ""
    return Reply([{"id": 1, "echo": f"{given} {user} {call.params.get('signed')}"}])


SENT: dict[str, Callable[[str], Any]] = {
    "appid": lambda url: ApiKey(CANARY, param="appid"),
    "a parameter that is named": lambda url: ApiKey(CANARY, param="signed"),
    "any header": lambda url: ApiKey(CANARY, header="X-Mine"),
    "basic": lambda url: Basic("canary-user", CANARY),
    "oauth2": lambda url: OAuth2ClientCredentials(f"{url}/token", "canary-user", CANARY),
}


@pytest.mark.parametrize("auth", SENT.values(), ids=SENT)
def test_a_cassette_holds_no_secret_of_any_form(api_server: Start, tmp_path: Path, auth: Callable[[str], Any]) -> None:
    server = api_server(echoing)
    for _ in ("record", "replay"):
        with Cassette(tmp_path / "x.json", server.url, secret_params=["signed"]) as cassette:
            assert len(Polled(RestApi(cassette.url, auth=auth(cassette.url)).get("/x")).poll()) == 1
    assert "canary" not in (tmp_path / "x.json").read_text()


def test_a_secret_in_a_path_is_not_recorded_and_may_be_another_one_in_the_replay(
    api_server: Start, tmp_path: Path
) -> None:
    server = api_server(lambda call: Reply([{"self": f"{call.base}{call.path}"}]))
    for token in (CANARY, "another"):
        with Cassette(tmp_path / "x.json", server.url, secrets=[token]) as cassette:
            [row] = Polled(RestApi(cassette.url).get("/bot{token}/updates", token=token)).poll()
            assert row["self"].endswith("/updates")
    assert CANARY not in (tmp_path / "x.json").read_text()
    assert len(server.asked) == 1


def test_a_cassette_tells_repeated_parameters_apart(api_server: Start, tmp_path: Path) -> None:
    server = api_server(lambda call: Reply([{"query": call.query}]))
    for _ in ("record", "replay"):
        with Cassette(tmp_path / "x.json", server.url) as cassette:
            api = RestApi(cassette.url)
            for states in (["a", "b"], ["c", "b"]):
                [row] = Polled(api.get("/x", params={"state": states})).poll()
                assert row == {"query": "&".join(f"state={state}" for state in states)}
    assert len(server.asked) == 2


def test_a_recording_that_failed_is_not_kept(api_server: Start, tmp_path: Path) -> None:
    server = api_server(pages_of(ROWS))
    with pytest.raises(RuntimeError), Cassette(tmp_path / "x.json", server.url):
        raise RuntimeError
    assert not (tmp_path / "x.json").exists()


def test_the_fixture_takes_any_name_and_keeps_no_recording_of_a_failed_test(
    tmp_path: Path, api_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["api2db.testing.fixtures"]\n')
    (tmp_path / "test_it.py").write_text(
        "import pytest\nfrom api2db.rest import RestApi\n\n"
        f'@pytest.mark.parametrize("path", ["/a", "/b"])\ndef test_it(cassette, path):\n'
        f'    list(RestApi(cassette("{api_server(pages_of(ROWS)).url}").url).get(path)({{}}))\n'
        '    assert path == "/a"\n'
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in run.stdout
    assert [file.name for file in (tmp_path / "cassettes").iterdir()] == ["test_it[_a].json"]


def test_the_answer_to_a_login_is_recorded_without_its_token_and_replayed(api_server: Start, tmp_path: Path) -> None:
    def portal(call: Call) -> Reply:
        if call.path == "/login":
            assert call.json == {"password": CANARY}
            return Reply({"token": f"token-{CANARY}"})
        assert call.headers["x-session"] == f"token-{CANARY}"
        return pages_of(ROWS)(call)

    server = api_server(portal)
    file = tmp_path / "items.json"
    for _ in ("record", "replay"):
        with Cassette(file, server.url) as cassette:

            def login(secrets: Mapping[str, str], at: str = cassette.url) -> Generator[LoginCall, Any, str]:
                answer = yield LoginCall(f"{at}/login", json={"password": secrets["password"]})
                return str(answer["token"])

            auth = SessionToken(login, {"password": CANARY}, header="X-Session")
            resource = RestApi(cassette.url, auth=auth).get("/items", pagination=LinkHeader())
            assert Polled(resource).poll() == ROWS
    assert CANARY not in file.read_text()
    assert len(server.asked) == 4


def test_a_recording_needs_the_api(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="api="):
        Cassette(tmp_path / "x.json")
