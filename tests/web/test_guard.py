"""Who may look at the page: hosts, tokens, origins, and the headers of each answer."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pandas as pd
import pytest

from api2db import Stream2Sql
from tests.stream.eventually import eventually
from tests.web.conftest import Page

Serve = Callable[..., Page]
Refused = Callable[..., tuple[int, str]]
ANYWHERE = "0.0.0.0"


FOREIGN = ("attacker.example", "attacker.example:80", "10.0.0.1", "", "[::1", "127.0.0.1.x.example")


def test_a_host_that_is_not_loopback_gets_nothing(serve: Serve, tmp_path: Path) -> None:
    page = serve(tmp_path)
    for host in FOREIGN:
        for path in ("/", "/events", "/api/rejected", "/metrics", "/healthz", "/static/page.js"):
            assert page.get(path, headers={"Host": host}).status_code in {400, 421}, (host, path)


def test_the_names_of_this_machine_are_answered(serve: Serve, tmp_path: Path) -> None:
    page = serve(tmp_path)
    for host in ("localhost", "127.0.0.1:80", "[::1]:80"):
        assert page.get("/healthz", headers={"Host": host}).text == "ok\n"


def test_each_answer_forbids_scripts_of_others_frames_and_caches(serve: Serve, tmp_path: Path) -> None:
    page = serve(tmp_path)
    for path in ("/", "/static/style.css", "/api/rejected", "/api/collectors/none", "/metrics", "/nothing"):
        headers = page.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_only_the_pages_own_files_are_served(serve: Serve, tmp_path: Path) -> None:
    page = serve(tmp_path)
    for path in ("/static/../_app.py", "/static/..%2F_app.py", "/static/%2e%2e/_app.py", "/static/no.js"):
        assert page.get(path).status_code == 404, path


def test_another_address_needs_the_token_which_is_shown_once(serve: Serve, tmp_path: Path) -> None:
    page = serve(tmp_path, ANYWHERE)
    file = tmp_path / "AUTH" / "web_token"
    token = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"?token={token}" in page.said
    assert page.get("/").status_code == page.get("/metrics").status_code == 401
    assert page.get("/?token=wrong").status_code == 401
    first = page.get(f"/?token={token}")
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert page.get(f"//x.example/?token={token}").headers["location"] == "/x.example/"
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert page.get("/", headers={"Cookie": cookie.partition(";")[0]}).status_code == 200
    assert page.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    again = serve(tmp_path, ANYWHERE)
    assert token not in again.said
    assert "AUTH/web_token" in again.said


def test_a_token_that_others_can_read_is_refused(api2db_web: Refused, tmp_path: Path) -> None:
    file = tmp_path / "AUTH" / "web_token"
    file.parent.mkdir()
    file.write_text("x" * 40)
    file.chmod(0o644)
    code, said = api2db_web(tmp_path, f"{ANYWHERE}:0")
    assert (code, "chmod 600" in said) == (2, True)


@pytest.mark.parametrize("address", ["127.0.0.1:x", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(api2db_web: Refused, tmp_path: Path, address: str) -> None:
    code, said = api2db_web(tmp_path, address)
    assert (code, "write HOST:PORT" in said) == (2, True)


def test_a_port_that_is_taken_is_said(api2db_web: Refused, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = api2db_web(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}")
    assert (code, "nothing can listen" in said) == (2, True)


@pytest.fixture
def rejected(tmp_path: Path) -> str:
    """A file with one rejected row."""
    stream = Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path, schema="freeze")
    with stream:
        stream.q.put(pd.DataFrame({"id": [1]}))
        assert stream.flush(20)
        stream.q.put(pd.DataFrame({"id": ["x"]}))
        assert stream.flush(20)
    [file] = (tmp_path / "STORE" / "rejected").glob("*/*/*.parquet")
    return str(file.relative_to(tmp_path))


FORGED: tuple[dict[str, str], ...] = (
    {},
    {"Origin": "http://attacker.example"},
    {"Origin": "null", "X-CSRF-Token": "CSRF"},
    {"X-CSRF-Token": "CSRF"},
    {"Origin": "OWN"},
    {"Origin": "OWN", "X-CSRF-Token": "wrong"},
    {"Origin": "http://attacker.example", "X-CSRF-Token": "CSRF"},
)


def test_no_other_site_can_retry_or_drop(serve: Serve, tmp_path: Path, rejected: str) -> None:
    page = serve(tmp_path)
    known = {"OWN": page.url, "CSRF": page.get("/api/rejected").json()["csrf"]}
    for headers in FORGED:
        sent = {name: known.get(value, value) for name, value in headers.items()}
        for action in ("retry", "drop"):
            answer = httpx2.post(f"{page.url}/api/rejected/{action}", params={"file": rejected}, headers=sent)
            assert answer.status_code == 403, headers
    assert page.get("/api/rejected/drop").status_code == 405
    assert (tmp_path / rejected).exists()


def test_the_page_itself_can_drop(serve: Serve, tmp_path: Path, rejected: str) -> None:
    page = serve(tmp_path)
    [file] = page.get("/api/rejected").json()["files"]
    assert (file["file"], file["rows"]) == (rejected, 1)
    [row] = page.get("/api/rejected/rows", params={"file": rejected}).json()["rows"]
    assert row["id"] == "x"
    own = {"Origin": page.url, "X-CSRF-Token": page.get("/api/rejected").json()["csrf"]}
    answer = httpx2.post(f"{page.url}/api/rejected/drop", params={"file": rejected}, headers=own)
    assert (answer.status_code, answer.json()) == (200, {"rows": 1})
    assert not (tmp_path / rejected).exists()
    for wrong in ("../../etc/passwd", rejected):
        answer = httpx2.post(f"{page.url}/api/rejected/drop", params={"file": wrong}, headers=own)
        assert answer.status_code == 409


def test_no_secret_is_in_any_document(serve: Serve, tmp_path: Path) -> None:
    password = "canary-6f1d"
    options = {"host": "127.0.0.1", "port": 1, "username": "u", "password": password}
    stream = Stream2Sql("cities", "db", "postgresql", home=tmp_path, **options)  # type: ignore[arg-type]
    stream.start()
    try:
        stream.q.put(pd.DataFrame({"id": [1]}))
        eventually(lambda: stream.status().last_error)
        page = serve(tmp_path)
        paths = ("/api/collectors/cities", "/api/rejected", "/metrics", "/readyz")
        texts = eventually(lambda: _with_error([page.get(path).text for path in paths]))
        with httpx2.stream("GET", f"{page.url}/events", timeout=30) as events:
            texts.append(next(text for text in events.iter_text() if "cities" in text))
    finally:
        stream.stop(5)
    assert "cities" in texts[0]
    assert "can't be reached" in texts[-1]
    assert not any(password in text for text in texts)


def _with_error(texts: list[str]) -> list[str]:
    return texts if "can't be reached" in texts[0] else []


@pytest.fixture
def api2db_web() -> Refused:

    def run(home: Path, address: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "api2db", "web", address, "--home", str(home)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ), check=False)
        return done.returncode, done.stdout + done.stderr

    return run
