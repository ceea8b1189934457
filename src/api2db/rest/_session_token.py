"""SessionToken: authentication by a login of one or more calls, whose token is sent until it expires or is refused."""

import inspect
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api2db.errors import ConfigurationError, PollError
from api2db.rest._addresses import origin_of
from api2db.rest._arguments import duration_s, of_kind, suggesting
from api2db.rest._auth import Added, Post, Token
from api2db.rest._json import encode
from api2db.rest._secrets import SecretText, named_secrets, revealed, scrub


@suggesting
@dataclass(frozen=True)
class LoginCall:
    """One call of a login: a GET without a body, otherwise a POST.

    Args:
        url: The whole URL. Redirects are not followed.
        json: The body, sent as JSON. Give either this or ``form``.
        form: The body, sent as a form.
        headers: Headers of the call.
        secrets: Further values that no message may show, such as a token from an earlier answer.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    url: str
    json: Any = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        try:
            origin_of(of_kind(self.url, str, "url of LoginCall", "text such as 'https://api.example.com/login'"))
        except PollError as error:
            raise ConfigurationError(f"url of LoginCall: {error}") from None
        if self.json is not None and self.form is not None:
            raise ConfigurationError("LoginCall takes json= or form=, not both")

    def answer(self, post: Post, secrets: Sequence[str]) -> Any:
        """Make the call, and return the decoded answer."""
        headers = dict(self.headers)
        if self.json is not None:
            headers = {"Content-Type": "application/json", **headers}
        hidden = [*secrets, *self.secrets]
        hidden += [value.rpartition(" ")[2] for name, value in headers.items() if name.lower() == "authorization"]
        return post(self.url, self.form if self.json is None else encode(self.json), headers, hidden)


Login = Callable[[Mapping[str, str]], Generator[LoginCall, Any, str]]


@suggesting
@dataclass(frozen=True)
class SessionToken:
    """A token from a login. All polls of a process share it. After its expiry or a 401 there is a new login.

    Args:
        login: A generator function. It takes the values of ``secrets``, yields a LoginCall for each call, receives the
            decoded JSON of the answer, and returns the token.
        secrets: The credentials, by names of your choice: text, ``$NAME`` for an environment variable, or a SecretFile.
        header: The header for the token. Give either this or ``param``.
        param: The query parameter for the token.
        template: The value that is sent, with ``{}`` for the token, such as ``"Bearer {}"``.
        expires_after: How long a token is valid, such as ``"30m"``. By default it is used until a 401.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    login: Login
    secrets: Mapping[str, SecretText] = field(repr=False)
    header: str | None = None
    param: str | None = None
    template: str = "{}"
    expires_after: str | float | None = None
    _life_s: float = field(init=False, repr=False, compare=False, default=float("inf"))
    _token: Token = field(init=False, repr=False, compare=False, default_factory=Token)

    def __post_init__(self) -> None:
        if not inspect.isgeneratorfunction(self.login):
            raise ConfigurationError(
                "login of SessionToken must be a generator function, which yields LoginCall(…) and returns the token"
            )
        if (self.header is None) == (self.param is None):
            raise ConfigurationError(
                "SessionToken needs either header= or param=, the name under which the token is sent"
            )
        if of_kind(self.template, str, "template of SessionToken", "text").count("{}") != 1:
            raise ConfigurationError(
                f"template of SessionToken is {self.template!r}; it needs {{}} once, for the token"
            )
        if self.expires_after is not None:
            object.__setattr__(self, "_life_s", duration_s(self.expires_after, "expires_after of SessionToken"))
        object.__setattr__(self, "secrets", named_secrets(self.secrets, "secrets of SessionToken"))

    @property
    def secret_params(self) -> frozenset[str]:
        """The query parameter that holds the token, if there is one."""
        return frozenset({self.param}) if self.param is not None else frozenset()

    @property
    def is_ready(self) -> bool:
        """Whether there is a valid token."""
        return time.monotonic() < self._token.until_s

    def added(self, post: Post) -> Added:
        """Return the header or the parameter with the token. Log in first if there is no valid token."""
        secrets = revealed(self.secrets)
        with self._token.lock:
            if time.monotonic() >= self._token.until_s:
                self._token.value = self._logged_in(post, secrets)
                self._token.until_s = time.monotonic() + self._life_s
            token = self._token.value
        value = self.template.replace("{}", token)
        headers = {self.header: value} if self.header is not None else {}
        params = {self.param: value} if self.param is not None else {}
        return Added(headers, params, (token, *secrets.values()))

    def refused(self, sent: Added) -> bool:
        """Discard the token that was sent, unless another poll has renewed it since."""
        with self._token.lock:
            if self._token.value in sent.secrets:
                self._token.until_s = 0.0
        return True

    def _logged_in(self, post: Post, secrets: Mapping[str, str]) -> str:
        steps = self.login(secrets)
        step = self._next(steps, None, secrets)
        while isinstance(step, LoginCall):
            step = self._next(steps, step.answer(post, list(secrets.values())), secrets)
        if not isinstance(step, str) or not step or not step.isprintable() or not step.isascii():
            raise PollError("login of SessionToken did not return a token: printable ASCII text")
        return step

    @staticmethod
    def _next(steps: Generator[LoginCall, Any, str], answer: Any, secrets: Mapping[str, str]) -> object:
        try:
            step: object = steps.send(answer)
        except StopIteration as end:
            return end.value
        except Exception as error:  # noqa: BLE001 - it may have a secret in it
            said = scrub(f"{type(error).__name__}: {error}", secrets.values())
            raise PollError(f"login of SessionToken raised {said}") from None
        if isinstance(step, LoginCall):
            return step
        raise ConfigurationError(f"login of SessionToken yielded a {type(step).__name__}; it must yield LoginCall(…)")
