"""Who may look at the page and use its actions.

On a loopback address no token is asked for, but a request must name a loopback address as its host: a page of another
site that points its own name at 127.0.0.1 gets nothing. On any other address each request needs the token: as a cookie,
which a first visit with ``?token=`` sets, or as ``Authorization: Bearer``. Actions also need the origin of the page and
a value that only the page knows, so that no other site can send them.
"""

import hmac
import ipaddress
import secrets
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api2db.disk.atomic import FILE_MODE, make_folders, publish, sync_folder, write_temporary
from api2db.errors import ConfigurationError

TOKEN_FILE: Final = "web_token"  # noqa: S105 - the name of a file
_COOKIE: Final = "api2db_token"
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_of(home: Path) -> tuple[str, bool]:
    """Return the token of a project, and whether it was made just now; it is kept in ``AUTH/web_token``.

    Raises:
        ConfigurationError: Others may read the file, or it has no token.
    """
    path = home / "AUTH" / TOKEN_FILE
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} can be read by others; run: chmod 600 {path}")
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        make_folders(path.parent)
        with write_temporary(path) as temporary:
            temporary.file.write(token.encode())
        temporary.path.chmod(FILE_MODE)
        publish(temporary.path, path)
        sync_folder(path.parent)
        return token, True
    if len(token) < 32:
        raise ConfigurationError(f"{path} has no token of 32 characters or more; delete it, and a new one is made")
    return token, False


class Guard:
    """Middleware that refuses whom the module's docstring refuses, and adds the headers of security.

    Args:
        app: What it guards.
        token: What a request needs on an address that is not loopback; None on a loopback address.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token
        self.csrf = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = {name.lower(): value for name, value in _HEADERS.items()}
                kept = [(name, value) for name, value in message["headers"] if name.decode() not in headers]
                message["headers"] = kept + [(name.encode(), value.encode()) for name, value in headers.items()]
            await send(message)

        refused = self._refusal(Request(scope))
        await (refused or self._app)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if self._token is None and not is_loopback(_host_of(headers)):
            return _refused(HTTPStatus.MISDIRECTED_REQUEST, "this page is served for a loopback address only")
        if self._token is not None and not self._knows_token(request):
            given = dict(parse_qsl(request.url.query)).get("token", "")
            if request.method == "GET" and hmac.compare_digest(given.encode(), self._token.encode()):
                return self._with_cookie(request)
            return _refused(HTTPStatus.UNAUTHORIZED, "open the address with ?token=…; it is in AUTH/web_token")
        if request.method not in {"GET", "HEAD"} and not self._is_own_action(headers):
            return _refused(HTTPStatus.FORBIDDEN, "actions are taken from the page itself only")
        return None

    def _knows_token(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else request.cookies.get(_COOKIE, "")
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _is_own_action(self, headers: Headers) -> bool:
        origin = urlsplit(headers.get("origin", ""))
        own = origin.scheme in {"http", "https"} and origin.netloc == headers.get("host", "")
        return own and hmac.compare_digest(headers.get("x-csrf-token", "").encode(), self.csrf.encode())

    def _with_cookie(self, request: Request) -> Response:
        """Leave the token out of the address, where a history or a log would keep it."""
        left = [(name, value) for name, value in parse_qsl(request.url.query) if name != "token"]
        path = f"/{request.url.path.lstrip('/')}"  # one that begins with // names another host
        response = RedirectResponse(f"{path}{f'?{urlencode(left)}' if left else ''}", HTTPStatus.SEE_OTHER)
        response.set_cookie(_COOKIE, self._token or "", httponly=True, samesite="strict", max_age=365 * 86_400)
        return response


def _host_of(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _refused(status: HTTPStatus, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)
