"""Cassette: records the responses of a real API without the secrets that were sent, and replays them."""

import base64
import json
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode

import httpx2

from api2db.errors import ConfigurationError
from api2db.redaction import redact
from api2db.testing._server import ApiServer, Call, Reply

Mode = Literal["record", "replay", "once"]
_MASK: Final = "***"
_BASE: Final = "{base}"
_SECRET_HEADERS: Final = ("authorization", "cookie", "proxy-authorization")
_NOT_KEPT: Final = frozenset(
    {"set-cookie", "content-length", "content-encoding", "transfer-encoding", "connection", "date", "server"}
)
_HOP: Final = frozenset({"host", "connection", "content-length", "accept-encoding"})


class Cassette:
    """A server that records the responses of an API, or replays them.

    Secrets are masked before anything is written: the values of headers and parameters with names like those of
    secrets, wherever they appear.

    Args:
        path: The file of the recording.
        api: The API's URL; not needed to replay.
        mode: ``"record"``, ``"replay"``, or ``"once"``, which records only if the file does not exist.
    """

    def __init__(self, path: Path | str, api: str = "", mode: Mode = "once") -> None:
        self._path = Path(path)
        self._api = api.rstrip("/")
        self._records = mode == "record" or (mode == "once" and not self._path.exists())
        if self._records and not api:
            raise ConfigurationError(f"{self._path} can't be recorded without the URL of the API; give it as api=")
        self._kept: dict[str, dict[str, Any]] = {} if self._records else json.loads(self._path.read_text("utf-8"))
        self._client = httpx2.Client() if self._records else None
        self._secrets: set[str] = set()
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
            self._scrub_again()
            self._path.write_text(json.dumps(self._kept, indent=1, sort_keys=True) + "\n", "utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _recorded(self, call: Call) -> Reply:
        if self._client is None:
            raise RuntimeError("a replay records nothing")
        headers = {name: value for name, value in call.headers.items() if name not in _HOP}
        query = f"?{urlencode(call.params)}" if call.params else ""
        answer = self._client.request(call.method, f"{self._api}{call.path}{query}", headers=headers, content=call.body)
        secrets = _secrets_of(call)
        self._secrets |= secrets
        kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in _NOT_KEPT}
        entry: dict[str, Any] = {
            "status": answer.status_code,
            "headers": {name: self._scrubbed(value, secrets) for name, value in kept.items()},
        }
        try:
            entry["text"] = self._scrubbed(answer.content.decode(), secrets)
        except UnicodeDecodeError:
            entry["base64"] = base64.b64encode(answer.content).decode()
        self._kept[_name(call)] = entry
        return _reply(entry, call.base)

    def _replayed(self, call: Call) -> Reply:
        entry = self._kept.get(_name(call))
        if entry is None:
            return Reply({"message": f"{self._path.name} has no response to {_name(call)}"}, 404)
        return _reply(entry, call.base)

    def _scrub_again(self) -> None:
        """Hide what a later request sent as a secret: the answer to a login has the token in it."""
        for entry in self._kept.values():
            if "text" in entry:
                entry["text"] = self._scrubbed(entry["text"], self._secrets)
            entry["headers"] = {name: self._scrubbed(value, self._secrets) for name, value in entry["headers"].items()}

    def _scrubbed(self, text: str, secrets: set[str]) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, _MASK)
        return text.replace(self._api, _BASE)


def _reply(entry: dict[str, Any], base: str) -> Reply:
    headers = {name: value.replace(_BASE, base) for name, value in entry["headers"].items()}
    if "base64" in entry:
        return Reply(base64.b64decode(entry["base64"]), entry["status"], headers)
    return Reply(entry["text"].replace(_BASE, base).encode(), entry["status"], headers)


def _name(call: Call) -> str:
    """Return the key of a recorded response: its request, without secrets."""
    params = {name: _MASK if _is_secret(name) else value for name, value in sorted(call.params.items())}
    query = f"?{urlencode(params, safe='*')}" if params else ""
    body = redact(call.body.decode("utf-8", "replace"))
    return f"{call.method} {call.path}{query}{f' {body}' if body else ''}"


def _secrets_of(call: Call) -> set[str]:
    found = {value for name, value in call.params.items() if _is_secret(name)}
    for name, value in call.headers.items():
        if name in _SECRET_HEADERS or _is_secret(name):
            found |= {value, value.partition(" ")[2]}
    return {value for value in found if len(value) > 3}


def _is_secret(name: str) -> bool:
    return "session" in name.lower() or redact(f"{name}=value") != f"{name}=value"
