"""A database that SQLAlchemy reaches: its connections, transactions, errors, and changes of its tables."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from api2db.disk.atomic import make_folders
from api2db.errors import (
    BatchRefusedError,
    ConfigurationError,
    ConnectionBrokenError,
    LedgerMovedError,
    MissingExtraError,
    TargetError,
    TargetUnavailableError,
)
from api2db.targets.port import Column
from api2db.targets.sql import CHANGES_TABLE, LEDGER_TABLE, MAX_CONNECTIONS, NOTES_TABLE, Database, Session
from api2db.targets.sql.pool import IDLE_S, Connections
from api2db.targets.sql.port import Dialect, NoDatabaseError, unique_index
from api2db.targets.sqlalchemy._address import Address
from api2db.targets.sqlalchemy._known import MARIADB_BACKEND, MYSQL_BACKEND, POSTGRESQL_BACKEND, SQLITE_BACKEND
from api2db.targets.sqlalchemy._other import keeps_moments, other_backend, require_one_writer
from api2db.targets.sqlalchemy._session import Learnt, SqlalchemySession
from api2db.targets.sqlalchemy._vendors import MICROSOFT_SQL_BACKEND, ORACLE_BACKEND
from api2db.targets.sqlalchemy.backend import Backend, quote_in, update_by_subqueries

logger = logging.getLogger(__name__)
KNOWN = {
    "postgresql": POSTGRESQL_BACKEND,
    "mysql": MYSQL_BACKEND,
    "mariadb": MARIADB_BACKEND,
    "sqlite": SQLITE_BACKEND,
}
EXPERIMENTAL = {"mssql": MICROSOFT_SQL_BACKEND, "oracle": ORACLE_BACKEND}
_OF_NAME = {**KNOWN, **EXPERIMENTAL}
_EXTRAS = {"mssql+mssqlpython": ("mssql-python", "mssql"), "oracle+oracledb": ("oracledb", "oracle")}
_SPARE = "api2db_spare"  # a table needs a column at all times
_NONE: Mapping[str, Any] = MappingProxyType({})


class SqlalchemyDatabase(Database):
    """A database, used by connections of a pool. The database itself must exist, except a file of SQLite.

    Args:
        schema: The schema of the table and of our own tables, created if it is missing; None: the connection's.
        creates: Whether what is missing is created.
    """

    def __init__(
        self,
        address: Address,
        max_connections: int = MAX_CONNECTIONS,
        schema: str | None = None,
        *,
        creates: bool = True,
    ) -> None:
        self._address = address
        self._schema = schema
        self._creates = creates
        self._opener = _Opener(address, creates=creates)
        self._connections = Connections(self._opener, address, max_connections)
        self._learnt = Learnt()
        kind = address.url.get_dialect()
        if kind.is_async:
            raise ConfigurationError(f"{address.url.drivername} is an asynchronous driver; name another one in url")
        self._backend = _OF_NAME.get(address.url.get_backend_name()) or other_backend(kind(), keeps_moments=True)
        self._sql = self._dialect(kind())

    @property
    def dialect(self) -> Dialect:
        return self._sql

    @property
    def backend(self) -> Backend:
        """What is special about the database."""
        return self._backend

    def connect(self) -> None:
        if not self._connections.reached:
            self._connections.reach(self._look_at)

    def close(self) -> None:
        self._learnt = Learnt()
        self._connections.leave()

    def end_waiting(self) -> None:
        self._connections.end_waiting()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        self.connect()
        with self._connections.lent() as connection, self._translating(), connection.begin():
            for statement in self._backend.on_begin:
                connection.exec_driver_sql(statement)
            yield SqlalchemySession(
                connection, self._backend, self.dialect, self._schema, self._learnt, self._run_apart
            )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with self.transaction() as session:
            yield session

    def _look_at(self, connection: sa.Connection) -> None:
        """Learn what the server is, and try out one that is unknown."""
        with self._translating():
            require_one_writer(connection)
            name = connection.dialect.name
            is_mariadb = name == "mysql" and getattr(connection.dialect, "is_mariadb", False)
            known = _OF_NAME.get("mariadb" if is_mariadb else name)
            self._backend = known or other_backend(
                connection.dialect, keeps_moments=not self._creates or keeps_moments(connection)
            )
            self._sql = self._dialect(connection.dialect)
            self._make_schema(connection)

    def _make_schema(self, connection: sa.Connection) -> None:
        with connection.begin():
            if self._schema is None or sa.inspect(connection).has_schema(self._schema):
                return
            if not self._creates:
                raise NoDatabaseError(f"{self._address.place} has no schema {self._schema}")
            if not self._backend.creates_schemas:
                raise TargetUnavailableError(f"{self._address.place} has no schema {self._schema}; create it")
            connection.execute(sa.schema.CreateSchema(self._schema, if_not_exists=True))
            logger.info("the schema %s was created", self._schema)

    def _dialect(self, engine: sa.Dialect) -> Dialect:
        quote = self._backend.dialect.get("quote") or quote_in(engine)

        def table(name: str) -> str:
            return str(quote(name)) if self._schema is None else f"{quote(self._schema)}.{quote(name)}"

        usual: dict[str, Any] = {
            "types": self._backend.types,
            "type_of": self._backend.type_of,
            "quote": quote,
            "check_column_name": quote,
            "table": table,
            "insert_ignore": str,
            "add_column": "ADD",
            "update_from": update_by_subqueries,
            "create_table": _create_table,
            "key_index": partial(_key_index, quote),
            "replacement": lambda _old, _wanted: None,  # DDL may commit, so that readers would see an empty table
            "drop_surplus": self._drop_surplus,
            "limited": partial(_limited, engine),
            "has_notes": self._backend.has_notes,
        }
        fields = {**usual, **self._backend.dialect}
        return Dialect(**{**fields, "check_column_name": partial(_check_column_name, fields["check_column_name"])})

    def _run_apart(self, statements: Sequence[str]) -> None:
        connection = self._opener.open()
        try:
            for statement in statements:
                with connection.begin():
                    connection.execute(sa.text(statement.replace(":", "\\:")))
        finally:
            connection.close()

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        raise AssertionError("the dialect has no replacement")

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        """Alter the type; where types have notes, a column without values is created again instead."""
        quoted, name = self.dialect.table(table), self.dialect.quote(column.name)
        if wider.declared == column.declared:
            return wider
        self._check_definition(_ours(session), table, column)
        is_empty = session.rows(f"SELECT count({name}) FROM {quoted}") == [(0,)]
        if is_empty and self._backend.has_notes and column.name not in _ours(session).indexed(table):
            session.run(f"ALTER TABLE {quoted} ADD {self.dialect.quote(_SPARE)} {wider.declared}")
            session.run(f"ALTER TABLE {quoted} DROP COLUMN {name}")
            session.run(f"ALTER TABLE {quoted} ADD {name} {wider.declared}")
            session.run(f"ALTER TABLE {quoted} DROP COLUMN {self.dialect.quote(_SPARE)}")
        else:
            self._retype(session, self._backend.retype(quoted, name, column, wider))
        session.note(table, [(column.name, wider.declared)])
        return next((found for found in session.columns(table) or [] if found.name == column.name), wider)

    def _retype(self, session: Session, statements: Sequence[str]) -> None:
        """A statement that an unknown database does not have is no reason to wait."""
        try:
            for statement in statements:
                session.run(statement)
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated or not self._backend.by_sqlalchemy:
                raise
            said = self._address.without_secret(error.orig)
            raise BatchRefusedError(f"the database does not change its type: {said}; widen it yourself") from None

    def _check_definition(self, session: SqlalchemySession, table: str, column: Column) -> None:
        """Refuse a column whose definition has more than a type, which a change of the type might lose."""
        found: Any = next((each for each in session.reflected(table) if each["name"] == column.name), {})
        is_more = not found.get("nullable", True) or found.get("default") is not None or found.get("identity")
        if is_more or column.fills:
            raise BatchRefusedError("its definition has more than a type, which would be lost; widen it yourself")

    def _drop_surplus(self, session: Session, table: str, surplus: Sequence[str]) -> Sequence[str]:
        """Drop columns that no index has; the others stay."""
        kept = [name for name in surplus if name in _ours(session).indexed(table)]
        for name in surplus:
            if name not in kept:
                session.run(f"ALTER TABLE {self.dialect.table(table)} DROP COLUMN {self.dialect.quote(name)}")
        return kept

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise self._translated(error) from None
        except sa.exc.StatementError as error:  # a value that SQLAlchemy's type does not take
            raise BatchRefusedError(f"a value can't be sent to the database: {error.orig}") from None
        except sa.exc.SQLAlchemyError as error:
            raise TargetUnavailableError(self._address.without_secret(error)) from None

    def _translated(self, error: sa.exc.DBAPIError) -> TargetError:
        said = self._address.without_secret(error.orig)
        if error.connection_invalidated:
            return ConnectionBrokenError(f"the connection to {self._address.place} broke: {said}")
        is_of_ours = any(table in (error.statement or "") for table in (LEDGER_TABLE, CHANGES_TABLE, NOTES_TABLE))
        if is_of_ours and isinstance(error, sa.exc.IntegrityError):
            return LedgerMovedError(f"another writer was faster: {said}")
        if not is_of_ours and self._backend.is_refused(error):
            return BatchRefusedError(said)
        return TargetUnavailableError(f"{self._address.place} says: {said}")


def _ours(session: Session) -> SqlalchemySession:
    if not isinstance(session, SqlalchemySession):
        raise TypeError("a session of another database")
    return session


class _Opener:
    """Opens connections, each by an engine without a pool of its own."""

    def __init__(self, address: Address, *, creates: bool) -> None:
        self._address = address
        self._creates = creates
        self._engine: sa.Engine | None = None

    def open(self) -> sa.Connection:
        engine = self._engine = self._engine or self._made()
        self._prepare_file()
        try:
            return engine.connect()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            said = self._address.without_secret(getattr(error, "orig", None) or error)
            raise TargetUnavailableError(f"the database {self._address.place} can't be reached: {said}") from None
        except (TypeError, ValueError) as error:
            said = self._address.without_secret(error)
            raise ConfigurationError(
                f"the driver of {self._address.url.drivername} does not take what url says: {said}; correct its options"
            ) from None

    def clean(self, connection: sa.Connection) -> None:
        connection.rollback()

    def roll_back(self, connection: sa.Connection) -> bool:
        if connection.closed or connection.invalidated:
            return False
        try:
            connection.rollback()
        except sa.exc.SQLAlchemyError:
            return False
        return True

    def idle_s(self) -> float:
        return IDLE_S

    def _made(self) -> sa.Engine:
        backend = _OF_NAME.get(self._address.url.get_backend_name())
        options = backend.engine if backend else _NONE
        try:
            engine = sa.create_engine(self._address.url, poolclass=NullPool, hide_parameters=True, **options)
        except ImportError as error:
            if extra := _EXTRAS.get(self._address.url.drivername):
                raise MissingExtraError(*extra) from error
            raise ConfigurationError(
                f"the driver of {self._address.url.drivername} is not installed: {error}; install it with pip"
            ) from error
        sa.event.listen(engine, "do_connect", self._connect)
        sa.event.listen(engine, "connect", partial(_begin_session, backend.on_connect if backend else ()))
        if self._address.url.get_backend_name() == "sqlite":
            sa.event.listen(engine, "connect", _begin_by_ourselves)
            sa.event.listen(engine, "begin", _begin_immediately)
            engine.dialect.ischema_names = _DeclaredTypes()  # type: ignore[attr-defined] # of all dialects of SQLite
        return engine

    def _connect(self, dialect: sa.Dialect, _record: Any, _arguments: Any, _options: Any) -> Any:
        arguments, options = dialect.create_connect_args(self._address.full())
        return dialect.connect(*arguments, **options)

    def _prepare_file(self) -> None:
        """A new file of SQLite is only accessible to its owner."""
        if self._address.url.get_backend_name() != "sqlite" or not self._address.url.database:
            return
        path = Path(self._address.url.database)
        if path.exists():
            return
        if not self._creates:
            raise NoDatabaseError(f"there is no SQLite file {path}")
        with suppress(OSError):  # opening it tells what is wrong
            make_folders(path.parent)
            path.touch(mode=0o600)


def _begin_session(statements: Sequence[str], connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    try:
        for statement in statements:
            cursor.execute(statement)
    finally:
        cursor.close()
    if statements:
        connection.commit()


def _begin_by_ourselves(connection: Any, _record: Any) -> None:
    """The driver begins a transaction only at the first INSERT, so that DDL would be committed at once."""
    connection.isolation_level = None


def _begin_immediately(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class _Declared(sa.types.UserDefinedType[Any]):
    """A type as it was declared."""

    cache_ok = True

    def __init__(self, declared: str) -> None:
        self.declared = declared

    def get_col_spec(self, **_options: Any) -> str:
        return self.declared


class _DeclaredTypes(dict[str, Any]):
    """The types of SQLite: any name is one. Without this, SQLAlchemy reflects only their affinities."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        def declared(*digits: int) -> _Declared:
            return _Declared(f"{name}({','.join(map(str, digits))})" if digits else name)

        return declared


def _create_table(table: str, columns: Sequence[str], _keys: Sequence[str] = ()) -> str:
    """Not every database has IF NOT EXISTS; a table that another stream has made meanwhile is found at the next try."""
    return f"CREATE TABLE {table.removeprefix('IF NOT EXISTS ')} ({', '.join(columns)})"


def _check_column_name(check: Callable[[str], object], name: str) -> None:
    if "%(" in name:  # also within quotes
        raise BatchRefusedError(f"SQLAlchemy takes a part of the name {name!r} for the place of a value; rename it")
    check(name)


def _key_index(quote: Any, table: str, keys: Sequence[str]) -> str:
    name = "".join(letter for letter in table if letter.isalnum() or letter == "_")[:48]
    return unique_index(quote(f"{name}_key"), table, keys)


def _limited(engine: sa.Dialect, what: str, rest: str, count: int) -> str:
    """As the dialect writes it: LIMIT, TOP or FETCH FIRST."""
    query: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(sa.text("t")).limit(count)
    written = " ".join(str(query.compile(dialect=engine, compile_kwargs={"literal_binds": True})).split())
    head, _, tail = written.partition(" FROM t")
    return f"{head.removesuffix('1')}{what} FROM {rest}{tail}"
