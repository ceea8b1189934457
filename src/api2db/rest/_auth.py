"""Authentication: what is added to a request at the moment it is sent, and to requests of the API's own origin only."""

import base64
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from api2db.errors import ConfigurationError, PollError
from api2db.rest._arguments import suggesting
from api2db.rest._secrets import Secret, SecretText

_MARGIN_S: Final = 60.0
_USUAL_LIFE_S: Final = 3600.0


@dataclass(frozen=True)
class Added:
    """What authentication adds to one request.

    Attributes:
        secrets: The values in it that no message may show.
        sign: Called with the request if it has to be signed; returns what is added instead.
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
"""Sends a form, or a body as it is, with headers to a URL, and returns the decoded answer.

Without a body it is a GET. It hides the secrets given last.
"""


class Auth(Protocol):
    """A form of authentication."""

    @property
    def secret_params(self) -> frozenset[str]:
        """The query parameters that hold a secret."""

    def added(self, post: Post) -> Added:
        """Return what to add to a request; ``post`` reaches a token server."""

    def refused(self) -> bool:
        """Take note of a 401; return whether another try may do better."""


class _Fixed:
    """What all forms share that always send the same."""

    @property
    def secret_params(self) -> frozenset[str]:
        return frozenset()

    def refused(self) -> bool:
        return False


@suggesting
@dataclass(frozen=True)
class BearerToken(_Fixed):
    """``Authorization: Bearer …``.

    Args:
        token: Text, ``$NAME`` for an environment variable, or a SecretFile.
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
        header: The header's name; or
        param: the parameter's.
    """

    key: SecretText = field(repr=False)
    header: str | None = None
    param: str | None = None

    def __post_init__(self) -> None:
        if (self.header is None) == (self.param is None):
            raise ConfigurationError("ApiKey needs either header= or param=, the name under which the key is sent")
        object.__setattr__(self, "key", Secret(self.key, "key of ApiKey"))

    @property
    def secret_params(self) -> frozenset[str]:
        """The parameter, where there is one."""
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
        password: The same; some APIs want a key as the name and no password.
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


@dataclass
class Token:
    """The access token of a process, which all polls of it share."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: str = ""
    until_s: float = 0.0


@suggesting
@dataclass(frozen=True)
class OAuth2ClientCredentials:
    """OAuth 2.0 client credentials: a token that is renewed before it expires, and once after a 401.

    Args:
        token_url: Where tokens are had.
        client_id: Text, ``$NAME`` for an environment variable, or a SecretFile.
        client_secret: The same.
        scope: The scopes, separated by blanks.
        audience: Whom the token is for, where the server asks for it.
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
        """There are none."""
        return frozenset()

    def added(self, post: Post) -> Added:
        """Return the header, with a new token where the old one expires soon."""
        with self._token.lock:
            if time.monotonic() >= self._token.until_s:
                self._renew(post)
            token = self._token.value
        return Added({"Authorization": f"Bearer {token}"}, secrets=(token, _value(self.client_secret)))

    def refused(self) -> bool:
        """Forget the token."""
        with self._token.lock:
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
            raise PollError(f"{self.token_url} gave no access_token")
        life_s = answer.get("expires_in")
        life_s = float(life_s) if isinstance(life_s, (int, float, str)) and str(life_s).isdigit() else _USUAL_LIFE_S
        self._token.value = token
        self._token.until_s = time.monotonic() + max(life_s - _MARGIN_S, life_s / 2)


@dataclass(frozen=True)
class NoAuth(_Fixed):
    """Nothing is added."""

    def added(self, post: Post) -> Added:
        """Return nothing."""
        return Added()


def _basic(username: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def _value(secret: object) -> str:
    if not isinstance(secret, Secret):
        raise TypeError("a secret was replaced after its object was made")
    return secret.value()
