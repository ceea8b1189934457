"""Signed: authentication by headers or parameters that a function computes from each request."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import httpx2

from api2db.errors import ConfigurationError, PollError
from api2db.rest._arguments import of_kind, suggesting
from api2db.rest._auth import Added, Outgoing, Post
from api2db.rest._secrets import SecretText, named_secrets, revealed, scrub
from api2db.rest._urls import with_params, without_params

_SIGNATURE_CHARACTERS: Final = 20
"""Shorter values of a signature are times, counts and names. They are not secret."""


@dataclass(frozen=True)
class Unsigned:
    """A request before it is signed and sent.

    Attributes:
        url: The URL with its query, encoded as it is sent.
        headers: The headers of the API and of the resource.
        body: The body as it is sent; empty for a GET.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """The path of the URL, encoded as it is sent."""
        return urlsplit(self.url).path or "/"

    @property
    def query(self) -> str:
        """The query of the URL, encoded as it is sent; empty if there is none."""
        return urlsplit(self.url).query

    def with_params(self, **params: object) -> "Unsigned":
        """Return the request with further parameters at the end of its query, encoded as they are sent.

        Example:
            >>> request = Unsigned("GET", "https://api.example.com/items?limit=5", {}, b"")
            >>> request.with_params(timestamp=1714557600).query
            'limit=5&timestamp=1714557600'
        """
        return Unsigned(self.method, with_params(self.url, params), self.headers, self.body)


@suggesting
@dataclass(frozen=True)
class Signature:
    """What a signing function adds to a request.

    Args:
        headers: Headers by name.
        params: Query parameters by name. They are sent at the end of the query, in this order.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    headers: Mapping[str, object] = field(default_factory=dict, repr=False)
    params: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("headers", "params"):
            of_kind(getattr(self, name), Mapping, f"{name} of Signature", "a dict")


Sign = Callable[[Unsigned, Mapping[str, str]], Signature]


@suggesting
@dataclass(frozen=True)
class Signed:
    """Signs each request when it is sent. A retry is signed again, with a new timestamp.

    Args:
        sign: A function of the request and the values of ``secrets``. It returns a Signature.
        secrets: The keys, by names of your choice: text, ``$NAME`` for an environment variable, or a SecretFile.

    Raises:
        ConfigurationError: An argument can't be used.
    """

    is_ready: ClassVar[bool] = True
    """The secrets are. ``sign`` itself is called where it may block."""

    sign: Sign
    secrets: Mapping[str, SecretText] = field(repr=False)
    _names: set[str] = field(init=False, repr=False, compare=False, default_factory=set)

    def __post_init__(self) -> None:
        if not callable(self.sign):
            raise ConfigurationError("sign of Signed must be a function of a request and the secrets")
        object.__setattr__(self, "secrets", named_secrets(self.secrets, "secrets of Signed"))

    @property
    def secret_params(self) -> frozenset[str]:
        """The parameters of all signatures so far. A link that repeats them contains an old signature."""
        return frozenset(self._names)

    def added(self, post: Post) -> Added:
        """Return the function that signs the request."""
        secrets = revealed(self.secrets)
        return Added(secrets=tuple(secrets.values()), sign=partial(self._signed, secrets))

    def refused(self, sent: Added) -> bool:
        """Return False: another signature would be refused, too."""
        return False

    def _signed(self, secrets: Mapping[str, str], request: Outgoing) -> Added:
        url = str(httpx2.URL(without_params(request.url, self.secret_params)))
        unsigned = Unsigned(request.method, url, dict(request.headers), request.json or b"")
        try:
            made = self.sign(unsigned, secrets)
        except Exception as error:  # noqa: BLE001 - it may have a secret in it
            said = scrub(f"{type(error).__name__}: {error}", secrets.values())
            raise PollError(f"sign of Signed raised {said}") from None
        if not isinstance(made, Signature):
            raise ConfigurationError(f"sign of Signed returned a {type(made).__name__}; it must return a Signature")
        headers = {name: _sendable(value, name) for name, value in made.headers.items()}
        params = {name: _sendable(value, name) for name, value in made.params.items()}
        self._names.update(params)
        hidden = [piece for value in (*headers.values(), *params.values()) for piece in _pieces(value)]
        return Added(headers, params, (*secrets.values(), *hidden))


def _sendable(value: Any, name: str) -> str:
    text = str(value)
    if isinstance(value, (bytes, Mapping)) or value is None or not text.isprintable() or not text.isascii():
        raise ConfigurationError(f"sign of Signed gave {name} a value that HTTP can't carry; give printable ASCII text")
    return text


def _pieces(value: str) -> list[str]:
    """Return the secret parts of a value such as ``AWS4-HMAC-SHA256 Credential=…, Signature=…``, and the value."""
    pieces = [value, *re.split(r"[\s,;=]+", value)]
    return [piece for piece in pieces if len(piece) >= _SIGNATURE_CHARACTERS and not piece.isdigit()]
