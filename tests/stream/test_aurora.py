"""Amazon Aurora: the engines behind it, and its tokens, which boto3 really makes and a server really checks.

PostgreSQL passes what its client sends to an LDAP server, which here checks the token as Amazon does. The others have
no such feature: there the token is the user's password, at a fixed time.
"""

import datetime
import hashlib
import hmac
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import boto3
import botocore.auth
import pytest
from sqlalchemy import text

from api2db import Stream2Sql
from api2db.errors import ConfigurationError
from tests.servers.server import Server
from tests.stream.eventually import eventually

USER, REGION, KEY_ID = "aurora", "eu-west-1", "AKIAEXAMPLE"
SECRETS = ["first-canary-secret", "second-canary-secret"]


def signature(host: str, parameters: dict[str, str], secret: str) -> str:
    """Check a token by "Signing AWS API requests" (Signature Version 4), for a query that is valid for 15 minutes."""
    asked = urlencode(sorted(parameters.items()), quote_via=quote, safe="-_.~")
    request = f"GET\n/\n{asked}\nhost:{host}\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    time, scope = parameters["X-Amz-Date"], parameters["X-Amz-Credential"].partition("/")[2]
    to_sign = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def is_good(token: str, place: str, secret: str) -> bool:
    host, _, query = token.partition("/?")
    parameters = dict(parse_qsl(query))
    signed = parameters.pop("X-Amz-Signature", "")
    wanted = {"Action": "connect", "DBUser": USER, "X-Amz-Expires": "900"}
    if host != place or not wanted.items() <= parameters.items():
        return False
    return f"/{REGION}/rds-db/" in parameters["X-Amz-Credential"] and signed == signature(host, parameters, secret)


class Checking(socketserver.ThreadingTCPServer):
    """An LDAP server that knows one kind of request, the simple bind, and accepts whoever has a valid token."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Bind)
        self.place, self.secret = "", SECRETS[0]
        self.tokens: list[str] = []

    def lets_in(self, token: str) -> bool:
        self.tokens.append(token)
        return is_good(token, self.place, self.secret)


class _Bind(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while (message := self._element()) is not None:
            _, number, rest = _split(message)
            kind, request, _ = _split(rest)
            if kind != 0x60:
                return
            _, _, after_version = _split(request)
            _, _, after_name = _split(after_version)
            _, token, _ = _split(after_name)
            assert isinstance(self.server, Checking)
            code = 0 if self.server.lets_in(token.decode()) else 49
            answer = bytes([0x02, len(number), *number, 0x61, 7, 0x0A, 1, code, 4, 0, 4, 0])
            self.wfile.write(bytes([0x30, len(answer), *answer]))

    def _element(self) -> bytes | None:
        head = self.rfile.read(2)
        if len(head) < 2:
            return None
        if head[1] < 0x80:
            return self.rfile.read(head[1])
        return self.rfile.read(int.from_bytes(self.rfile.read(head[1] & 0x7F)))


def _split(data: bytes) -> tuple[int, bytes, bytes]:
    """Return the first element of BER: its kind, its content, and the rest."""
    begin, length = 2, data[1]
    if length >= 0x80:
        begin += length & 0x7F
        length = int.from_bytes(data[2:begin])
    return data[0], data[begin : begin + length], data[begin + length :]


@pytest.fixture
def checking() -> Iterator[Checking]:
    with Checking() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def aurora(encrypted_postgresql: Server, checking: Checking) -> Iterator[Server]:
    """A server that takes tokens for one user, and only over TLS."""
    server = encrypted_postgresql
    assert server.local
    rules = server.local.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    port = checking.server_address[1]
    rules.write_text(f"hostssl all {USER} all ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix=uid=\n{before}")
    checking.place = f"{server.host}:{server.port}"
    server.execute(f"CREATE ROLE {USER} LOGIN CREATEDB")
    with closing(server.client()) as client:
        client.execute("SELECT pg_reload_conf()")
        eventually(lambda: client.execute("SELECT user_name FROM pg_hba_file_rules").fetchone() == ([USER],))
        yield server
        rules.write_text(before)
        client.execute("SELECT pg_reload_conf()")
        client.execute("DROP DATABASE IF EXISTS tokens WITH (FORCE)")
        client.execute(f"DROP ROLE {USER}")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[0])
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    boto3.DEFAULT_SESSION = None
    yield
    boto3.DEFAULT_SESSION = None


def change_key(checking: Checking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all tokens invalid that were made before."""
    checking.secret = SECRETS[1]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[1])
    boto3.DEFAULT_SESSION = None


def stream_to(server: Server, home: Path, **options: Any) -> Stream2Sql:
    usual = {"username": USER, "iam": True, "region": REGION, "home": home}
    return Stream2Sql("flights", "tokens", "amazon_aurora", **{**place_of(server), **usual, **options})


def place_of(server: Server) -> dict[str, Any]:
    kind = "postgresql" if server.kind == "postgresql" else "mysql"
    return {"host": server.host, "port": str(server.port), "engine": kind}


def test_each_connection_shows_a_token_of_its_own_and_rows_arrive(
    aurora: Server, checking: Checking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_to(aurora, tmp_path)
    with stream:
        stream.stream([{"id": 1}])  # type: ignore[arg-type] # which put takes, too
        change_key(checking, monkeypatch)
        aurora.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'aurora'")
        stream.stream([{"id": 2}])  # type: ignore[arg-type] # as above
    assert aurora.execute("SELECT id FROM flights ORDER BY id", "tokens") == [(1,), (2,)]
    assert is_good(checking.tokens[0], checking.place, SECRETS[0])
    assert is_good(checking.tokens[-1], checking.place, SECRETS[1])


def test_con_asks_for_a_token_at_each_connect_and_has_none_in_its_url(
    aurora: Server, checking: Checking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_to(aurora, tmp_path)
    assert stream.connect()
    assert stream.con is not None
    for _ in range(2):
        with stream.con.connect() as connection:
            assert connection.execute(text("SELECT current_user")).scalar() == USER
        stream.con.dispose()
        change_key(checking, monkeypatch)
    assert stream.con.url.password is None
    assert "X-Amz" in stream.engine_str
    assert "X-Amz" not in repr(vars(stream)) + repr(stream.con)


def test_keys_that_are_missing_or_wrong_are_waited_for_and_told(
    aurora: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    stream = stream_to(aurora, tmp_path)
    assert stream.connect() is False
    assert "credentials" in caplog.text
    with stream:
        stream.q.put([{"id": 1}])
        assert "Amazon gives no token" in eventually(lambda: stream.status().last_error or "")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-canary")
        boto3.DEFAULT_SESSION = None
        eventually(lambda: "authentication failed" in str(stream.status().last_error))
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[0])
        boto3.DEFAULT_SESSION = None
        stream.check_failures()
        assert stream.flush(20)
    said = caplog.text.replace("\n", " ")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("api2db")]
    assert "canary" not in said
    assert not [each for each in ours if "X-Amz" in each]


def test_a_region_that_nobody_names_is_told(aurora: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert stream_to(aurora, tmp_path, region=None).connect() is False
    assert "region" in caplog.text


@pytest.mark.parametrize("kind", ["mariadb"])
def test_a_token_opens_the_engine_mysql_too(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL itself takes no password as long as a token."""
    server: Server = request.getfixturevalue(f"encrypted_{kind}")
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: now)
    token = boto3.client("rds", region_name=REGION).generate_db_auth_token(server.host, server.port, USER, REGION)
    assert is_good(token, f"{server.host}:{server.port}", SECRETS[0])
    server.create_user(USER, token)
    server.execute(f"GRANT ALL ON tokens.* TO {USER}@'%'")
    stream = stream_to(server, tmp_path)
    stream.stream([{"id": 1}])  # type: ignore[arg-type] # which put takes, too
    assert stream.connect()
    assert stream.con is not None
    with stream.con.connect() as connection:
        assert connection.execute(text("SELECT id FROM flights")).scalar() == 1
    stream.con.dispose()
    stream.stop()
    assert [ours for (ours,) in server.execute("SELECT sequence > 0 FROM _api2db_ledger", "tokens")] == [1]


@pytest.mark.parametrize(
    ("options", "driver", "port"),
    [
        ({"engine": "postgresql"}, "postgresql+psycopg", 5432),
        ({"engine": "mysql"}, "mysql+pymysql", 3306),
        ({"engine": "mysql", "port": "5432"}, "mysql+pymysql", 5432),
        ({"engine": "", "port": "5432"}, "postgresql+psycopg", 5432),
        ({"engine": "", "port": "3306"}, "mysql+pymysql", 3306),
    ],
    ids=str,
)
def test_a_port_or_an_option_says_which_engine_it_is_and_the_token_is_for_the_port_that_is_meant(
    options: dict[str, Any], driver: str, port: int, tmp_path: Path
) -> None:
    place: dict[str, Any] = {
        "host": "a.cluster.example",
        "username": USER,
        "iam": True,
        "region": REGION,
        "home": tmp_path,
    }
    stream = Stream2Sql("flights", "tokens", "amazon_aurora", **{**place, **options})
    assert stream.driver == driver
    server = stream._place.server  # type: ignore[union-attr] # of a place on a server
    assert (server.port, server.tls.mode) == (port, "require")
    assert is_good(server.password(), f"a.cluster.example:{port}", SECRETS[0])


@pytest.mark.parametrize("options", [{}, {"port": "5433"}, {"engine": "oracle"}], ids=str)
def test_an_engine_that_nobody_names_is_asked_for(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="engine='postgresql' or 'mysql'"):
        Stream2Sql("flights", "db", "amazon_aurora", "me", "secret", "there", home=tmp_path, **options)


@pytest.mark.parametrize("tls", ["disable", "prefer", {"mode": "prefer"}], ids=str)
def test_a_token_is_never_sent_in_the_clear(tls: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a token is sent only with TLS"):
        Stream2Sql(
            "flights", "db", "amazon_aurora", "me", host="there", engine="mysql", iam=True, tls=tls, home=tmp_path
        )


def test_aurora_takes_a_password_as_well(encrypted_server: Server, tmp_path: Path) -> None:
    server = encrypted_server
    options: dict[str, Any] = {"username": server.user, "password": server.password}
    stream = Stream2Sql("flights", "passwords", "amazon_aurora", home=tmp_path, **place_of(server), **options)
    assert stream.connect() is True
