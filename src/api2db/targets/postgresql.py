"""PostgreSQL: Arrow rows are encoded for binary COPY (pgpq) and sent on a kept connection (psycopg)."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import (
    BatchRefusedError,
    ConnectionBrokenError,
    MissingExtraError,
    TargetError,
    TargetUnavailableError,
)
from api2db.frames import is_json
from api2db.targets._encoding import encoded
from api2db.targets._postgresql_connection import connection_class, library
from api2db.targets._sql_ledger import LEDGER_TABLE
from api2db.targets._sql_port import Session
from api2db.targets._standard import create_table, key_twin, on_conflict_do_nothing, quote, unique_index, update_from
from api2db.targets.port import Column
from api2db.targets.server import Server
from api2db.targets.types import POSTGRESQL, from_postgresql, postgresql_type

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresqlDatabase", "postgresql_arguments"]

_log = logging.getLogger(__name__)
_CONNECT_S = 10
# Nothing heard for 20 s is the end, also where an answer is awaited and nothing is to be sent.
_KEEP_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 20_000}
_LONGEST_NAME_BYTES = 63
_ROWS_AT_ONCE = 4_096  # encoded and sent piece by piece, so that the server works on one while the next is encoded
_NO_DATABASE, _NAME_TAKEN, _FORBIDDEN, _LOCKED = "3D000", "42701", "42501", "55P03"
# All hold for the transaction alone, so that they also reach the server behind a pooler such as pgbouncer. A timeout of
# statements would end a large load each time anew; to compile a look at the catalogue takes longer than the look.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '10s';"
    " SET LOCAL idle_in_transaction_session_timeout = '30s';"
    " SET LOCAL synchronous_commit = 'on'; SET LOCAL TimeZone = 'UTC'; SET LOCAL statement_timeout = 0;"
    " SET LOCAL jit = off; SET LOCAL row_security = on"
)
# Where our ledger is, else where it will be made; then the other schemas in which names are looked for.
_PATH = f"""
    SELECT coalesce((
        SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = to_regclass('{LEDGER_TABLE}') AND relpersistence <> 't'
    ), current_schema()), current_schemas(false)
"""
# Each column, its type, and of a domain what that is made of at last, and whether it has a default, of which a view
# does not tell; of its table, whether it takes no COPY, as it is a view or policies say who may write which row, and
# whether it is the server's own. A table without any has one row.
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), CASE WHEN typtype = 'd' THEN (
        WITH RECURSIVE made (type, modifier, depth) AS (
            SELECT typbasetype, typtypmod, 1 UNION ALL
            SELECT typbasetype, typtypmod, depth + 1 FROM made JOIN pg_type ON oid = type WHERE typtype = 'd'
        ) SELECT format_type(type, modifier) FROM made ORDER BY depth DESC LIMIT 1
    ) ELSE format_type(atttypid, atttypmod) END,
        atthasdef OR attidentity <> '' OR typdefault IS NOT NULL OR relkind = 'v',
        relkind = 'v' OR row_security_active(pg_class.oid), relnamespace = 'pg_catalog'::regnamespace
    FROM pg_class LEFT JOIN (pg_attribute JOIN pg_type ON pg_type.oid = atttypid)
        ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    WHERE pg_class.oid = to_regclass({}) ORDER BY attnum
"""
_MAY_DROP = (
    "SELECT 1 FROM pg_class WHERE oid = to_regclass(?)"
    " AND (relkind <> 'r' OR relhastriggers OR relhasrules OR relrowsecurity OR relhassubclass)"
)
# A table in which no index sees to it that no two rows have the same keys; one on some of them does.
_LACKS_INDEX = """
    SELECT 1 FROM pg_class WHERE oid = to_regclass(?) AND relkind IN ('r', 'p') AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisunique AND indisvalid
        AND indpred IS NULL AND indexprs IS NULL AND NOT EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = indrelid AND attname <> ALL (CAST(? AS name[]))
            AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])
        )
    )
"""
_TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('api2db'), to_regclass(?)::oid::int)"
# Classes and codes of PostgreSQL's appendix of error codes that speak of the rows or the table: data exceptions, broken
# constraints, check options, limits, what triggers raise; binary data of another type, features that are not there,
# types that don't fit, objects that others depend on, names that are taken.
_REFUSED_CLASSES = ("22", "23", "44", "54", "P0")
_REFUSED_CODES = frozenset({"08P01", "0A000", "42804", "42846", "2BP01", "42611", "42P10", "42P16", "428C9"})


# What the column is made of, without its length; and whether an extension, which may spell as it likes, has made it.
_BASE_TYPES = """
    WITH RECURSIVE made (name, type, depth) AS (
        SELECT attname, atttypid, 0 FROM pg_attribute
        WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped UNION ALL
        SELECT name, typbasetype, depth + 1 FROM made JOIN pg_type ON oid = type WHERE typtype = 'd'
    )
    SELECT DISTINCT ON (name) name, format_type(type, -1), element.typtype = 'b'
        AND element.typnamespace <> 'pg_catalog'::regnamespace
    FROM made JOIN pg_type whole ON whole.oid = type
    JOIN pg_type element ON element.oid = CASE WHEN whole.typcategory = 'A' THEN whole.typelem ELSE whole.oid END
    ORDER BY name, depth DESC
"""
# Columns with a collation of their own.
_COLLATIONS = """
    SELECT attname, format(' COLLATE %%I.%%I', nspname, collname)
    FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
    JOIN pg_namespace ON pg_namespace.oid = collnamespace
    WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped AND attcollation <> '"default"'::regcollation
"""
# Types of which binary COPY takes nothing of ours, though numbers have a cast to them.
_BY_CAST = {"oid": pa.uint32(), "money": pa.decimal128(19, 2)}
# Types, and arrays of them, that may spell a value otherwise, say without a space, and lose nothing of it.
_RESPELLED = frozenset(
    {
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "text",
        "character varying",
        "bytea",
        "bit varying",
        '"bit"',
    }
    | {"uuid", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "interval", "time with time zone"}
    | {"json", "jsonb", "jsonpath", "xml", "tsvector", "tsquery", "int4range", "int8range", "numrange", "daterange"}
)
_WIDE = re.compile(r"numeric\(\d+,-?\d+\)")
_LIMITED = re.compile(r"character varying\((\d+)\)")


class PostgresqlDatabase:
    """One connection to a database; it is made where it is missing."""

    types = POSTGRESQL

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Any = None
        self._path = ""
        self.looked_at: set[str] = set()

    def connect(self) -> None:
        if self._connection is None:
            self._connection = self._open()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        psycopg = library()
        self.connect()
        connection = self._connection
        if connection is None:
            raise ConnectionBrokenError(f"the connection to {self._server.place} was closed meanwhile")
        try:
            self._path = self._path or _path(connection)
            connection.execute(_BEGIN + self._path)
            with connection.working():
                yield _PostgresqlSession(connection, self)
            connection.execute("COMMIT")
        except psycopg.Error as error:
            raise self._translated(error, broken=connection.broken) from None
        finally:
            self._roll_back(connection)

    def quote(self, name: str) -> str:
        return _quote(name)

    def type_name(self, type_: pa.DataType, *, key: bool = False) -> str | None:
        return postgresql_type(type_)

    def once(self, insert: str) -> str:
        return on_conflict_do_nothing(insert)

    def locked(self, select: str) -> str:
        return f"{select} FOR UPDATE"

    def fresh(self, select: str) -> str:
        return select  # as each statement of READ COMMITTED does

    def update_from(self, table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
        return update_from(table, staged, values, keys)

    def key_twin(self, table: str, staged: str, keys: Sequence[str], texts: Sequence[str]) -> str:
        return key_twin(table, staged, keys, texts, "convert_to({}::text, 'UTF8')")

    def create_table(self, table: str, columns: Sequence[str], keys: Sequence[str] = ()) -> str:
        return create_table(table, columns)

    def key_index(self, table: str, keys: Sequence[str]) -> str | None:
        return unique_index("", table, keys)

    def type_of(self, declared: str) -> pa.DataType:
        return _held(declared)

    def newest(self, old: Sequence[Column], wanted: Sequence[Column]) -> Sequence[Column] | None:
        """A column that the frame has not stays, empty: a view may show it."""
        by_name = {column.name: column for column in wanted}
        kept = [by_name.pop(column.name, column) for column in old]
        return [*kept, *by_name.values()]

    def renew(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        """Altered while it is empty, so that views and grants survive; readers wait for the commit."""
        session.run(f"DELETE FROM {table}")
        for before, column in zip([*old, *[None] * (len(new) - len(old))], new, strict=True):
            name = quote(column.name)
            if before is None:
                session.run(f"ALTER TABLE {table} ADD COLUMN {name} {column.declared}")
            elif before.declared != column.declared:
                _retype(session, f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {column.declared} USING NULL")

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        if wider.declared != column.declared:
            if from_postgresql(column.declared) is None:
                raise BatchRefusedError(f"{column.declared} is a type of the table's own")
            name = _quote(column.name)
            # Text is cast to anything; but a real's own text is short of the digits that make it an equal double.
            value = f"{name}::text" if pa.types.is_string(column.type) else name
            session.run(
                f"ALTER TABLE {_quote(table)} ALTER COLUMN {name} TYPE {wider.declared} USING {value}::{wider.declared}"
            )
        return wider

    def same_column(self, one: str, other: str) -> bool:
        return one == other

    def _open(self) -> "psycopg.Connection[tuple[Any, ...]]":
        psycopg = library()
        try:
            return _connect(self._server, self._server.database)
        except psycopg.Error as error:
            if _is_missing(error):
                self._make_database()
                return self._open()
            said = self._server.without_secret(error)
            raise TargetUnavailableError(f"PostgreSQL at {self._server.place} can't be reached: {said}") from None

    def _make_database(self) -> None:
        psycopg = library()
        try:
            with _connect(self._server, "postgres") as connection:
                connection.execute(f"CREATE DATABASE {_quote(self._server.database)}")
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.Error as error:
            said = self._server.without_secret(error)
            raise TargetUnavailableError(
                f"the database {self._server.database} is missing and can't be made: {said}; make it, or grant CREATEDB"
            ) from None
        _log.info("the database %s is made", self._server.database)

    def _roll_back(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        """Whatever is open; a connection that can't is dropped, and what it had begun ends with it."""
        psycopg = library()
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            return
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            self.close()

    def _translated(self, error: "psycopg.Error", *, broken: bool) -> TargetError:
        said = self._server.without_secret(error)
        state = error.sqlstate or ""
        if (error.diag.schema_name or "") == "pg_catalog":  # two make one table at the same time: the next try finds it
            return TargetUnavailableError(f"PostgreSQL at {self._server.place} says: {said}")
        if broken or not state:  # first: poolers say 08P01 of whatever befalls them
            self.close()
            return ConnectionBrokenError(f"the connection to {self._server.place} broke: {said}")
        if state == _LOCKED and LEDGER_TABLE in said:
            said = f"{said}; a transaction of ours may be there that the server has not ended yet"
        if state == _FORBIDDEN and "new row violates" in said:
            return BatchRefusedError(said)
        if state == _NAME_TAKEN:
            return BatchRefusedError(f"{said}: a column that the table computes takes no values, leave it out")
        if state.startswith(_REFUSED_CLASSES) or state in _REFUSED_CODES:
            return BatchRefusedError(said)
        return TargetUnavailableError(f"PostgreSQL at {self._server.place} says: {said}")


def _retype(session: Session, alter: str) -> None:
    try:
        session.run(alter)
    except library().errors.FeatureNotSupported as error:
        said = " ".join(str(error).split())
        raise BatchRefusedError(f"{said}: drop what depends on it, put the rows again, and make it anew") from error


def _quote(name: str) -> str:
    """PostgreSQL would cut a longer name off, and so take one table or column for another."""
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        raise BatchRefusedError(f"{name!r} has more than 63 bytes, which PostgreSQL would cut off; rename it")
    return quote(name)


def postgresql_arguments(server: Server, database: str | None = None) -> dict[str, Any]:
    """What ``psycopg.connect`` takes to reach a server, with a password asked anew.

    Args:
        database: Another one than the server's own.

    Raises:
        TargetUnavailableError: There is no password at the moment, or a file of TLS can't be read.
    """
    tls = server.tls
    tls.require_files()
    authorities = tls.ca or ("system" if tls.mode == "verify-full" else None)
    return {
        "host": server.host,
        "port": server.port,
        "user": server.username,
        "password": server.password(),
        "dbname": database or server.database,
        "sslmode": tls.mode,
        "sslrootcert": authorities,
        "sslcert": tls.cert,
        "sslkey": tls.key or tls.cert,
        "connect_timeout": _CONNECT_S,
        "client_encoding": "utf8",
        "application_name": "api2db",
        **_KEEP_ALIVE,
    }


def _connect(server: Server, database: str) -> "psycopg.Connection[tuple[Any, ...]]":
    connection: psycopg.Connection[tuple[Any, ...]] = connection_class().connect(
        **postgresql_arguments(server, database), autocommit=True, prepare_threshold=None
    )
    return connection


def _path(connection: "psycopg.Connection[tuple[Any, ...]]") -> str:
    """Pins what names mean: a schema that comes to stand before the one of our ledger would hide all that is in."""
    ((first, schemas),) = connection.execute(_PATH).fetchall()
    names = ", ".join(map(quote, dict.fromkeys([first, *schemas]))) if first else ""
    return f"; SET LOCAL search_path = {names}" if names else ""


def _is_missing(error: "psycopg.Error") -> bool:
    """Libpq gives no code for a refused connection, so the text has to tell."""
    return error.sqlstate == _NO_DATABASE or ("database" in str(error) and "does not exist" in str(error))


class _PostgresqlSession:
    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]", database: PostgresqlDatabase) -> None:
        self._connection = connection
        self._database = database
        self._made_of: dict[str, str] = {}
        self._takes_no_copy = False

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        return int(self._execute(sql, values).rowcount)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._execute(sql, values).fetchall()
        return found

    def columns(self, table: str) -> list[Column] | None:
        return self._columns(self.rows(_COLUMNS.format("?"), (_quote(table),)))

    def _columns(self, found: Sequence[tuple[Any, ...]]) -> list[Column] | None:
        if any(is_catalogue for *_, is_catalogue in found):
            raise TargetUnavailableError("the server has a table of its own by this name; give another one with table=")
        self._made_of = {declared: base for _, declared, base, *_ in found}
        if any(name is None for name, *_ in found):
            raise TargetUnavailableError(
                "the table is there and has no column that takes values; add one, or give another table with table="
            )
        self._takes_no_copy = any(takes_no_copy for *_, takes_no_copy, _ in found)
        return [Column(name, _held(base), declared, fills) for name, declared, base, fills, *_ in found] or None

    def require_transactions(self, *tables: str) -> None:
        """All of them have transactions here."""

    def hold(self, table: str) -> list[Column] | None:
        """Binary COPY takes bytes for whatever type there is by then: nobody may alter it in between."""
        from psycopg import sql

        name = sql.Literal(_quote(table)).as_string(self._connection)
        cursor = self._connection.execute(f"LOCK TABLE {_quote(table)} IN ROW EXCLUSIVE MODE; {_COLUMNS.format(name)}")
        cursor.nextset()
        return self._columns(cursor.fetchall())

    def may_drop(self, table: str) -> bool:
        """What partitions and children have of their own, and what stands behind a view, counts too."""
        return bool(self.rows(_MAY_DROP, (_quote(table),)))

    @contextmanager
    def stage(
        self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str] = ()
    ) -> Iterator[str]:
        self._check_lengths(rows, columns)
        declared = ", ".join(f"{_quote(name)} {self._staged_as(columns[name])}" for name in rows.column_names)
        self.run(f"CREATE TEMP TABLE _api2db_staged ({declared}) ON COMMIT DROP")
        self._copy("_api2db_staged", encoded(_as_copied, rows), columns)
        self._cast_staged(table, [columns[name] for name in rows.column_names if not self._is_copied(columns[name])])
        self._collate_staged(table, [columns[key] for key in keys])
        if keys:
            self._take_turns(table, keys)
        yield "_api2db_staged"
        self.run("DROP TABLE _api2db_staged")

    def _take_turns(self, table: str, keys: Sequence[str]) -> None:
        """Two streams that put rows of the same keys would double them, or a unique index refuse those of one."""
        self.rows(_TAKE_TURNS, (_quote(table),))
        if table not in self._database.looked_at:
            self._database.looked_at.add(table)
            if self.rows(_LACKS_INDEX, (_quote(table), list(keys))):
                name, listed = _quote(table), ", ".join(map(_quote, keys))
                _log.warning(
                    "%s has no unique index on its keys, so rows of other programs may double; run: "
                    "CREATE UNIQUE INDEX ON %s (%s)",
                    table,
                    name,
                    listed,
                )

    def _cast_staged(self, table: str, columns: Sequence[Column]) -> None:
        """What only SQL can cast: a cast rounds and cuts without a word, so it must give back what was sent."""
        found = self.rows(_BASE_TYPES, (_quote(table),)) if columns else []
        bases = {name: (base, base.removesuffix("[]") in _RESPELLED or free) for name, base, free in found}
        for column in columns:
            name, (base, respelled) = _quote(column.name), bases[column.name]
            value = f"trim_scale({name}::numeric)" if base == "numeric" else name
            cast = f"({value}::{column.declared})"
            changed = _changed(name, cast, base, respelled=respelled)
            if self.rows(f"SELECT 1 FROM _api2db_staged WHERE {changed} LIMIT 1"):
                raise BatchRefusedError(
                    f"{column.name!r}: a value does not come back from the column's type {column.declared} as it was"
                )
            self.run(f"ALTER TABLE _api2db_staged ALTER COLUMN {name} TYPE {column.declared} USING {cast}")

    def _collate_staged(self, table: str, keys: Sequence[Column]) -> None:
        """Last of all: it is only to say which keys are one, not whether a cast has changed a text."""
        has_text = any(pa.types.is_string(key.type) for key in keys)
        collations = dict(self.rows(_COLLATIONS, (_quote(table),))) if has_text else {}
        for key in keys:
            if key.name in collations:
                declared = key.declared if not self._is_copied(key) else self._staged_as(key)
                self.run(
                    f"ALTER TABLE _api2db_staged ALTER COLUMN {_quote(key.name)} TYPE {declared}{collations[key.name]}"
                )

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        """By COPY straight into the table; by way of a staged one where only SQL can cast, or it takes no COPY."""
        if not self._takes_no_copy and all(self._is_copied(columns[name]) for name in rows.column_names):
            self._check_lengths(rows, columns)
            return self._copy(_quote(table), rows, columns)
        names = ", ".join(_quote(name) for name in rows.column_names)
        with self.stage(table, rows, columns) as staged:
            return self.run(f"INSERT INTO {_quote(table)} ({names}) SELECT {names} FROM {staged}")

    def _check_lengths(self, rows: pa.Table, columns: Mapping[str, Column]) -> None:
        """Spaces beyond the length of a varchar would be cut off, as SQL's standard has it."""
        for name in rows.column_names:
            limit = _LIMITED.fullmatch(self._base(columns[name]))
            if limit and (pc.max(pc.utf8_length(rows.column(name))).as_py() or 0) > int(limit[1]):
                raise BatchRefusedError(f"{name!r}: value too long for type {columns[name].declared}")

    def _base(self, column: Column) -> str:
        return self._made_of.get(column.declared, column.declared)

    def _is_copied(self, column: Column) -> bool:
        """Whether COPY takes the column's values in the column's own type, or in what its domain is made of."""
        type_ = from_postgresql(self._base(column))
        return type_ is not None and not pa.types.is_decimal256(type_)

    def _staged_as(self, column: Column) -> str:
        is_text = pa.types.is_decimal256(column.type)
        return "text" if is_text else postgresql_type(column.type) or "text"

    def _copy(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        encoder = _encoder(rows.schema, columns)
        names = ", ".join(_quote(name) for name in rows.column_names)
        statement = f"COPY {table} ({names}) FROM STDIN WITH (FORMAT BINARY)"
        with self._connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                copy.write(encoder.write_header())
                for batch in rows.to_batches(_ROWS_AT_ONCE):
                    copy.write(encoded(encoder.write_batch, batch))
                copy.write(encoder.finish())
            return cursor.rowcount

    def _execute(self, sql: str, values: Sequence[Any]) -> Any:
        return self._connection.execute(sql.replace("?", "%s"), values) if values else self._connection.execute(sql)


def _held(base: str) -> pa.DataType:
    """The type to send for a column of a type that is no domain; text where only text can be cast to it."""
    type_ = from_postgresql(base) or _BY_CAST.get(base, pa.string())
    return from_postgresql("numeric") if pa.types.is_string(type_) and _WIDE.fullmatch(base) else type_


def _changed(name: str, cast: str, base: str, *, respelled: bool) -> str:
    """The condition that a cast has changed what was sent."""
    if base == "oid":
        return "false"  # its cast from a number tells what does not fit
    if base in {"numeric", "money"}:
        return f"{cast}::numeric IS DISTINCT FROM {name}::numeric"
    changed = f"{cast}::text IS DISTINCT FROM {name}"
    return f"{changed} AND {cast}::text IS DISTINCT FROM {name}::{base}::text" if respelled else changed


def _as_copied(rows: pa.Table) -> pa.Table:
    for number, field in enumerate(rows.schema):
        if pa.types.is_decimal256(field.type):
            rows = rows.set_column(number, field.name, rows.column(number).cast(pa.string()))
    return rows


def _encoder(schema: pa.Schema, columns: Mapping[str, Column]) -> Any:
    try:
        import pgpq
        from pgpq.encoders import LargeStringEncoderBuilder, StringEncoderBuilder
        from pgpq.schema import Jsonb
    except ImportError as error:
        raise MissingExtraError("pgpq", "postgresql") from error
    builders: dict[str, Any] = {}
    for field in schema:
        infer = pgpq.ArrowToPostgresBinaryEncoder.infer_encoder
        if is_json(columns[field.name].type):
            text = pa.field(field.name, _storage(field.type))
            kind = LargeStringEncoderBuilder if pa.types.is_large_string(text.type) else StringEncoderBuilder
            builders[field.name] = kind.new_with_output(text, Jsonb())
        else:
            builders[field.name] = encoded(infer, field)
    return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, builders)


def _storage(type_: pa.DataType) -> pa.DataType:
    return getattr(type_, "storage_type", type_)
