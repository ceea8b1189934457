"""TLS: how a connection is encrypted, and whom it trusts; the stream's own and ``con`` follow the same rules."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api2db import Stream2Sql
from api2db.errors import TargetUnavailableError
from api2db.torture.proxy import Proxy
from tests.servers.server import Server
from tests.servers.tls import Authority, Certificate, make_authority
from tests.stream.eventually import eventually

CERTIFIED = "certified"
BARRED = f"hostssl all {CERTIFIED} all scram-sha-256 clientcert=verify-full\nhostnossl all {CERTIFIED} all reject\n"


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that has signed nothing."""
    return make_authority(tmp_path_factory.mktemp("stranger"), "a stranger")


@pytest.fixture(scope="session")
def certificate(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return authority.issue(tmp_path_factory.mktemp("client"), CERTIFIED)


@pytest.fixture
def elsewhere(encrypted_server: Server) -> Iterator[Proxy]:
    """The same server at an address that its certificate does not have."""
    with Proxy(encrypted_server.host, encrypted_server.port, host="127.0.0.2") as proxy:
        yield proxy


def reach(server: Server, home: Path, **options: Any) -> Stream2Sql:
    who: dict[str, Any] = {
        "username": server.user,
        "password": server.password,
        "host": server.host,
        "port": str(server.port),
    }
    return Stream2Sql("flights", "flights", server.kind, home=home, **{**who, **options})


def encrypted(stream: Stream2Sql) -> bool | str:
    """Return whether the stream's connection is encrypted, or why there is none, after checking that con agrees."""
    ours, theirs = _ours(stream), _theirs(stream)
    assert isinstance(ours, bool) == isinstance(theirs, bool), (ours, theirs)
    assert isinstance(ours, str) or ours == theirs
    return ours


def _ours(stream: Stream2Sql) -> bool | str:
    database = stream._place.database()
    try:
        with database.transaction() as session:
            return bool(session.rows(_question(stream))[0][-1])
    except TargetUnavailableError as error:
        return str(error)
    finally:
        database.close()


def _theirs(stream: Stream2Sql) -> bool | str:
    engine = stream._place.engine()
    try:
        with engine.connect() as connection:
            return bool(connection.execute(text(_question(stream))).one()[-1])
    except (DBAPIError, TargetUnavailableError) as error:
        return str(error)
    finally:
        engine.dispose()


def _question(stream: Stream2Sql) -> str:
    if stream.dialect == "postgresql":
        return "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    return "SHOW STATUS LIKE 'Ssl_cipher'"


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("disable", False), ("prefer", True), ("require", True), ("verify-ca", True), ("verify-full", True)],
)
@pytest.mark.parametrize("said", ["as a keyword", "in the file"])
def test_each_mode_encrypts_as_it_says(
    mode: str, wanted: Any, said: str, encrypted_server: Server, authority: Authority, tmp_path: Path
) -> None:
    tls = {"mode": mode, "ca": str(authority.certificate)} if "verify" in mode else {"mode": mode}
    (tmp_path / "auth.json").write_text(json.dumps({"tls": tls}))
    options = {"tls": tls} if said == "as a keyword" else {"auth_path": "auth.json"}
    assert encrypted(reach(encrypted_server, tmp_path, **options)) is wanted


def test_without_a_word_about_tls_it_is_used_where_the_server_can(encrypted_server: Server, tmp_path: Path) -> None:
    assert encrypted(reach(encrypted_server, tmp_path)) is True


def test_a_ca_alone_is_looked_at_in_full(
    encrypted_server: Server, authority: Authority, elsewhere: Proxy, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate.read_bytes())
    assert encrypted(reach(encrypted_server, tmp_path, tls={"ca": "ca.pem"})) is True
    other = {"host": elsewhere.host, "port": str(elsewhere.port)}
    assert encrypted(reach(encrypted_server, tmp_path, tls={"ca": "ca.pem"}, **other)) not in {True, False}


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_certificate_of_another_authority_is_refused(
    mode: str, encrypted_server: Server, stranger: Authority, tmp_path: Path
) -> None:
    tls = {"mode": mode, "ca": str(stranger.certificate)}
    assert "certificate verify failed" in str(encrypted(reach(encrypted_server, tmp_path, tls=tls)))


def test_without_a_ca_the_system_s_authorities_must_vouch(encrypted_server: Server, tmp_path: Path) -> None:
    assert "certificate verify failed" in str(encrypted(reach(encrypted_server, tmp_path, tls="verify-full")))


@pytest.mark.parametrize(("mode", "wanted"), [("require", True), ("verify-ca", True), ("verify-full", None)])
def test_only_verify_full_looks_at_the_host_s_name(
    mode: str, wanted: Any, encrypted_server: Server, authority: Authority, elsewhere: Proxy, tmp_path: Path
) -> None:
    tls = {"mode": mode, "ca": str(authority.certificate)} if "verify" in mode else mode
    found = encrypted(reach(encrypted_server, tmp_path, tls=tls, host=elsewhere.host, port=str(elsewhere.port)))
    assert (found if wanted else "127.0.0.2" in str(found)) is True


def test_a_server_may_demand_a_certificate_of_its_client(
    encrypted_server: Server, certificate: Certificate, authority: Authority, tmp_path: Path
) -> None:
    who: dict[str, Any] = {"username": CERTIFIED, "password": "secret"}
    demand_certificate(encrypted_server)
    assert encrypted(reach(encrypted_server, tmp_path, **who)) not in {True, False}
    files = {"cert": str(certificate.certificate), "key": str(certificate.key)}
    assert encrypted(reach(encrypted_server, tmp_path, tls=files, **who)) is True
    assert encrypted(reach(encrypted_server, tmp_path, tls={**files, "ca": str(authority.certificate)}, **who)) is True
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.certificate.read_bytes() + certificate.key.read_bytes())
    both.chmod(0o600)
    assert encrypted(reach(encrypted_server, tmp_path, tls={"cert": str(both)}, **who)) is True


def demand_certificate(server: Server) -> None:
    """Create a user who must have a certificate."""
    if server.kind != "postgresql":
        server.create_user(CERTIFIED, "secret")
        server.execute(f"ALTER USER {CERTIFIED}@'%' REQUIRE X509")
        server.execute(f"GRANT ALL ON *.* TO {CERTIFIED}@'%'")
        return
    server.execute(f"CREATE ROLE {CERTIFIED} LOGIN CREATEDB PASSWORD 'secret'")
    assert server.local
    rules = server.local.folder / "data" / "pg_hba.conf"
    rules.write_text(BARRED + rules.read_text())
    with closing(server.client()) as client:
        client.execute("SELECT pg_reload_conf()")
        eventually(lambda: client.execute("SELECT user_name FROM pg_hba_file_rules").fetchone() == ([CERTIFIED],))


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_can_not_be_used_is_named(
    name: str, content: str | None, encrypted_server: Server, certificate: Certificate, tmp_path: Path
) -> None:
    files = {"ca": certificate.authority, "cert": certificate.certificate, "key": certificate.key}
    bad = tmp_path / "bad.pem"
    if content:
        bad.write_text(content)
        bad.chmod(0o600)
    tls = {each: str(path) for each, path in (files | {name: bad}).items()}
    assert str(bad) in str(encrypted(reach(encrypted_server, tmp_path, tls=tls)))


@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_server_without_tls_is_not_spoken_to_in_the_clear(
    mode: str, postgresql: Server, mariadb: Server, authority: Authority, tmp_path: Path
) -> None:
    tls = {"mode": mode, "ca": str(authority.certificate)} if "verify" in mode else mode
    for server in (postgresql, mariadb):
        found = encrypted(reach(server, tmp_path, tls=tls))
        if server.kind == "mariadb" and found is True:
            pytest.skip("this MariaDB makes a certificate of its own")
        assert "SSL" in str(found)
        assert encrypted(reach(server, tmp_path, tls="prefer")) is False
