"""What ``api2db doctor`` and ``api2db explain`` ask of the targets of streams; nothing is changed there."""

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import ColumnClause, Connection, Select, String, cast, column, select, table, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import quoted_name

from api2db.errors import ConfigurationError, TargetUnavailableError
from api2db.texts import redact

if TYPE_CHECKING:
    from sqlalchemy import Engine

Row = Mapping[str, Any]
_LEDGER: Final = "_api2db_ledger"
_NEEDED: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_GRANT: Final = re.compile(
    r"GRANT (?P<rights>.+) ON (?:\*|`(?P<database>(?:[^`]|``)+)`)\.(?:\*|`(?P<table>(?:[^`]|``)+)`) TO ", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A target that was reached.

    Attributes:
        missing_rights: The rights that the user lacks, such as ``CREATE on schema public``.
        connections: How many connections the server has, and how many it may have; None without a server.
        clock_ahead_s: How far the server's clock is ahead of this machine's, seconds; None without a server.
    """

    missing_rights: tuple[str, ...] = ()
    connections: tuple[int, int] | None = None
    clock_ahead_s: float | None = None


def diagnosis_of_folder(place: Path, *, is_file: bool) -> Diagnosis:
    """Say whether files can be written in a folder, or a file in its folder."""
    folder = place.parent if is_file else place
    while not folder.exists():
        folder = folder.parent
    lacks_write = not os.access(folder, os.W_OK | os.X_OK)
    return Diagnosis((f"write permission for the folder {folder}",) if lacks_write else ())


def diagnosis_of_server(engine: "Engine", kind: str, schema: str | None, table_name: str) -> Diagnosis:
    """Ask a database server for what the user may do, its connections and its clock.

    Args:
        engine: Reaches the database.
        kind: ``"postgresql"``, ``"mysql"`` or ``"mariadb"``; others are only reached.
        schema: The schema of the table in PostgreSQL; None for the default one.
        table_name: The table.

    Raises:
        TargetUnavailableError: It can't be reached.
    """
    with _reached(engine) as connection:
        if kind not in {"postgresql", "mysql", "mariadb"}:
            return Diagnosis()
        began_s = time.time()
        if kind == "postgresql":
            rights = _rights_in_postgresql(connection, schema, table_name)
            used, most, now_s = _row(
                connection,
                "SELECT (SELECT count(*) FROM pg_stat_activity), current_setting('max_connections')::int, "
                "extract(epoch FROM clock_timestamp())",
            )
        else:
            rights = _rights_in_mysql(connection, table_name)
            used = _row(connection, "SHOW STATUS LIKE 'Threads_connected'")[1]
            most, now_s = _row(connection, "SELECT @@max_connections, UNIX_TIMESTAMP(NOW(6))")
        return Diagnosis(rights, (int(used), int(most)), float(now_s) - (began_s + time.time()) / 2)


def found_in_table(
    engine: "Engine", schema: str | None, table_name: str, where: Mapping[str, str], most: int
) -> list[Row]:
    """Return the rows of a table whose columns have these values, compared as text.

    Raises:
        TargetUnavailableError: The database can't be reached, or there is no such table.
        ConfigurationError: The table has no such column.
    """
    with _reached(engine) as connection:
        with connection.execute(_search(schema, table_name, {}, 0)) as found:
            columns = list(found.keys())
        _check_columns(f"the table {table_name}", where, columns)  # SQLite would take the name for a text
        return [dict(row) for row in connection.execute(_search(schema, table_name, where, most)).mappings()]


def _search(schema: str | None, table_name: str, where: Mapping[str, str], most: int) -> Select[Any]:
    """Names are quoted, as they were when the table was made: else Oracle looks for them in capitals."""
    names: dict[str, ColumnClause[Any]] = {name: column(quoted_name(name, quote=True)) for name in where}
    wanted = [cast(names[name], String()) == value for name, value in where.items()]
    below = None if schema is None else quoted_name(schema, quote=True)
    place = table(quoted_name(table_name, quote=True), *names.values(), schema=below)
    return select(text("*")).select_from(place).where(*wanted).limit(most)


def _check_columns(place: str, where: Mapping[str, str], found: Collection[str]) -> None:
    """Refuse columns that are in none of the found ones, whatever their case: databases differ in it."""
    known = {name.casefold() for name in found}
    if missing := [name for name in where if name.casefold() not in known]:
        columns = f"column{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise ConfigurationError(f"{place} has no {columns}; it has: {', '.join(found)}")


def found_in_files(files: Sequence[Path], where: Mapping[str, str], most: int) -> list[Row]:
    """Return the rows of Parquet files whose columns have these values, compared as text.

    Raises:
        ConfigurationError: None of the files has such a column.
    """
    found: list[Row] = []
    columns: dict[str, None] = {}
    for path in files:
        rows = pq.ParquetFile(path).read()
        columns |= dict.fromkeys(rows.column_names)
        found += rows_where(rows, where).slice(0, most - len(found)).to_pylist()
        if len(found) >= most:
            break
    if files and not found:
        _check_columns("the folder", where, columns)
    return found


def rows_where(rows: pa.Table, where: Mapping[str, str]) -> pa.Table:
    """Return the rows of a table whose columns have these values, compared as text; none if it lacks a column."""
    for name, value in where.items():
        if name not in rows.column_names:
            return rows.slice(0, 0)
        cells = rows.column(name)
        try:
            texts = cells.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            texts = pa.chunked_array([[None if cell is None else str(cell) for cell in cells.to_pylist()]], pa.string())
        rows = rows.filter(pc.equal(texts, value))
    return rows


@contextmanager
def _reached(engine: "Engine") -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        raise TargetUnavailableError(redact(said)) from None
    finally:
        engine.dispose()


def _row(connection: Connection, query: str, **values: Any) -> Sequence[Any]:
    found = connection.execute(text(query), values).fetchone()
    return () if found is None else tuple(found)


def _rights_in_postgresql(connection: Connection, schema: str | None, table_name: str) -> tuple[str, ...]:
    place = schema or _row(connection, "SELECT current_schema()")[0]
    if place is None or not _row(connection, "SELECT 1 FROM pg_namespace WHERE nspname = :name", name=place):
        database, may = _row(
            connection, "SELECT current_database(), has_database_privilege(current_database(), 'CREATE')"
        )
        return () if may else (f"CREATE on database {database}",)
    missing: list[str] = []
    is_complete = True
    for name in (table_name, _LEDGER):
        oid = _row(
            connection,
            "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = :schema AND c.relname = :name",
            schema=place,
            name=name,
        )
        is_complete = is_complete and bool(oid)
        missing += [
            f"{right} on table {place}.{name}"
            for right in (_NEEDED if oid else ())
            if not _row(connection, "SELECT has_table_privilege(:oid, :right)", oid=oid[0], right=right)[0]
        ]
    missing += [
        f"{right} on schema {place}"
        for right in (("USAGE",) if is_complete else ("USAGE", "CREATE"))
        if not _row(connection, "SELECT has_schema_privilege(:schema, :right)", schema=place, right=right)[0]
    ]
    return tuple(missing)


def _rights_in_mysql(connection: Connection, table_name: str) -> tuple[str, ...]:
    """Read the grants of the user. Those of roles are not listed, so a user with roles is taken to have all."""
    (database,) = _row(connection, "SELECT DATABASE()")
    granted: set[str] = set()
    for (line,) in connection.execute(text("SHOW GRANTS")).fetchall():
        found = _GRANT.match(line)
        if found is None:
            return ()
        if _covers(found["database"], found["table"], str(database), table_name):
            granted |= {right.strip().upper() for right in found["rights"].split(",")}
    if any(right.startswith("ALL PRIVILEGES") for right in granted):
        return ()
    return tuple(f"{right} on {database}.*" for right in (*_NEEDED, "CREATE", "ALTER") if right not in granted)


def _covers(granted: str | None, granted_table: str | None, database: str, table_name: str) -> bool:
    """Whether a grant is for a table. None is for all; without a table, the database's name is a pattern of LIKE."""
    if granted is None:
        return True
    granted = granted.replace("``", "`")
    if granted_table is not None:
        return granted == database and granted_table.replace("``", "`") == table_name
    parts = re.findall(r"\\.|.", granted, re.DOTALL)
    pattern = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(pattern, database, re.DOTALL) is not None
