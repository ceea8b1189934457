"""The databases that a Stream2Sql writes to: embedded files, and databases on servers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, event
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import NullPool

from api2db.delivery import Group
from api2db.disk.folders import relative_to_home
from api2db.errors import BatchRefusedError, ConfigurationError
from api2db.stream._credentials import Credentials, Login
from api2db.targets.duckdb import DuckdbDatabase, duckdb_engine
from api2db.targets.mysql import MysqlDatabase, mysql_arguments
from api2db.targets.postgresql import PostgresqlDatabase, postgresql_arguments
from api2db.targets.server import Password, Server
from api2db.targets.sql import Database
from api2db.targets.sql.port import quote
from api2db.targets.sqlalchemy import Address, SqlalchemyDatabase, parsed_url
from api2db.targets.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from sqlalchemy import Engine

EMBEDDED = {"duckdb": "duckdb", "sqlite": "sqlite"}
EXPERIMENTAL = {"microsoft_sql": "mssql+mssqlpython", "oracle": "oracle+oracledb"}
SERVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "microsoft_sql": 1433, "oracle": 1521}
# Of Microsoft's driver. By itself it refuses a certificate that no authority has signed.
_ENCRYPTION = {
    "disable": {"Encrypt": "optional", "TrustServerCertificate": "yes"},
    "prefer": {"Encrypt": "optional", "TrustServerCertificate": "yes"},
    "require": {"Encrypt": "yes", "TrustServerCertificate": "yes"},
    "verify-full": {"Encrypt": "yes", "TrustServerCertificate": "no"},
}


@dataclass(frozen=True, slots=True)
class _Embedded:
    """A database file. See ``DatabaseLocation``."""

    dialect: str
    path: Path
    home: Path
    schema: str | None = None

    @property
    def driver(self) -> str:
        return EMBEDDED[self.dialect]

    @property
    def kind_of_server(self) -> str:
        return ""

    @property
    def url(self) -> str:
        return f"{self.driver}:///{self.path}"

    @property
    def name(self) -> str:
        return f"{self.dialect}:{relative_to_home(self.path, self.home)}{_below(self.schema)}"

    @property
    def file(self) -> Path | None:
        return self.path.resolve()

    @property
    def group(self) -> Group:
        # SQLite has one writer at a time, and does not queue those that wait.
        return Group(self.file, 1) if self.dialect == "sqlite" else Group(self.file)

    def database(self, *, keyed: bool = False, creates: bool = True) -> Database:
        path = self.path.resolve()
        return (
            DuckdbDatabase(path, keyed=keyed, schema=self.schema) if self.dialect == "duckdb" else SqliteDatabase(path)
        )

    def engine(self) -> "Engine":
        if self.dialect == "duckdb":
            return duckdb_engine(self.url, self.path.resolve())
        return create_engine(self.url, poolclass=NullPool)


@dataclass(frozen=True, slots=True)
class _OnServer:
    """A database on a server. See ``DatabaseLocation``."""

    dialect: str
    kind: str
    server: Server
    max_connections: int
    schema: str | None = None

    @property
    def driver(self) -> str:
        return SERVERS[self.kind]

    @property
    def kind_of_server(self) -> str:
        return self.kind

    @property
    def url(self) -> str:
        return self._url().set(password=self.server.password()).render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        return f"{self.dialect}:{self.server.place}{_below(self.schema)}"

    @property
    def file(self) -> Path | None:
        return None

    @property
    def group(self) -> Group:
        return Group((self.kind, self.server), self.max_connections)

    def database(self, *, keyed: bool = False, creates: bool = True) -> Database:
        if self.kind == "postgresql":
            return PostgresqlDatabase(self.server, self.max_connections, self.schema, creates=creates)
        return MysqlDatabase(self.server, self.max_connections, creates=creates)

    def engine(self) -> "Engine":
        """Make an engine that connects as the stream does and asks for the password at each connect."""
        engine = create_engine(self._url(), pool_pre_ping=True)
        event.listen(engine, "do_connect", self._reach)
        return engine

    def _reach(self, _dialect: Any, _record: Any, _arguments: Any, keywords: dict[str, Any]) -> None:
        if self.kind == "postgresql":
            keywords.update(postgresql_arguments(self.server))
        else:
            keywords.update(mysql_arguments(self.server, self.server.database))

    def _url(self) -> URL:
        server = self.server
        return URL.create(self.driver, server.username, None, server.host, server.port, server.database)


@dataclass(frozen=True, slots=True)
class _ByUrl:
    """A database that SQLAlchemy reaches. See ``DatabaseLocation``."""

    address: Address
    max_connections: int
    home: Path
    schema: str | None = None
    dialect: str = "sqlalchemy"

    @property
    def driver(self) -> str:
        return self.address.url.drivername

    @property
    def kind_of_server(self) -> str:
        return "" if self.file is not None else self.address.url.get_backend_name()

    @property
    def url(self) -> str:
        return self.address.full().render_as_string(hide_password=False)

    @property
    def name(self) -> str:
        place = self.address.place if self.file is None else f"sqlite:{relative_to_home(self.file, self.home)}"
        return f"{self.dialect}:{place}{_below(self.schema)}"

    @property
    def file(self) -> Path | None:
        url = self.address.url
        return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None

    @property
    def group(self) -> Group:
        return Group(self.address, self.max_connections) if self.file is None else Group(self.file, 1)

    def database(self, *, keyed: bool = False, creates: bool = True) -> Database:
        return SqlalchemyDatabase(self.address, self.max_connections, self.schema, creates=creates)

    def engine(self) -> "Engine":
        """Make an engine that asks for the password at each connect."""
        engine = create_engine(self.address.url, **({} if self.file is None else {"poolclass": NullPool}))
        event.listen(engine, "do_connect", self._reach)
        return engine

    def _reach(self, dialect: Any, _record: Any, _arguments: Any, _keywords: dict[str, Any]) -> Any:
        arguments, keywords = dialect.create_connect_args(self.address.full())
        return dialect.connect(*arguments, **keywords)


DatabaseLocation = _Embedded | _OnServer | _ByUrl
"""A database as a stream uses it.

``driver`` and ``url`` are in SQLAlchemy's terms; ``url`` has the password. ``name`` is part of the stream's identity
and has no secret. ``kind_of_server`` is empty for a file. ``file`` is the file of an embedded database. ``group`` has
the streams that write to the database. ``database`` makes the target; ``keyed`` is for rows that are merged by key,
``creates=False`` for reading only. ``engine`` makes a SQLAlchemy engine.
"""


def embedded(dialect: str, db_name: str, schema: str | None, home: Path) -> DatabaseLocation:
    """Describe a database file; a relative path is below the project's folder.

    Raises:
        ConfigurationError: The path can't be a file, or the database has no schemas.
    """
    if not db_name or db_name == ":memory:" or "\0" in db_name:
        raise ConfigurationError(f"db_name must be the path of a database file, not {db_name!r}")
    if schema is not None and dialect == "sqlite":
        raise ConfigurationError("sqlite has no schemas, so it takes no table_schema; drop it, or use another db_name")
    if schema is not None:
        _check_name(quote, "table_schema", schema)
    is_default = schema is not None and schema.lower() == "main"
    return _Embedded(dialect, home / db_name, home, None if is_default else schema)


def on_server(
    dialect: str, db_name: str, schema: str | None, table: str, who: Credentials, max_connections: int
) -> DatabaseLocation:
    """Describe a database on a server; MySQL and MariaDB call a schema a database.

    Raises:
        ConfigurationError: The engine of ``amazon_aurora`` is unknown, or the server can't hold a database, schema or
            table of that name.
    """
    if not db_name or "\0" in db_name:
        raise ConfigurationError(f"db_name must be the name of a database, not {db_name!r}")
    kind = _engine_of_aurora(who) if dialect == "amazon_aurora" else dialect
    port = int(who.port or _PORTS[kind])
    has_schemas = kind == "postgresql"
    database = db_name if schema is None or has_schemas else schema
    server = Server(who.host, port, who.username, database, who.password_at(port), who.tls)
    place = _OnServer(dialect, kind, server, max_connections, schema if has_schemas else None)
    names = {"db_name": db_name, "table": table} | ({} if schema is None else {"table_schema": schema})
    for what, name in names.items():
        _check_name(place.database().dialect.quote, what, name)
    return place


def by_url(
    url: str | URL | None, db_name: str, schema: str | None, who: Login, max_connections: int, home: Path
) -> _ByUrl:
    """Describe a database by its URL, in which user, password and database may be missing.

    Raises:
        ConfigurationError: It is no URL, no dialect of SQLAlchemy is installed for it, its driver is asynchronous, or
            it names another database than ``db_name``.
    """
    parsed = _parsed(url)
    if parsed.database and parsed.database != db_name:
        raise ConfigurationError(f"url names the database {parsed.database!r}, and db_name is {db_name!r}; name one")
    if parsed.get_backend_name() == "sqlite":
        if not db_name or db_name == ":memory:" or "\0" in db_name:
            raise ConfigurationError(f"db_name must be the path of a database file, not {db_name!r}")
        database = str((home / db_name).resolve())
    else:
        database = db_name
    said = parsed.password
    password = who.password or (Password(lambda: said, said) if said else None)
    full = parsed.set(database=database, username=who.username or parsed.username)
    bare = URL.create(full.drivername, full.username, None, full.host, full.port, full.database, full.query)
    try:
        place = _ByUrl(Address(bare, password), max_connections, home, schema)
        place.database()
    except NoSuchModuleError:
        raise ConfigurationError(
            f"SQLAlchemy has no dialect {parsed.drivername!r}; install the package that has it, or correct url"
        ) from None
    return place


def of_vendor(
    dialect: str, db_name: str, schema: str | None, who: Credentials, max_connections: int, home: Path
) -> DatabaseLocation:
    """Describe a database of SQL Server or Oracle, whose ``db_name`` is a service.

    Raises:
        ConfigurationError: ``db_name`` is no name, or the driver can't encrypt the connection as asked.
    """
    if not db_name or "\0" in db_name:
        raise ConfigurationError(f"db_name must be the name of a database, not {db_name!r}")
    port, tls = int(who.port or _PORTS[dialect]), who.tls
    is_oracle = dialect == "oracle"
    known = ("disable", "prefer") if is_oracle else tuple(_ENCRYPTION)
    if tls.mode not in known or tls.ca or tls.cert or tls.key:
        raise ConfigurationError(f"for {dialect}, tls can be {', '.join(known)}, without files; see its page for more")
    options = {"service_name": db_name} if is_oracle else _ENCRYPTION[tls.mode]
    database = None if is_oracle else db_name
    url = URL.create(EXPERIMENTAL[dialect], who.username, None, who.host, port, database, options)
    return _ByUrl(Address(url, who.password_at(port)), max_connections, home, schema, dialect)


def _parsed(url: str | URL | None) -> URL:
    if not url:
        raise ConfigurationError("dialect='sqlalchemy' needs url='…', such as 'cockroachdb://host:26257'")
    return parsed_url(url)


def _check_name(quote: Callable[[str], str], what: str, name: str) -> None:
    try:
        quote(name)
    except BatchRefusedError as error:
        raise ConfigurationError(f"{what}: {error}") from None


def _below(schema: str | None) -> str:
    return "" if schema is None else f"/{schema}"


def _engine_of_aurora(who: Credentials) -> str:
    by_port = {str(port): kind for kind, port in _PORTS.items() if kind != "mariadb"}
    kind = who.engine or by_port.get(who.port)
    if kind in {"postgresql", "mysql"}:
        return str(kind)
    raise ConfigurationError("say which engine the Aurora cluster has: engine='postgresql' or 'mysql', or its port")
