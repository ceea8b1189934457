"""The databases that the suites write to, each read by its own client: our code does not read back what it wrote."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pymysql
import pytest
from sqlalchemy import Engine, MetaData, create_engine, make_url
from sqlalchemy.dialects import registry
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from api2db import Stream2Sql
from tests.servers.server import Server

Make = Callable[..., Stream2Sql]
COLLECTOR = "flights"
DATABASES = {"duckdb": "flights.duckdb", "sqlite": "flights.sqlite"}
SERVERS = ("postgresql", "mariadb", "mysql")
DATABASE = "flights of tests"
DIALECTS = (*DATABASES, *SERVERS)
# The general target on databases that the others have too; "strange" is PostgreSQL under a name that nobody knows.
BY_SQLALCHEMY = "sqlalchemy_"
LIVE_URLS = {"mssql": "API2DB_TEST_MSSQL_URL", "oracle": "API2DB_TEST_ORACLE_URL"}
GENERAL = tuple(f"{BY_SQLALCHEMY}{name}" for name in ("sqlite", *SERVERS, "strange"))
_URLS = {
    "sqlite": "sqlite://",
    "postgresql": "postgresql+psycopg://",
    "mariadb": "mariadb+pymysql://",
    "mysql": "mysql+pymysql://",
    "strange": "strange+psycopg://",
}
_ABSENT = (
    duckdb.CatalogException,
    sqlite3.OperationalError,
    psycopg.errors.UndefinedTable,
    psycopg.OperationalError,
    pymysql.ProgrammingError,
    pymysql.OperationalError,
    DatabaseError,
)
_ABSENT_SAYS = (
    "does not exist",
    "no such table",
    "doesn't exist",
    "Unknown database",
    "Invalid object name",
    "ORA-00942",
)
_COLUMNS = {
    "duckdb": "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = '{table}' ORDER BY column_index",
    "sqlite": "SELECT name, type FROM pragma_table_info('{table}') ORDER BY cid",
    "postgresql": "SELECT column_name, data_type FROM information_schema.columns"
    " WHERE table_name = '{table}' ORDER BY ordinal_position",
}
_MYSQL_COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = DATABASE() AND table_name = '{table}' ORDER BY ordinal_position"
)
_running: dict[str, Server] = {}
registry.register("strange.psycopg", "tests.stream.strange", "StrangeDialect")
registry.register("odd.pymysql", "tests.stream.strange", "OddDialect")
registry.register("keyless.psycopg", "tests.stream.strange", "KeylessDialect")
registry.register("countless.pysqlite", "tests.stream.strange", "CountlessDialect")


def client_of(dialect: str) -> str:
    """The dialect whose client reads what a target has written."""
    base = dialect.removeprefix(BY_SQLALCHEMY)
    return "postgresql" if base == "strange" else base


def use(dialect: str, request: pytest.FixtureRequest) -> str:
    """Make a dialect ready for one test: its server runs, and the database of the tests is empty."""
    client = client_of(dialect)
    if client in LIVE_URLS:
        _empty_live(client)
    if client in SERVERS:
        _running[client] = request.getfixturevalue(client)
        _empty(_running[client])
        if client != dialect:  # which creates no database
            _make(_running[client])
    return dialect


def running(dialect: str) -> Server:
    """Return the server of a dialect that is in use."""
    return _running[client_of(dialect)]


def target_of(dialect: str) -> dict[str, Any]:
    """Return the arguments of Stream2Sql that name the database."""
    if dialect.startswith(BY_SQLALCHEMY):
        return _by_url(dialect.removeprefix(BY_SQLALCHEMY))
    if dialect in DATABASES:
        return {"db_name": DATABASES[dialect], "dialect": dialect}
    server = running(dialect)
    who = {"username": server.user, "password": server.password, "host": server.host, "port": str(server.port)}
    return {"db_name": DATABASE, "dialect": dialect, **who}


def _by_url(name: str) -> dict[str, Any]:
    said: dict[str, Any] = {"dialect": "sqlalchemy"}
    if name in LIVE_URLS:
        url = make_url(os.environ[LIVE_URLS[name]])
        return {**said, "db_name": url.database or "", "url": url}
    url = make_url(_URLS[name])
    if name in DATABASES:
        return {**said, "db_name": DATABASES[name], "url": url}
    server = running(name)
    url = url.set(username=server.user, host=server.host, port=server.port)
    return {**said, "db_name": DATABASE, "url": url, "password": server.password}


def stream_into(dialect: str, home: Path, **options: Any) -> Stream2Sql:
    return Stream2Sql(**{"name": COLLECTOR, "home": home, **target_of(dialect), **options})


def query(home: Path, dialect: str, sql: str) -> list[tuple[Any, ...]]:
    """Query with the database's own client; return nothing if there is no such file, database or table."""
    dialect = client_of(dialect)
    if dialect in DATABASES and not (home / DATABASES[dialect]).exists():
        return []
    try:
        return _ask(home, dialect, sql)
    except _ABSENT as error:
        if any(said in str(error) for said in _ABSENT_SAYS):
            return []
        raise


def execute(home: Path, dialect: str, *statements: str) -> None:
    """Change the database from outside; create it if it is missing."""
    dialect = client_of(dialect)
    if dialect in SERVERS:
        _make(running(dialect))
    for statement in statements:
        _ask(home, dialect, statement)


def table_rows(home: Path, dialect: str, table: str = COLLECTOR) -> list[dict[str, Any]]:
    names = list(types(home, dialect, table))
    return [dict(zip(names, row, strict=True)) for row in query(home, dialect, f'SELECT * FROM "{table}"')]


def types(home: Path, dialect: str, table: str = COLLECTOR) -> dict[str, str]:
    """Return the columns of a table and their types, from the database's catalogue."""
    found = query(
        home, dialect, _COLUMNS.get(client_of(dialect), _MYSQL_COLUMNS).format(table=table.replace("'", "''"))
    )
    return {str(name): str(type_) for name, type_ in found}


def _live_engine(name: str) -> Engine:
    return create_engine(os.environ[LIVE_URLS[name]], poolclass=NullPool)


def _empty_live(name: str) -> None:
    """Drop all tables of the user; skip the test if the environment names no server."""
    if LIVE_URLS[name] not in os.environ:
        pytest.skip(f"{LIVE_URLS[name]} names no server")
    engine = _live_engine(name)
    everything = MetaData()
    everything.reflect(engine)
    everything.drop_all(engine)


def _ask_live(name: str, sql: str) -> list[tuple[Any, ...]]:
    with _live_engine(name).begin() as connection:
        result = connection.exec_driver_sql(sql)
        return [tuple(row) for row in result] if result.returns_rows else []


def _ask(home: Path, dialect: str, sql: str) -> list[tuple[Any, ...]]:
    if dialect in LIVE_URLS:
        return _ask_live(dialect, sql)
    if dialect in SERVERS:
        return _ask_server(running(dialect), sql)
    library: Any = duckdb if dialect == "duckdb" else sqlite3
    with closing(library.connect(str(home / DATABASES[dialect]))) as connection:
        rows = [tuple(row) for row in connection.execute(sql).fetchall()]
        if dialect == "sqlite":
            connection.commit()
        return rows


def _ask_server(server: Server, sql: str) -> list[tuple[Any, ...]]:
    options = (
        {} if server.kind == "postgresql" else {"sql_mode": "ANSI_QUOTES", "init_command": "SET time_zone='+00:00'"}
    )
    with closing(server.client(DATABASE, **options)) as client, client.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def _make(server: Server) -> None:
    if server.kind == "postgresql":
        if not server.execute(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"):
            server.create_database(DATABASE)
    else:
        server.execute(f"CREATE DATABASE IF NOT EXISTS `{DATABASE}` CHARACTER SET utf8mb4")


def _empty(server: Server) -> None:
    """Empty the database. Creating a PostgreSQL database is slow, so the first stream does that once."""
    if server.kind != "postgresql":
        server.execute(f"DROP DATABASE IF EXISTS `{DATABASE}`")
    elif server.execute(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"):
        with closing(server.client(DATABASE)) as client:
            client.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
