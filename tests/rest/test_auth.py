"""Authentication: each form is sent, only to the API's own origin, and shown nowhere."""

import base64
import json
import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from api2db import Collector, Run, Stream2Sql
from api2db.errors import Api2dbError, ConfigurationError, PollError
from api2db.rest import (
    ApiKey,
    Basic,
    BearerToken,
    LoginCall,
    NextUrl,
    OAuth2ClientCredentials,
    RestApi,
    SecretFile,
    SessionToken,
    Signature,
    Signed,
    Unsigned,
)
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server

CANARY = "canary-7f3a/b+c"
TOKEN = "token-91c2-canary"


class Guarded:
    """A list of two pages whose links repeat the query as it came, with a token server beside it."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.tokens = 0
        self.asked_with: list[str] = []

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/token":
            self.tokens += 1
            assert asked.headers["authorization"] == f"Basic {base64.b64encode(f'me:{CANARY}'.encode()).decode()}"
            assert asked.body == b"grant_type=client_credentials&scope=read"
            return Reply({"access_token": self.token, "expires_in": 3600})
        given = asked.headers.get("authorization") or asked.headers.get("x-key") or asked.params.get("api_key") or ""
        if self.token not in given and CANARY not in given and "bWU6" not in given:
            return Reply({"error": f"who is {given}?"}, 401)
        self.asked_with.append(given)
        if "page" in asked.params:
            return Reply({"items": [{"id": 2}], "next": None})
        query = "&".join([f"{name}={value}" for name, value in asked.params.items()] + ["page=2"])
        return Reply({"items": [{"id": 1}], "next": f"/items?{query}"})


def oauth(server: Server) -> OAuth2ClientCredentials:
    return OAuth2ClientCredentials(f"{server.url}/token", "me", CANARY, scope="read")


def session_token(server: Server) -> SessionToken:
    def login(secrets: Mapping[str, str]) -> Generator[LoginCall, Any, str]:
        header = base64.b64encode(f"me:{secrets['password']}".encode()).decode()
        form = {"grant_type": "client_credentials", "scope": "read"}
        answer = yield LoginCall(f"{server.url}/token", form=form, headers={"Authorization": f"Basic {header}"})
        return str(answer["access_token"])

    return SessionToken(login, {"password": CANARY}, header="X-Key")


def signed(server: Server) -> Signed:
    def sign(request: Unsigned, secrets: Mapping[str, str]) -> Signature:
        # A real signature shows nothing of its secret; this one is the secret, so that it would be found.
        return Signature({"X-Signature": secrets["secret"]}, {"timestamp": 1714557600, "api_key": secrets["secret"]})

    return Signed(sign, {"secret": CANARY})


FORMS: dict[str, Callable[[Server], Any]] = {
    "bearer": lambda server: BearerToken(CANARY),
    "from the environment": lambda server: BearerToken("$CANARY"),
    "from a file": lambda server: BearerToken(SecretFile("api.json", "token")),
    "in a header": lambda server: ApiKey(CANARY, header="X-Key"),
    "in the query": lambda server: ApiKey(CANARY, param="api_key"),
    "basic": lambda server: Basic("me", CANARY),
    "oauth2": oauth,
    "a session token": session_token,
    "signed": signed,
    "the client's own": lambda server: httpx2.BasicAuth("me", CANARY),
}


@pytest.fixture(autouse=True)
def _secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    (tmp_path / "AUTH").mkdir()
    (tmp_path / "AUTH" / "api.json").write_text(json.dumps({"token": CANARY}))
    (tmp_path / "AUTH" / "api.json").chmod(0o600)


def shows_secret(text: str) -> bool:
    forms = [CANARY, TOKEN, base64.b64encode(f"me:{CANARY}".encode()).decode(), "canary-7f3a%2Fb%2Bc"]
    return any(form in text for form in forms)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_form_is_sent_with_each_page_and_no_file_or_log_line_has_it(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, form: Callable[[Server], Any]
) -> None:
    api = Guarded()
    server = serve(api)
    resource = RestApi(server.url, auth=form(server)).get("/items", pagination=NextUrl("next"))
    (tmp_path / "AUTH" / "api.json").rename(tmp_path / "AUTH.json") if form is not FORMS["from a file"] else None
    with caplog.at_level(logging.DEBUG):
        Run([Collector("items", 60, resource, [Stream2Sql("items", "x.duckdb", "duckdb")])]).run(once=True)
    assert len(api.asked_with) == 2
    assert not shows_secret(caplog.text)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "AUTH" not in str(path.relative_to(tmp_path))]
    assert files
    assert not [path for path in files if shows_secret(path.read_bytes().decode("latin-1"))]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_no_error_repr_or_state_shows_a_secret_that_the_api_repeats(
    serve: Serve, form: Callable[[Server], Any]
) -> None:
    def echo(asked: Asked) -> Reply:
        if asked.path == "/token":
            return Reply({"access_token": TOKEN})
        said = f"{dict(asked.headers)} {dict(asked.params)} {CANARY}"
        return (
            Reply({"items": [{"id": 1}], "next": f"/n?page=2&{said}"}) if asked.path == "/items" else Reply(said, 403)
        )

    server = serve(echo)
    resource = RestApi(server.url, auth=form(server)).get("/items", pagination=NextUrl("next"))
    polled = Polled(resource)
    with pytest.raises(PollError) as caught:
        polled.poll()
    said = "".join(traceback.format_exception(caught.value))
    assert "HTTP 403" in said
    assert not shows_secret(said)
    assert not shows_secret(json.dumps(polled.state))
    assert not shows_secret(f"{resource!r}{resource.endpoint!r}{RestApi(server.url, auth=form(server))!r}")
    assert not shows_secret(repr(form(server)).replace("BasicAuth", ""))


@pytest.mark.parametrize(
    "form", [name for name in FORMS if name not in {"the client's own", "a session token", "signed"}]
)
def test_a_secret_is_not_pickled(serve: Serve, form: str) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(FORMS[form](serve(Guarded())))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("how", ["redirect", "link"])
def test_another_host_is_not_sent_the_secret(serve: Serve, form: Callable[[Server], Any], how: str) -> None:
    other = serve(lambda asked: Reply({"items": [{"id": 2}], "next": None}))

    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            return Reply({"access_token": TOKEN})
        if how == "redirect":
            return Reply(status=302, headers={"Location": f"{other.url}/elsewhere"})
        return Reply({"items": [{"id": 1}], "next": f"{other.url}/elsewhere"})

    server = serve(answer)
    api = RestApi(server.url, auth=form(server), allow_private=True, headers={"X-Mine": "1"})
    Polled(api.get("/items", pagination=NextUrl("next"))).poll()
    [asked] = other.asked
    assert not shows_secret(f"{asked.headers}{asked.params}{asked.body!r}")
    assert "authorization" not in asked.headers


class ClientsHeader(httpx2.Auth):
    def auth_flow(self, request: httpx2.Request) -> Any:
        request.headers["X-Api-Key"] = CANARY
        yield request


class ClientsParam(httpx2.Auth):
    def auth_flow(self, request: httpx2.Request) -> Any:
        request.url = request.url.copy_merge_params({"api_key": CANARY})
        yield request


CLIENTS: dict[str, Callable[[Server], Any]] = {
    "the client's own in a header": lambda server: ClientsHeader(),
    "the client's own in the query": lambda server: ClientsParam(),
}
ECHOES: dict[str, tuple[Callable[[str], Reply], Any]] = {
    "no JSON": (lambda said: Reply(f"unknown {said}".encode()), {}),
    "cut off by the message": (lambda said: Reply(f"{'x' * 50}{said}".encode()), {}),
    "cut off in an error": (lambda said: Reply(f"{'x' * 190}{said}".encode(), 400), {}),
    "CSV": (lambda said: Reply(f'"{said}","{said}"\n1,2\n'.encode()), {"format": "csv"}),
    "lines": (lambda said: Reply(f"{said}\n".encode()), {"format": "ndjson"}),
}


@pytest.mark.parametrize("form", [*FORMS.values(), *CLIENTS.values()], ids=[*FORMS, *CLIENTS])
@pytest.mark.parametrize(("echo", "options"), ECHOES.values(), ids=ECHOES)
def test_no_error_shows_a_secret_that_a_body_repeats(
    serve: Serve, form: Callable[[Server], Any], echo: Callable[[str], Reply], options: Any
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            return Reply({"access_token": TOKEN})
        given = asked.headers.get("authorization", "").partition(" ")[2]
        return echo(given or asked.headers.get("x-key") or asked.headers.get("x-api-key") or asked.params["api_key"])

    server = serve(answer)
    with pytest.raises(PollError) as caught:
        Polled(RestApi(server.url, auth=form(server)).get("/items", **options)).poll()
    said = "".join(traceback.format_exception(caught.value))
    assert "canary"[:4] not in said
    assert "token-91c2" not in said
    assert "bWU6" not in said


def test_no_error_shows_a_secret_that_graphql_repeats(serve: Serve) -> None:
    server = serve(lambda asked: Reply({"errors": [{"message": f"{'x' * 190}{CANARY}"}]}))
    with pytest.raises(PollError, match=r"GraphQL: x+[*]+$"):
        Polled(RestApi(server.url, auth=BearerToken(CANARY)).graphql("query", records="data.x.nodes")).poll()


@pytest.mark.parametrize("body", [f"access_token={TOKEN}", f'{{"access_token": "{TOKEN}'], ids=["a form", "cut off"])
def test_no_error_shows_the_answer_of_a_token_server(serve: Serve, body: str) -> None:
    server = serve(lambda asked: Reply(body.encode()))
    with pytest.raises(PollError, match="the answer is not JSON") as caught:
        Polled(RestApi(server.url, auth=oauth(server)).get("/items")).poll()
    assert not shows_secret("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("form", [*FORMS.values(), *CLIENTS.values()], ids=[*FORMS, *CLIENTS])
@pytest.mark.parametrize("how", ["redirect", "link"])
def test_another_host_is_not_sent_a_query_that_repeats_the_secret(
    serve: Serve, form: Callable[[Server], Any], how: str
) -> None:
    other = serve(lambda asked: Reply({"items": [{"id": 2}], "next": None}))

    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            return Reply({"access_token": TOKEN})
        query = urlencode({**asked.params, "x": "1", "echo": CANARY, "token": TOKEN})
        if how == "redirect":
            return Reply(status=302, headers={"Location": f"{other.url}/elsewhere?{query}"})
        return Reply({"items": [{"id": 1}], "next": f"{other.url}/elsewhere?{query}"})

    server = serve(answer)
    api = RestApi(server.url, auth=form(server), allow_private=True)
    Polled(api.get("/items", pagination=NextUrl("next"))).poll()
    [asked] = other.asked
    given = {name: value for name, value in asked.params.items() if name not in ("echo", "token")}
    assert given == {"x": "1"}
    sent = server.asked[-1]
    for name, value in (("echo", CANARY), ("token", TOKEN)):
        assert name not in asked.params or value not in f"{sent.headers}{sent.params}"


@pytest.mark.parametrize("form", [*FORMS.values(), *CLIENTS.values()], ids=[*FORMS, *CLIENTS])
def test_no_log_of_a_library_shows_a_secret_that_a_header_repeats(
    serve: Serve, caplog: pytest.LogCaptureFixture, form: Callable[[Server], Any]
) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            return Reply({"access_token": TOKEN})
        said = f"{CANARY} {TOKEN} {asked.headers.get('authorization')} {asked.params}"
        return Reply([{"id": 1}], headers={"X-Echo": said, "Set-Cookie": f"session={CANARY}"})

    server = serve(answer)
    with caplog.at_level(logging.DEBUG):
        Polled(RestApi(server.url, auth=form(server)).get("/items")).poll()
    assert "receive_response_headers.complete" in caplog.text
    assert not shows_secret(caplog.text)


def test_a_redirect_within_the_api_keeps_the_secret(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/old":
            return Reply(status=301, headers={"Location": "/new?x=1"})
        assert asked.headers["authorization"] == f"Bearer {CANARY}"
        return Reply([{"id": 1}])

    assert Polled(RestApi(serve(answer).url, auth=BearerToken(CANARY)).get("/old")).poll() == [{"id": 1}]


@pytest.mark.parametrize("form", [oauth, session_token])
def test_a_token_is_used_until_a_401_and_then_renewed_once(serve: Serve, form: Callable[[Server], Any]) -> None:
    api = Guarded()
    server = serve(api)
    auth = form(server)
    for _ in range(2):
        Polled(RestApi(server.url, auth=auth).get("/items")).poll()
    assert api.tokens == 1
    api.token = "another"
    Polled(RestApi(server.url, auth=auth).get("/items")).poll()
    assert api.tokens == 2


@pytest.mark.parametrize("form", [oauth, session_token])
def test_a_401_after_a_new_token_is_an_error(serve: Serve, form: Callable[[Server], Any]) -> None:
    server = serve(lambda asked: Reply({"access_token": TOKEN}) if asked.path == "/token" else Reply("no", 401))
    with pytest.raises(PollError, match='HTTP 401: "no"'):
        Polled(RestApi(server.url, auth=form(server)).get("/items")).poll()
    assert [asked.path for asked in server.asked] == ["/token", "/items", "/token", "/items"]


def test_with_one_try_there_is_still_a_second_one_with_a_new_token(serve: Serve) -> None:
    api = Guarded()
    server = serve(api)
    resource = RestApi(server.url, auth=oauth(server), tries=1).get("/items")
    Polled(resource).poll()
    api.token = "another"
    assert len(Polled(resource).poll()) == 1


def test_polls_that_are_refused_at_a_time_renew_the_token_once(serve: Serve) -> None:
    api = Guarded()
    both = threading.Barrier(4)

    def answer(asked: Asked) -> Reply:
        if asked.path == "/items" and "another" not in asked.headers["authorization"] and api.token == "another":
            both.wait(10)
        return api(asked)

    server = serve(answer)
    resource = RestApi(server.url, auth=oauth(server)).get("/items")
    Polled(resource).poll()
    api.token = "another"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: Polled(resource).poll(), range(4)))
    assert [len(rows) for rows in found] == [1] * 4
    assert api.tokens == 2


def test_an_oauth_token_is_renewed_before_it_expires(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Guarded()
    server = serve(api)
    auth = oauth(server)
    resource = RestApi(server.url, auth=auth).get("/items")
    Polled(resource).poll()
    auth._token.until_s -= 3600
    Polled(resource).poll()
    assert api.tokens == 2


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "no such variable": (lambda: BearerToken("$NOT_SET_HERE"), "environment variable NOT_SET_HERE is not set"),
    "a password with a dollar": (lambda: BearerToken("$secret1"), "environment variable that it names is not set"),
    "no such file": (lambda: BearerToken(SecretFile("no.json", "token")), "AUTH/no.json can't be read"),
    "no such field": (lambda: BearerToken(SecretFile("api.json", "key")), "has no text under 'key'"),
    "a newline": (lambda: BearerToken(f"{CANARY}\n"), "has a character that HTTP can't carry"),
}


@pytest.mark.parametrize(("auth", "says"), BROKEN.values(), ids=BROKEN)
def test_a_secret_that_cannot_be_read_is_told_of_without_being_shown(
    serve: Serve, auth: Callable[[], Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        Polled(RestApi(serve(Guarded()).url, auth=auth()).get("/items")).poll()
    assert not shows_secret("".join(traceback.format_exception(caught.value)))


def test_a_file_that_others_may_read_is_refused(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "AUTH" / "api.json").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Polled(RestApi(serve(Guarded()).url, auth=BearerToken(SecretFile("api.json", "token"))).get("/items")).poll()


def test_a_text_may_begin_with_a_dollar(serve: Serve) -> None:
    server = serve(lambda asked: Reply([{"id": 1}]))
    Polled(RestApi(server.url, auth=BearerToken("$$CANARY")).get("/items")).poll()
    assert server.asked[0].headers["authorization"] == "Bearer $CANARY"


MISSING: dict[str, Callable[[], Any]] = {
    "no place": lambda: ApiKey(CANARY),
    "no text": lambda: BearerToken(17),  # type: ignore[arg-type]
    "no file below AUTH": lambda: SecretFile("../x", "y"),
}


@pytest.mark.parametrize("make", MISSING.values(), ids=MISSING)
def test_a_form_without_what_it_needs_is_told_at_once(make: Callable[[], Any]) -> None:
    with pytest.raises(Api2dbError) as caught:
        make()
    assert not shows_secret(str(caught.value))
