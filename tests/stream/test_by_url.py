"""What only the general target has: URLs, secrets in them, and databases that it must refuse or find out about."""

import logging
import stat
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import make_url

from api2db import Stream2Sql
from api2db.errors import ConfigurationError, LedgerMovedError, TargetUnavailableError
from api2db.targets.port import LedgerRow, LedgerUpdate
from tests.servers.server import Server
from tests.stream.cases import frame
from tests.stream.databases import COLLECTOR, DATABASE, execute, query, stream_into, table_rows, types, use

SECRET = "s3cr3t-of-the-url"


def by_url(home: Path, url: str, db_name: str = "flights.sqlite", **options: Any) -> Stream2Sql:
    return Stream2Sql(COLLECTOR, db_name, "sqlalchemy", url=url, home=home, **options)


def test_no_message_shows_the_password_of_a_url(
    tmp_path: Path, postgresql: Server, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"postgresql+psycopg://{postgresql.user}:{SECRET}@{postgresql.host}:{postgresql.port}"
    stream = by_url(tmp_path, f"{url}?application_name=x&sslpassword={SECRET}2", "postgres")
    with caplog.at_level(logging.DEBUG):
        assert not stream.connect()
    said = [repr(stream), stream.describe(), stream.identity, repr(vars(stream)), caplog.text, str(stream.status())]
    assert SECRET not in " ".join(said)
    assert "password authentication failed" in caplog.text
    assert SECRET in stream.engine_str


def test_user_and_password_may_stand_in_a_file_and_not_in_the_url(tmp_path: Path, postgresql: Server) -> None:
    use("sqlalchemy_postgresql", _Fixtures(postgresql))  # type: ignore[arg-type] # as much as it needs
    (tmp_path / "AUTH").mkdir()
    (tmp_path / "AUTH" / "pg.json").write_text(
        f'{{"username": "{postgresql.user}", "password": "{postgresql.password}"}}'
    )
    url = f"postgresql+psycopg://{postgresql.host}:{postgresql.port}"
    with by_url(tmp_path, url, DATABASE, auth_path="AUTH/pg.json") as stream:
        stream.stream(frame(1))
    assert [row["id"] for row in table_rows(tmp_path, "postgresql")] == [1]


class _Fixtures:
    def __init__(self, server: Server) -> None:
        self._server = server

    def getfixturevalue(self, _name: str) -> Server:
        return self._server


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "needs url"),
        ("no url with a s3cr3t-of-the-url", "not a URL"),
        ("postgresql+psycopg://me:p@ss:s3cr3t-of-the-url@host", "not a URL"),
        ("postgresql+psycopg://me:p@s3cr3t-of-the-url@host", "second @"),
        ("nowhere://me@host", "no dialect 'nowhere'"),
        ("postgresql+asyncpg://me@host", "asynchronous"),
        ("sqlite:///another.sqlite", "names the database"),
    ],
)
def test_a_url_that_can_not_be_used_says_why(url: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        by_url(tmp_path, url)
    assert SECRET not in str(raised.value)


def test_an_option_that_the_driver_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"does not take what url says.*'colour'"):
        by_url(tmp_path, "mysql+pymysql://me@127.0.0.1:1?colour=red", "shop").connect()


def test_a_url_is_for_the_general_target_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="url is for dialect='sqlalchemy'"):
        Stream2Sql(COLLECTOR, "flights.sqlite", "sqlite", url="sqlite://", home=tmp_path)
    with pytest.raises(ConfigurationError, match="takes no host"):
        by_url(tmp_path, "sqlite://", host="here")


def test_a_file_of_sqlite_is_only_for_its_owner_and_below_the_project(tmp_path: Path) -> None:
    with by_url(tmp_path, "sqlite://") as stream:
        stream.stream(frame(1))
    assert stat.S_IMODE((tmp_path / "flights.sqlite").stat().st_mode) == 0o600
    assert stream.embedded_file == tmp_path / "flights.sqlite"


def test_names_with_the_marks_of_sql_are_kept(tmp_path: Path) -> None:
    odd = ["a:b", "50%", "why?", 'say "x"', "[x]", "`y`", "a::b \\:c"]
    with by_url(tmp_path, "sqlite://", keys=["a:b"]) as stream:
        for number in range(2):
            stream.stream(pd.DataFrame({name: [0, number] for name in odd}))
    assert query(tmp_path, "sqlite", f"SELECT * FROM {COLLECTOR}") == [(0,) * len(odd), (1,) * len(odd)]
    assert list(types(tmp_path, "sqlite")) == odd


def test_a_second_writer_of_the_same_ledger_row_is_noticed(tmp_path: Path) -> None:
    first, second = (by_url(tmp_path, "sqlite://")._target() for _ in range(2))
    for target in (first, second):
        target.connect()
    new, next_one = (LedgerUpdate("me", before, LedgerRow("e", at, 0)) for before, at in ((None, 1), (None, 2)))
    empty = pa.table({})
    first.load(empty, (), new)
    second.close()
    second.connect()
    with pytest.raises(LedgerMovedError):
        second.load(empty, (), next_one)
    with pytest.raises(LedgerMovedError):
        second.load(empty, (), LedgerUpdate("me", LedgerRow("e", 5, 0), LedgerRow("e", 6, 0)))
    assert second.read_position("me") == LedgerRow("e", 1, 0)
    for target in (first, second):
        target.close()


def test_an_unknown_database_that_does_not_roll_back_is_refused_with_the_reason(
    tmp_path: Path, mariadb: Server, caplog: pytest.LogCaptureFixture
) -> None:
    database = mariadb.new_database()
    url = make_url("odd+pymysql://").set(username=mariadb.user, host=mariadb.host, port=mariadb.port)
    url = url.update_query_dict({"init_command": "SET default_storage_engine = MyISAM"})
    stream = Stream2Sql(COLLECTOR, database, "sqlalchemy", password=mariadb.password, url=url, home=tmp_path)
    assert not stream.connect()
    assert "does not roll back" in caplog.text
    assert mariadb.execute("SHOW TABLES", database) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql+psycopg://?autocommit=true", "commits each statement by itself"),
        ("keyless+psycopg://", "two rows with the same primary key"),
    ],
)
def test_a_database_in_which_rows_could_be_doubled_is_refused_with_the_reason(
    tmp_path: Path, postgresql: Server, caplog: pytest.LogCaptureFixture, url: str, says: str
) -> None:
    database = postgresql.new_database()
    there = make_url(url).set(username=postgresql.user, host=postgresql.host, port=postgresql.port)
    stream = Stream2Sql(COLLECTOR, database, "sqlalchemy", password=postgresql.password, url=there, home=tmp_path)
    assert not stream.connect()
    assert says in caplog.text
    assert not postgresql.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'", database)


def test_a_driver_that_does_not_count_changed_rows_is_refused_for_a_known_database_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not by_url(tmp_path, "countless+pysqlite://", str(tmp_path / "some.sqlite")).connect()
    assert "does not tell how many rows" in caplog.text


def test_a_table_on_an_engine_without_transactions_waits_with_the_reason(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use("sqlalchemy_mariadb", request)
    execute(tmp_path, "mariadb", f"CREATE TABLE {COLLECTOR} (id BIGINT, text LONGTEXT) ENGINE=MyISAM")
    stream = stream_into("sqlalchemy_mariadb", tmp_path)
    stream.q.put(frame(1))
    target = stream._target()
    target.connect()
    with pytest.raises(TargetUnavailableError, match="MyISAM, which has no transactions"):
        target.read_position("me")
    target.close()
    assert query(tmp_path, "mariadb", f"SELECT * FROM {COLLECTOR}") == []


def test_a_database_that_another_dialect_has_used_before_gets_the_tables_that_it_lacks(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use("postgresql", request)
    for dialect in ("postgresql", "sqlalchemy_strange"):
        with stream_into(dialect, tmp_path / dialect, table=dialect) as stream:
            stream.q.put(frame(1))
            assert stream.flush(10), stream.status()
    assert [row["id"] for row in table_rows(tmp_path, "postgresql", "sqlalchemy_strange")] == [1]


def test_a_name_that_an_unknown_database_would_cut_off_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    use("sqlalchemy_strange", request)
    with stream_into("sqlalchemy_strange", tmp_path) as stream:
        for number in range(2):
            stream.q.put(pd.DataFrame({"id": [number, 10 + number], "é" * 40: [None, "x"]}))
            assert stream.flush(10), stream.status()
    assert list(types(tmp_path, "sqlalchemy_strange")) == ["id"]
    assert [row["id"] for row in table_rows(tmp_path, "sqlalchemy_strange")] == [0, 1]
    assert stream.status().rows_rejected == 2


@pytest.mark.parametrize("dialect", ["sqlalchemy_sqlite", "sqlalchemy_postgresql", "sqlalchemy_strange"])
def test_a_table_follows_the_data(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    use(dialect, request)
    with stream_into(dialect, tmp_path, keys=["id"]) as stream:
        stream.stream(pd.DataFrame({"id": [1], "n": pd.array([1], "int16")}))
        stream.stream(pd.DataFrame({"id": [2], "n": pd.array([2**40], "int64"), "new": ["x"]}))
        stream.stream(pd.DataFrame({"id": [1], "n": [3]}))
    assert stream.status().rows_rejected == 0
    found = {row["id"]: (row["n"], row["new"]) for row in table_rows(tmp_path, dialect)}
    assert found == {1: (3, None), 2: (2**40, "x")}


def test_a_row_that_a_constraint_refuses_is_set_aside_alone(tmp_path: Path) -> None:
    with by_url(tmp_path, "sqlite://") as stream:
        stream.stream(frame(1))
        execute(tmp_path, "sqlite", f"CREATE UNIQUE INDEX one ON {COLLECTOR} (id)")
        stream.stream(frame(2, 1, 3))
    assert [row["id"] for row in table_rows(tmp_path, "sqlite")] == [1, 2, 3]
    assert stream.status().rows_rejected == 1


def test_the_newest_rows_are_found_by_a_column(tmp_path: Path) -> None:
    with by_url(tmp_path, "sqlite://") as stream:
        stream.stream(frame(1, 3, 2))
        assert list(stream.head(2, by="id")["id"]) == [3, 2]
