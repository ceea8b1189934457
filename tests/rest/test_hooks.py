"""Hooks of authentication: a function that signs each request, and a login that gives a token."""

import hashlib
import hmac
import pickle
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pytest

from api2db.errors import ConfigurationError, PollError
from api2db.rest import LinkHeader, LoginCall, NextUrl, Offset, PageNumber, RestApi, SessionToken, Signature, Signed
from api2db.rest import Unsigned as Request
from api2db.rest import _hosts as hosts
from api2db.rest._addresses import origin_of
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server

SECRET = "canary-5d2e-secret"
Login = Generator[LoginCall, Any, str]


def signature_of(text: bytes) -> str:
    return hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()


class Clock:
    """Timestamps that are never the same."""

    def __init__(self) -> None:
        self.now = 1714557600

    def sign_query(self, request: Request, secrets: Mapping[str, str]) -> Signature:
        self.now += 1
        query = request.with_params(timestamp=self.now).query
        return Signature(params={"timestamp": self.now, "signature": signature_of(query.encode())})

    def sign_text(self, request: Request, secrets: Mapping[str, str]) -> Signature:
        self.now += 1
        text = f"{self.now}{request.method}{request.path}?{request.query}{request.headers['X-Mine']}".encode()
        return Signature({"X-Timestamp": self.now, "X-Signature": signature_of(text + request.body)})


def is_signed(asked: Asked) -> bool:
    query, _, signature = asked.query.rpartition("&signature=")
    return signature == signature_of(query.encode()) and query.count("timestamp=") == 1


def is_signed_in_headers(asked: Asked) -> bool:
    text = f"{asked.headers['x-timestamp']}{asked.method}{asked.path}?{asked.query}{asked.headers['x-mine']}".encode()
    return asked.headers["x-signature"] == signature_of(text + asked.body)


def test_a_signature_is_for_the_query_as_it_is_sent_and_each_try_has_another(serve: Serve) -> None:
    seen: list[str] = []

    def answer(asked: Asked) -> Reply:
        assert is_signed(asked), asked.query
        seen.append(asked.params["timestamp"])
        if len(seen) == 1:
            return Reply(status=503, headers={"Retry-After": "0"})
        # A link may be encoded in another way, and repeat the old signature.
        link = f"{asked.base}/items?flag&q=a+b%2fc'd é&{asked.query}"
        return Reply([{"id": len(seen)}], headers={"Link": f'<{link}>; rel="next"'} if len(seen) < 4 else {})

    api = RestApi(serve(answer).url, auth=Signed(Clock().sign_query, {"secret": SECRET}))
    resource = api.get("/items/{name}", name="ö b", params={"q": "ä & b/c"}, pagination=LinkHeader())
    assert len(Polled(resource).poll()) == 3
    assert len(set(seen)) == 4


def test_method_path_headers_and_body_can_be_signed(serve: Serve) -> None:
    server = serve(lambda asked: Reply([{"id": 1}]) if is_signed_in_headers(asked) else Reply("bad", 400))
    api = RestApi(server.url, auth=Signed(Clock().sign_text, {"secret": SECRET}), headers={"X-Mine": "m"})
    assert Polled(api.post("/search", json={"ä": 1}, pagination=Offset(5))).poll()
    assert Polled(api.get("/a b", params={"x": "1,2"}, pagination=LinkHeader())).poll()


def test_a_redirect_is_signed_again(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        assert is_signed(asked)
        if asked.path == "/old":
            return Reply(status=302, headers={"Location": f"/new?{asked.query}"})
        return Reply([{"id": 1}])

    api = RestApi(serve(answer).url, auth=Signed(Clock().sign_query, {"secret": SECRET}))
    assert Polled(api.get("/old", params={"a": 1})).poll() == [{"id": 1}]


def test_a_request_is_signed_when_its_turn_has_come(serve: Serve) -> None:
    server = serve(lambda asked: Reply([{"id": 1}]))
    pace, turns = hosts.host_of(origin_of(server.url)).pace, []

    def sign(request: Request, secrets: Mapping[str, str]) -> Signature:
        turns.append([len(calls) for calls in pace._under_way.values()])
        return Signature(params={"timestamp": 1})

    Polled(RestApi(server.url, auth=Signed(sign, {"secret": SECRET}), rate_limit="9/s").get("/x")).poll()
    assert turns == [[1]]


def test_a_function_that_signs_too_slowly_ends_its_poll_in_time(serve: Serve) -> None:
    hanging, is_over = threading.Event(), threading.Event()

    def sign(request: Request, secrets: Mapping[str, str]) -> Signature:
        hanging.wait(20)
        is_over.set()
        return Signature()

    server = serve(lambda asked: Reply([{"id": 1}]))
    api = RestApi(server.url, auth=Signed(sign, {"secret": SECRET}), max_poll_time="0.1s")
    try:
        with pytest.raises(PollError, match="max_poll_time"):
            Polled(api.get("/x")).poll()
        assert not is_over.is_set()
    finally:
        hanging.set()


def test_no_signature_is_kept_in_the_position_of_a_poll(serve: Serve) -> None:
    def answer(asked: Asked) -> Reply:
        if "page" in asked.params:
            return Reply("no", 403)
        return Reply({"items": [{"id": 1}], "next": f"/items?page=2&{asked.query}"})

    polled = Polled(
        RestApi(serve(answer).url, auth=Signed(Clock().sign_query, {"secret": SECRET})).get(
            "/items", params={"a": 1}, pagination=NextUrl("next")
        )
    )
    with pytest.raises(PollError, match="HTTP 403"):
        polled.poll()
    assert polled.state["poll"]["at"].endswith("/items?page=2&a=1")


def raising(request: Request, secrets: Mapping[str, str]) -> Signature:
    raise KeyError(f"no {secrets['secret']}")


def login_of(server: Server) -> Callable[[Mapping[str, str]], Login]:
    def login(secrets: Mapping[str, str]) -> Login:
        challenge = yield LoginCall(f"{server.url}/challenge")
        answer = yield LoginCall(
            f"{server.url}/login", json={"answer": challenge["text"] + secrets["secret"]}, secrets=[challenge["text"]]
        )
        return str(answer["token"])

    return login


class Portal:
    """A login of two calls, whose tokens may be revoked."""

    def __init__(self) -> None:
        self.logins = 0
        self.revoked = 0

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/challenge":
            assert asked.method == "GET"
            return Reply({"text": "what-is-it"})
        if asked.path == "/login":
            assert asked.json == {"answer": f"what-is-it{SECRET}"}
            self.logins += 1
            return Reply({"token": f"token-{self.logins}"})
        given = asked.headers.get("authorization") or f"Bearer {asked.params.get('sid')}"
        if given != f"Bearer token-{self.logins}" or self.logins <= self.revoked:
            return Reply(f"who is {given}?", 401)
        return Reply([{"id": int(asked.params["page"])}] if asked.params["page"] < "4" else [])


def bearer(server: Server, **options: Any) -> SessionToken:
    return SessionToken(login_of(server), {"secret": SECRET}, header="Authorization", template="Bearer {}", **options)


def test_a_login_of_two_calls_gives_a_token_for_all_pages_and_polls(serve: Serve) -> None:
    portal = Portal()
    server = serve(portal)
    api = RestApi(server.url, auth=bearer(server))
    for _ in range(2):
        assert len(Polled(api.get("/items", pagination=PageNumber())).poll()) == 3
    assert portal.logins == 1
    portal.revoked = 1
    assert len(Polled(api.get("/items", pagination=PageNumber())).poll()) == 3
    assert portal.logins == 2


def test_a_token_may_be_a_parameter_and_expire(serve: Serve) -> None:
    portal = Portal()
    server = serve(portal)
    auth = SessionToken(login_of(server), {"secret": SECRET}, param="sid", expires_after=0)
    assert len(Polled(RestApi(server.url, auth=auth).get("/items", pagination=PageNumber())).poll()) == 3
    assert portal.logins == 4


def test_polls_whose_token_is_refused_at_once_log_in_once(serve: Serve) -> None:
    portal = Portal()
    server = serve(portal)
    api = RestApi(server.url, auth=bearer(server))
    resource = api.get("/items", pagination=PageNumber())
    Polled(resource).poll()
    portal.revoked = 1
    together = threading.Barrier(4)
    refusing = server.answer

    def answer(asked: Asked) -> Reply:
        if asked.headers.get("authorization") == "Bearer token-1":
            together.wait(10)
        return refusing(asked)

    server.answer = answer
    polls = [threading.Thread(target=Polled(resource).poll) for _ in range(4)]
    for poll in polls:
        poll.start()
    for poll in polls:
        poll.join()
    assert portal.logins == 2


def plain(secrets: Mapping[str, str]) -> str:
    return "token"


def no_token(secrets: Mapping[str, str]) -> Generator[Any, Any, Any]:
    yield from ()


def no_call(secrets: Mapping[str, str]) -> Generator[Any, Any, Any]:
    yield "https://api.example.com/login"


def failing(secrets: Mapping[str, str]) -> Generator[Any, Any, Any]:
    yield from ()
    raise KeyError(secrets["secret"])


FAILING: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "sign raises": (
        lambda: Signed(raising, {"secret": SECRET}),
        PollError,
        "sign of Signed raised KeyError.*no \\*\\*\\*",
    ),
    "sign gives nothing": (lambda: Signed(lambda *_: None, {}), ConfigurationError, "must return a Signature"),  # type: ignore[arg-type]
    "a newline": (lambda: Signed(lambda *_: Signature({"X": f"{SECRET}\n"}), {}), ConfigurationError, "X a value"),
    "login gives no token": (lambda: SessionToken(no_token, {}, header="X"), PollError, "did not return a token"),
    "login yields a text": (lambda: SessionToken(no_call, {}, header="X"), ConfigurationError, "must yield LoginCall"),
    "login raises": (lambda: SessionToken(failing, {"secret": SECRET}, header="X"), PollError, "raised KeyError"),
}


@pytest.mark.parametrize(("auth", "error", "says"), FAILING.values(), ids=FAILING)
def test_a_hook_that_fails_is_told_of_without_secrets(
    serve: Serve, auth: Callable[[], Any], error: type[Exception], says: str
) -> None:
    server = serve(lambda asked: Reply([{"id": 1}]))
    with pytest.raises(error, match=says) as caught:
        Polled(RestApi(server.url, auth=auth()).get("/items")).poll()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not server.asked


@pytest.mark.parametrize("body", [b"token-that-nobody-may-see", b'{"message": "no"}'])
def test_a_login_that_fails_shows_no_secret(serve: Serve, body: bytes) -> None:
    status = 403 if body.startswith(b"{") else 200
    server = serve(lambda asked: Reply(body + SECRET.encode(), status))
    with pytest.raises(PollError, match=r"/challenge: the answer is not JSON|HTTP 403") as caught:
        Polled(RestApi(server.url, auth=bearer(server)).get("/items")).poll()
    assert SECRET not in str(caught.value)
    assert "nobody" not in str(caught.value)


@pytest.mark.parametrize(
    "auth", [Signed(raising, {"secret": SECRET}), SessionToken(failing, {"s": SECRET}, header="X")]
)
def test_a_secret_of_a_hook_is_neither_shown_nor_pickled(auth: Signed | SessionToken) -> None:
    assert SECRET not in repr(auth)
    with pytest.raises(TypeError):
        pickle.dumps(auth)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no function": (lambda: Signed("sign", {}), "sign of Signed must be a function"),  # type: ignore[arg-type]
    "a misspelled argument": (lambda: Signed(raising, secret={}), "did you mean 'secrets'"),  # type: ignore[call-arg]
    "secrets that have no names": (lambda: Signed(raising, ["x"]), "must be a dict such as"),  # type: ignore[arg-type]
    "a secret that is no text": (lambda: Signed(raising, {"key": 7}), "'key' in secrets of Signed"),  # type: ignore[dict-item]
    "headers that are no dict": (lambda: Signature(["X"]), "headers of Signature must be a dict"),  # type: ignore[arg-type]
    "a login that is no generator": (lambda: SessionToken(plain, {}, header="X"), "generator function"),  # type: ignore[arg-type]
    "no place": (lambda: SessionToken(failing, {}), "either header= or param="),
    "no place in the template": (lambda: SessionToken(failing, {}, header="X", template="Bearer"), "needs {} once"),
    "no duration": (
        lambda: SessionToken(failing, {}, header="X", expires_after="soon"),
        "expires_after of SessionToken",
    ),
    "a URL without its host": (lambda: LoginCall("/login"), "url of LoginCall"),
    "two bodies": (lambda: LoginCall("https://x/", json={}, form={}), "json= or form="),
}


@pytest.mark.parametrize(("make", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_of_a_hook_is_an_error_where_it_is_written(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make()
