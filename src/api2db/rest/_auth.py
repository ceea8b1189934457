"""Authentication: headers and parameters that are added to each request to the API's own origin."""

import base64
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

from api2db.errors import ConfigurationError, PollError
from api2db.rest._arguments import headers_of, optional_text, suggesting
from api2db.rest._secrets import Secret, SecretText

_MARGIN_S: Final = 60.0
_USUAL_LIFE_S: Final = 3600.0


@dataclass(frozen=True)
class Added:
    """What authentication adds to one request.

    Attributes:
        secrets: The values that must not appear in any message.
        sign: Called with the request if it has to be signed; returns what is added instead. It may block.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)
    sign: "Callable[[Outgoing], Added] | None" = field(default=None, repr=False)


class Outgoing(Protocol):
    """A request before authentication adds to it."""

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def json(self) -> bytes | None: ...


Post = Callable[[str, Mapping[str, str] | bytes | None, Mapping[str, str], Sequence[str]], Any]
"""Posts a form, or a body as it is, with headers to a URL, masks the given secrets in errors, and returns the decoded
response. Without a body it is a GET."""


class Auth(Protocol):
    """A form of authentication.

    A form that has an attribute ``is_ready`` which is true adds what it adds without asking anyone; ``added`` of the
    others is called in a thread where it may block.
    """

    @property
    def secret_params(self) -> frozenset[str]:
        """The query parameters that hold a secret."""

    def added(self, post: Post) -> Added:
        """Return what to add to a request; ``post`` reaches a token server."""

    def refused(self, sent: Added) -> bool:
        """Take note of a 401 to what was sent; return whether another try may do better."""


class _Fixed:
    """The base of the forms whose values never change."""

    is_ready: ClassVar[bool] = True

    @property
    def secret_params(self) -> frozenset[str]:
        return frozenset()

    def refused(self, sent: Added) -> bool:
        return False


@suggesting
@dataclass(frozen=True)
class BearerToken(_Fixed):
    """A token in the header ``Authorization: Bearer …``.

    Args:
        token: Text, ``$NAME`` for an environment variable, or a SecretFile.

    Raises:
        ConfigurationError: The token has another type, or is empty.
    """

    token: SecretText = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "token", Secret(self.token, "token of BearerToken"))

    def added(self, post: Post) -> Added:
        """Return the header."""
        token = _value(self.token)
        return Added({"Authorization": f"Bearer {token}"}, secrets=(token,))


@suggesting
@dataclass(frozen=True)
class ApiKey(_Fixed):
    """A key in a header or in a parameter of the query.

    Args:
        key: Text, ``$NAME`` for an environment variable, or a SecretFile.
        header: The name of the header. Give either this or ``param``.
        param: The name of the query parameter.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    key: SecretText = field(repr=False)
    header: str | None = None
    param: str | None = None

    def __post_init__(self) -> None:
        if (self.header is None) == (self.param is None):
            raise ConfigurationError("ApiKey needs either header= or param=, the name under which the key is sent")
        if self.header is not None:
            headers_of({self.header: ""}, "header of ApiKey")
        optional_text(self.param, "param of ApiKey")
        object.__setattr__(self, "key", Secret(self.key, "key of ApiKey"))

    @property
    def secret_params(self) -> frozenset[str]:
        """The query parameter that holds the key, if there is one."""
        return frozenset({self.param}) if self.param is not None else frozenset()

    def added(self, post: Post) -> Added:
        """Return the header or the parameter."""
        key = _value(self.key)
        headers = {self.header: key} if self.header is not None else {}
        params = {self.param: key} if self.param is not None else {}
        return Added(headers, params, (key,))


@suggesting
@dataclass(frozen=True)
class Basic(_Fixed):
    """HTTP Basic authentication.

    Args:
        username: Text, ``$NAME`` for an environment variable, or a SecretFile.
        password: As ``username``. Some APIs take a key as the user name, and no password.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    username: SecretText = field(repr=False)
    password: SecretText = field(repr=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "username", Secret(self.username, "username of Basic"))
        if self.password != "":
            object.__setattr__(self, "password", Secret(self.password, "password of Basic"))

    def added(self, post: Post) -> Added:
        """Return the header."""
        username = _value(self.username)
        password = _value(self.password) if self.password else ""
        header = _basic(username, password)
        return Added({"Authorization": header}, secrets=(username, password, header.removeprefix("Basic ")))


@dataclass(eq=False)
class Token:
    """An access token, shared by all polls of a process."""

    value: str = ""
    until_s: float = 0.0

    def __post_init__(self) -> None:
        self.after_fork()
        _tokens.add(self)

    def after_fork(self) -> None:
        """Make a new lock: another thread may have held the old one when the process was forked."""
        self.lock = threading.Lock()


_tokens: "weakref.WeakSet[Token]" = weakref.WeakSet()


def _after_fork() -> None:
    for token in list(_tokens):
        token.after_fork()


os.register_at_fork(after_in_child=_after_fork)


@suggesting
@dataclass(frozen=True)
class OAuth2ClientCredentials:
    """OAuth 2.0 client credentials: a token that is renewed before it expires, and once after a 401.

    Args:
        token_url: The URL of the token endpoint.
        client_id: Text, ``$NAME`` for an environment variable, or a SecretFile.
        client_secret: As ``client_id``.
        scope: The scopes, separated by blanks.
        audience: The audience of the token, if the server needs it.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    token_url: str
    client_id: SecretText = field(repr=False)
    client_secret: SecretText = field(repr=False)
    scope: str | None = None
    audience: str | None = None
    _token: Token = field(init=False, repr=False, compare=False, default_factory=Token)

    def __post_init__(self) -> None:
        if not str(self.token_url).startswith(("http://", "https://")):
            raise ConfigurationError("token_url of OAuth2ClientCredentials must begin with https:// or http://")
        for name in ("client_id", "client_secret"):
            object.__setattr__(self, name, Secret(getattr(self, name), f"{name} of OAuth2ClientCredentials"))

    @property
    def secret_params(self) -> frozenset[str]:
        """No parameter holds a secret."""
        return frozenset()

    @property
    def is_ready(self) -> bool:
        """Whether there is a valid token."""
        return time.monotonic() < self._token.until_s

    def added(self, post: Post) -> Added:
        """Return the header, with a new token if the old one expires soon."""
        with self._token.lock:
            if time.monotonic() >= self._token.until_s:
                self._renew(post)
            token = self._token.value
        return Added({"Authorization": f"Bearer {token}"}, secrets=(token, _value(self.client_secret)))

    def refused(self, sent: Added) -> bool:
        """Forget the token that was sent, unless another poll has renewed it since."""
        with self._token.lock:
            if self._token.value in sent.secrets:
                self._token.until_s = 0.0
        return True

    def _renew(self, post: Post) -> None:
        client_id, secret = _value(self.client_id), _value(self.client_secret)
        form = {"grant_type": "client_credentials", "scope": self.scope, "audience": self.audience}
        header = _basic(client_id, secret)
        hidden = (client_id, secret, header.removeprefix("Basic "))
        answer = post(
            self.token_url, {name: value for name, value in form.items() if value}, {"Authorization": header}, hidden
        )
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token.isprintable():
            raise PollError(f"{self.token_url} returned no access_token")
        life_s = answer.get("expires_in")
        life_s = float(life_s) if isinstance(life_s, (int, float, str)) and str(life_s).isdigit() else _USUAL_LIFE_S
        self._token.value = token
        self._token.until_s = time.monotonic() + max(life_s - _MARGIN_S, life_s / 2)


@dataclass(frozen=True)
class NoAuth(_Fixed):
    """No authentication."""

    def added(self, post: Post) -> Added:
        """Return nothing."""
        return Added()


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def _value(secret: object) -> str:
    if not isinstance(secret, Secret):
        raise TypeError("a secret was replaced after its object was made")
    return secret.value()
