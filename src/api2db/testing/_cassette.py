"""Cassette: records the responses of a real API without the secrets that were sent, and replays them."""

import base64
import binascii
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qsl, quote, urlencode

import httpx2

from api2db.errors import ConfigurationError
from api2db.testing._server import ApiServer, Call, Reply
from api2db.texts import redact

Mode = Literal["record", "replay", "once"]
_MASK: Final = "***"
_BASE: Final = "{base}"
_PLAIN_HEADERS: Final = frozenset(
    {"accept", "accept-language", "cache-control", "content-type", "if-match", "if-modified-since", "if-none-match"}
    | {"origin", "prefer", "range", "referer", "user-agent"}
)
_SECRET_PARAMS: Final = frozenset({"appid", "app_id", "client_id", "code", "session", "sessionid", "subscription"})
_TOKENS: Final = re.compile(r"""("(?:access|refresh|id)_token"\s*:\s*)"(?:[^"\\]|\\.)*\"""")
_SHORTEST: Final = 4
_NOT_KEPT: Final = frozenset(
    {"set-cookie", "content-length", "content-encoding", "transfer-encoding", "connection", "date", "server"}
)
_HOP: Final = frozenset({"host", "connection", "content-length", "accept-encoding"})


class Cassette:
    """A server that records the responses of an API, or replays them.

    Secrets are replaced before anything is written, wherever they stand: the values of all headers but the usual ones,
    user and password of HTTP Basic, and parameters that are named like secrets, such as ``appid``. So are the tokens
    that a token server gives. Values of fewer than four characters are kept. A secret in the path of URLs is not
    recognised by itself: give it as one of ``secrets``, with the same value or another one for the replay. No file is
    written after an error in the ``with`` block.

    Args:
        path: The file.
        api: The API's URL; not needed for a replay.
        mode: ``"record"``, ``"replay"``, or ``"once"``: record where there is no file.
        secret_params: Further parameters that hold secrets.
        secrets: Further secrets, such as a token in the path of URLs.
    """

    def __init__(
        self,
        path: Path | str,
        api: str = "",
        mode: Mode = "once",
        secret_params: Collection[str] = (),
        secrets: Collection[str] = (),
    ) -> None:
        if isinstance(secret_params, str) or isinstance(secrets, str):
            raise ConfigurationError("secret_params and secrets of Cassette are lists of texts")
        self._secret_params = _SECRET_PARAMS | {name.lower() for name in secret_params}
        self._path = Path(path)
        self._api = api.rstrip("/")
        self._records = mode == "record" or (mode == "once" and not self._path.exists())
        if self._records and not api:
            raise ConfigurationError(f"{self._path} can't be recorded without the URL of the API; give it as api=")
        self._kept: dict[str, dict[str, Any]] = {} if self._records else json.loads(self._path.read_text("utf-8"))
        self._secrets = _forms(secrets)
        self._discarded = False
        self._client = httpx2.Client() if self._records else None
        self._server = ApiServer(self._recorded if self._records else self._replayed)

    @property
    def url(self) -> str:
        """The URL for RestApi, in place of the API's."""
        return self._server.url

    @property
    def asked(self) -> list[Call]:
        """The requests so far."""
        return self._server.asked

    def close(self) -> None:
        """Stop the server, and write the recording."""
        self._server.close()
        if self._client is not None:
            self._client.close()
            if not self._discarded:
                self._path.write_text(json.dumps(self._whole(), indent=1, sort_keys=True) + "\n", "utf-8")

    def discard(self) -> None:
        """Write no file: what was recorded is not whole."""
        self._discarded = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        if error is not None:
            self.discard()
        self.close()

    def _recorded(self, call: Call) -> Reply:
        if self._client is None:
            raise RuntimeError("a replay records nothing")
        self._secrets |= self._secrets_of(call)
        headers = {name: value for name, value in call.headers.items() if name not in _HOP}
        query = f"?{call.query}" if call.query else ""
        answer = self._client.request(call.method, f"{self._api}{call.path}{query}", headers=headers, content=call.body)
        kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in _NOT_KEPT}
        entry: dict[str, Any] = {
            "status": answer.status_code,
            "headers": dict(kept),
        }
        try:
            entry["text"] = answer.content.decode()
        except UnicodeDecodeError:
            entry["base64"] = answer.content.decode("latin-1")
        self._kept[self._name(call)] = entry
        content = answer.content.replace(self._api.encode(), call.base.encode())
        return Reply(
            content, answer.status_code, {name: value.replace(self._api, call.base) for name, value in kept.items()}
        )

    def _replayed(self, call: Call) -> Reply:
        self._secrets |= self._secrets_of(call)
        name = self._name(call)
        entry = self._kept.get(name)
        if entry is None:
            return Reply({"message": f"{self._path.name} has no response to {name}"}, 404)
        return _reply(entry, call.base)

    def _whole(self) -> dict[str, Any]:
        """All answers, without the secrets of any request: an answer may repeat those of an earlier one."""
        found: dict[str, Any] = {}
        for name, entry in self._kept.items():
            headers = {header: self._scrubbed(value) for header, value in entry["headers"].items()}
            kept = found[self._masked(name)] = entry | {"headers": headers}
            if "text" in entry:
                kept["text"] = self._scrubbed(entry["text"])
            else:
                kept["base64"] = base64.b64encode(self._masked(entry["base64"]).encode("latin-1")).decode()
        return found

    def _masked(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, _MASK)
        return text

    def _scrubbed(self, text: str) -> str:
        text = self._masked(text)
        return _TOKENS.sub(rf'\1"{_MASK}"', text).replace(self._api, _BASE)

    def _name(self, call: Call) -> str:
        """A request without its secrets: what an answer is kept under."""
        params = [
            (name, _MASK if self._is_secret(name) else value)
            for name, value in sorted(parse_qsl(call.query, keep_blank_values=True))
        ]
        query = f"?{urlencode(params, safe='*')}" if params else ""
        body = redact(call.body.decode("utf-8", "replace"))
        return self._masked(f"{call.method} {call.path}{query}{f' {body}' if body else ''}")

    def _secrets_of(self, call: Call) -> set[str]:
        found = {value for name, value in parse_qsl(call.query) if self._is_secret(name)}
        for name, value in call.headers.items():
            if name not in _PLAIN_HEADERS | _HOP:
                found |= {value, *value.split()[1:], *_user_and_password(value)}
        return _forms(found)

    def _is_secret(self, name: str) -> bool:
        return name.lower() in self._secret_params or redact(f"{name}=value") != f"{name}=value"


def _forms(secrets: Collection[str]) -> set[str]:
    """Return secrets as they may stand in URLs and in JSON, too."""
    long = [secret for secret in secrets if len(secret) >= _SHORTEST]
    return {form for secret in long for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}


def _reply(entry: dict[str, Any], base: str) -> Reply:
    headers = {name: value.replace(_BASE, base) for name, value in entry["headers"].items()}
    if "base64" in entry:
        return Reply(base64.b64decode(entry["base64"]), entry["status"], headers)
    return Reply(entry["text"].replace(_BASE, base).encode(), entry["status"], headers)


def _user_and_password(authorization: str) -> list[str]:
    """What HTTP Basic says in base64."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return []
    try:
        return base64.b64decode(value).decode("latin-1").split(":", 1)
    except binascii.Error:
        return []
