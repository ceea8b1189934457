"""Credentials come from arguments or from a file, and no secret appears in anything that a person sees."""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from api2db import Stream2Omnisci, Stream2Sql
from api2db.errors import ConfigurationError
from api2db.stream._credentials import Credentials, credentials, storage_options

CANARY = "canary-7c1f"
COMPLETE = {"username": "me", "password": CANARY, "host": "there"}


def written(home: Path, content: Any, name: str = "AUTH/sql.json") -> str:
    path = home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return name


def read(home: Path, content: Any, **given: Any) -> Credentials:
    return credentials(given, written(home, content), home)


def stream(home: Path, dialect: str = "postgresql", **options: Any) -> Stream2Sql:
    return Stream2Sql("flights", "db", dialect, home=home, **options)


def refusal(home: Path, **options: Any) -> str:
    """Return the text of the ValueError, after checking that no secret is in it."""
    with pytest.raises(ValueError, match=r".") as caught:
        stream(home, **options)
    assert isinstance(caught.value, ConfigurationError)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def test_a_file_may_have_every_field(tmp_path: Path) -> None:
    whole = {"port": 5433, "tls": {"mode": "verify-full", "ca": "AUTH/ca.pem"}, "engine": "mysql", "iam": False}
    found = read(tmp_path, COMPLETE | whole | {"region": "eu-west-1"})
    assert (found.username, found.host, found.port, found.engine) == ("me", "there", "5433", "mysql")
    assert found.password_at(5433)() == CANARY
    assert (found.tls.mode, found.tls.ca) == ("verify-full", str(tmp_path / "AUTH/ca.pem"))
    assert CANARY not in repr(found)


def test_a_value_of_a_file_may_be_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DB_USER": "me", "db_pass1": "$a$b", "DB_HOST": "there", "DB_CA": "ca.pem"}.items():
        monkeypatch.setenv(name, value)
    wanted = {"username": "$DB_USER", "password": "$db_pass1", "host": "$DB_HOST", "tls": {"ca": "$DB_CA"}}
    found = read(tmp_path, wanted)
    assert (found.username, found.password_at(1)(), found.host) == ("me", "$a$b", "there")
    assert found.tls.ca == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(("said", "meant"), [("$$ecret", "$ecret"), ("$$", "$"), ("$1.50", "$1.50"), ("a$b", "a$b")])
def test_a_password_may_begin_with_a_dollar(said: Any, meant: str, tmp_path: Path) -> None:
    assert read(tmp_path, COMPLETE | {"password": said}).password_at(1)() == meant


def test_an_argument_counts_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, COMPLETE | {"port": "1", "tls": "disable"})
    made = stream(tmp_path, auth_path=path, host="elsewhere", port="2", tls="require")
    assert (made.username, made.host) == ("me", "elsewhere")
    assert "elsewhere:2/db" in made.identity


def test_a_relative_path_is_below_the_project_and_another_anywhere(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    made = stream(home, auth_path=written(home, COMPLETE))
    assert made.engine_str == f"postgresql+psycopg://me:{CANARY}@there:5432/db"
    assert stream(home, auth_path=str(other / written(other, COMPLETE, "x.json"))).host == "there"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not valid JSON, line 1; correct it"),
        (f'{{"password": "{CANARY}" "host"}}', "is not valid JSON, line 1; correct it"),
        ([CANARY], "not a JSON object"),
        (CANARY, "is not valid JSON"),
        (COMPLETE | {"passwrd": CANARY}, "it has passwrd"),
        (COMPLETE | {"password": ""}, "has no password"),
        (COMPLETE | {"password": 5}, "password must be text; put it in quotes"),
        ({"password": CANARY}, "has no username, host"),
        (COMPLETE | {"username": "$NOT_SET_HERE"}, "NOT_SET_HERE, which is not set"),
        (COMPLETE | {"username": [CANARY], "host": 5}, "username, host must be text"),
        (COMPLETE | {"username": True}, "username must be text"),
        (COMPLETE | {"password": [CANARY]}, "password must be text"),
        (COMPLETE | {"password": {"is": CANARY}, "iam": True}, "password must be text"),
        (COMPLETE | {"password": f"{CANARY}\0"}, "password has a NUL"),
        (COMPLETE | {"host": "there\0"}, "host has a NUL"),
        (COMPLETE | {"port": "5432x"}, "port must be a number"),
        (COMPLETE | {"port": "99999"}, "port must be a number from 1 to 65535"),
        (COMPLETE | {"tls": "safe"}, "disable, prefer, require, verify-ca, verify-full"),
        (COMPLETE | {"tls": {"mode": "require", "sslca": "x"}}, "mode, ca, cert and key"),
        (COMPLETE | {"tls": 1}, "mode, ca, cert and key"),
        (COMPLETE | {"iam": "perhaps"}, "iam must be true or false"),
    ],
    ids=str,
)
def test_a_file_that_can_not_be_used_is_a_value_error_that_says_why(content: Any, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, auth_path=written(tmp_path, content))


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "account_key", "credential", "token", "password"])
def test_a_secret_that_begins_with_a_dollar_is_not_shown_as_a_variable(name: str, tmp_path: Path) -> None:
    secret = CANARY.replace("-", "_")
    with pytest.raises(ConfigurationError, match=f"takes {name} from the environment variable which") as caught:
        storage_options(None, written(tmp_path, {name: f"${secret}"}), tmp_path)
    assert secret not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("name", ["username", "password", "host"])
@pytest.mark.parametrize("made", [Stream2Sql, Stream2Omnisci])
def test_an_argument_that_is_no_text_is_a_value_error_that_does_not_show_it(
    made: Any, name: str, tmp_path: Path
) -> None:
    options = COMPLETE | {name: [CANARY]} | ({"dialect": "postgresql"} if made is Stream2Sql else {})
    with pytest.raises(ValueError, match=f"^{name} must be text; put it in quotes$") as caught:
        made("flights", "db", home=tmp_path, **options)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("port", ["5432x", "0", "65536", "²", -1])
@pytest.mark.parametrize("made", [Stream2Sql, Stream2Omnisci])
def test_a_port_that_no_server_can_have_is_refused(made: Any, port: object, tmp_path: Path) -> None:
    options = COMPLETE | {"port": port} | ({"dialect": "postgresql"} if made is Stream2Sql else {})
    with pytest.raises(ConfigurationError, match="port must be a number from 1 to 65535"):
        made("flights", "db", home=tmp_path, **options)


@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")],
    ids=["missing", "a folder", "no UTF-8"],
)
def test_a_file_that_can_not_be_read_is_a_value_error(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "auth.json")
    assert str(tmp_path / "auth.json") in refusal(tmp_path, auth_path="auth.json")


def test_a_password_that_looks_like_a_variable_is_not_told(tmp_path: Path) -> None:
    said = refusal(tmp_path, auth_path=written(tmp_path, COMPLETE | {"password": f"${CANARY.replace('-', '_')}"}))
    assert "write $$" in said
    assert CANARY.replace("-", "_") not in said


@pytest.mark.parametrize("name", ["username", "password", "host"])
def test_an_argument_with_a_nul_is_refused(name: str, tmp_path: Path) -> None:
    given = COMPLETE | {name: f"{CANARY}\0"}
    assert f"{name} has a NUL character" in refusal(tmp_path, **given)


@pytest.mark.parametrize("missing", ["username", "password", "host"])
@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb"])
def test_without_a_file_username_password_and_host_are_needed(dialect: str, missing: str, tmp_path: Path) -> None:
    given = {name: value for name, value in COMPLETE.items() if name != missing}
    assert f"give {missing}" in refusal(tmp_path, dialect=dialect, **given)


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ({"mode": "require", "ca": "x"}, "verify-ca"),
        ({"mode": "prefer", "cert": "x"}, "require"),
        ({"mode": "disable", "cert": "x", "key": "y"}, "require"),
        ({"key": "y"}, "cert"),
        ("verify-ca", "ca"),
        ({"mode": "never"}, "one of disable"),
    ],
    ids=str,
)
def test_options_of_tls_that_would_look_safe_and_not_be_are_refused(tls: Any, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, tls=tls, **COMPLETE)


def test_what_tls_is_without_a_mode_follows_from_the_files(tmp_path: Path) -> None:
    said = [read(tmp_path, COMPLETE | {"tls": tls}).tls.mode for tls in (None, {}, {"ca": "x"}, {"cert": "x"})]
    assert said == ["prefer", "prefer", "verify-full", "require"]


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_no_password_is_in_what_a_stream_shows_of_itself(dialect: str, tmp_path: Path) -> None:
    made = stream(tmp_path, dialect, **COMPLETE)
    shown = [repr(made), str(made), repr(vars(made)), made.log_str, made.describe(), made.identity, str(made.status())]
    shown += [repr(value) for value in vars(made).values()]
    assert not [each for each in shown if CANARY in each]
    assert dialect == "sqlite" or CANARY in made.engine_str


def test_the_usual_ports_are_the_servers_own(tmp_path: Path) -> None:
    ports = {dialect: stream(tmp_path, dialect, **COMPLETE).identity for dialect in ("postgresql", "mysql", "mariadb")}
    assert [("5432" in ports["postgresql"]), "3306" in ports["mysql"], "3306" in ports["mariadb"]] == [True] * 3
