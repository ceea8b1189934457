"""One transaction of PostgreSQL: read a table's columns and indexes, insert rows by COPY, or stage them for a merge."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import BatchRefusedError, TargetUnavailableError
from api2db.frames import is_json
from api2db.targets._newest import arrow_rows
from api2db.targets.port import Column
from api2db.targets.postgresql._dialect import as_shown, qualified, quote
from api2db.targets.postgresql._values import as_copied, changed, encoder, held, is_array, is_copied, respells
from api2db.targets.sql import Session
from api2db.targets.sql.port import encoded
from api2db.targets.types import POSTGRESQL

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)
_ROWS_AT_ONCE = 4_096  # rows are encoded and sent in pieces, so that the server works on one while the next is encoded
_TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('api2db'), to_regclass(?)::oid::int)"
_MARKS = re.compile(r'\?|"(?:[^"]|"")*"')  # placeholders, and quoted names, in which ? and % are no placeholders
_LIMITED = re.compile(r"character varying\((\d+)\)")
# Each column, its type, the base type of a domain, and whether it has a default, which a view does not show. For the
# table: whether it accepts no COPY, because it is a view or has policies for rows, and whether it belongs to the
# server. A table without columns has one row.
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
# No client but the stream whose load is in front has used the server in the last second: a second load would take the
# processor from the rows of others, which would wait longer. What the user may not see does not count.
_IS_QUIET = (
    "2 > (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    " AND (state <> 'idle' OR state_change > clock_timestamp() - interval '1 second'))"
)
_MAY_OVERLAP = (
    "SELECT txid_current() FROM pg_class WHERE oid = to_regclass(?) AND relkind = 'r'"
    " AND NOT (relhastriggers OR relhasrules OR relrowsecurity OR relhassubclass OR relispartition)"
    " AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND (indisunique OR indisexclusion))"
    f" AND {_IS_QUIET}"
)
_MAY_DROP = (
    "SELECT 1 FROM pg_class WHERE oid = to_regclass(?)"
    " AND (relkind <> 'r' OR relhastriggers OR relhasrules OR relrowsecurity OR relhassubclass)"
)
# A table without an index that makes the keys, or some of them, unique.
_LACKS_INDEX = """
    SELECT 1 FROM pg_class WHERE oid = to_regclass(?) AND relkind IN ('r', 'p') AND NOT EXISTS (
        SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisunique AND indisvalid
        AND indpred IS NULL AND indexprs IS NULL AND NOT EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = indrelid AND attname <> ALL (CAST(? AS name[]))
            AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1])
        )
    )
"""
# The column's base type without its length, and whether an extension, which may spell values its own way, created it.
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


class PostgresqlSession(Session):
    """A ``Session`` of PostgreSQL.

    Args:
        looked_at: The tables whose keys earlier transactions have inspected.
        schema: The tables' schema; None: the one that the search path finds.
    """

    def __init__(
        self, connection: "psycopg.Connection[tuple[Any, ...]]", looked_at: set[str], schema: str | None = None
    ) -> None:
        self._connection = connection
        self._looked_at = looked_at
        self._schema = schema
        self._base_types: dict[str, str] = {}
        self._takes_no_copy = False

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        return int(self._execute(sql, values).rowcount)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._execute(sql, values).fetchall()
        return found

    def columns(self, table: str) -> list[Column] | None:
        return self._columns(self.rows(_COLUMNS.format("?"), (self._quoted(table),)))

    def _columns(self, found: Sequence[tuple[Any, ...]]) -> list[Column] | None:
        """The columns of a table; remembers their base types, and whether the table accepts no COPY."""
        if any(is_catalogue for *_, is_catalogue in found):
            raise TargetUnavailableError("PostgreSQL has a system table of this name; give another one with table=")
        self._base_types = {declared: base for _, declared, base, *_ in found}
        if any(name is None for name, *_ in found):
            raise TargetUnavailableError(
                "the table has no column that takes values; add one, or give another table with table="
            )
        self._takes_no_copy = any(takes_no_copy for *_, takes_no_copy, _ in found)
        return [
            Column(name, held(base), declared, fills, is_array(base)) for name, declared, base, fills, *_ in found
        ] or None

    def arrival(self, table: str, columns: Sequence[Column]) -> str | None:
        """The transaction that wrote the row, then its place; a transaction of ages ago has a negative age."""
        if self.rows("SELECT 1 FROM pg_class WHERE oid = to_regclass(?) AND relkind = 'r'", (self._quoted(table),)):
            return "CASE WHEN age(xmin) < 0 THEN 2147483647 ELSE age(xmin) END, ctid DESC"
        return None

    def fetch(self, columns: Sequence[Column], sql: str) -> pa.Table:
        return arrow_rows([as_shown(column) for column in columns], self.rows(sql))

    def lock_columns(self, table: str) -> list[Column] | None:
        """Binary COPY interprets the bytes by the column's current type, so nobody may alter it in between."""
        from psycopg import sql

        name = sql.Literal(self._quoted(table)).as_string(self._connection)
        cursor = self._connection.execute(
            f"LOCK TABLE {self._quoted(table)} IN ROW EXCLUSIVE MODE; {_COLUMNS.format(name)}"
        )
        cursor.nextset()
        return self._columns(cursor.fetchall())

    def may_drop(self, table: str) -> bool:
        """Partitions and children may have triggers of their own, and so may the tables of a view."""
        return bool(self.rows(_MAY_DROP, (self._quoted(table),)))

    def may_overlap(self, table: str) -> bool:
        return bool(self.rows(_MAY_OVERLAP, (self._quoted(table),)))

    def _quoted(self, table: str) -> str:
        return qualified(self._schema, table)

    def _base(self, column: Column) -> str:
        """The base type of a column, in the table whose columns were read last."""
        return self._base_types.get(column.declared, column.declared)

    @contextmanager
    def stage(
        self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str] = ()
    ) -> Iterator[str]:
        self._check_lengths(rows, columns)
        declared = ", ".join(f"{quote(name)} {self._staged_as(columns[name])}" for name in rows.column_names)
        self.run(f"CREATE TEMP TABLE _api2db_staged ({declared}) ON COMMIT DROP")
        self._copy("_api2db_staged", encoded(as_copied, rows), columns)
        self._cast_staged(
            table, rows, [columns[name] for name in rows.column_names if not self._is_copied(columns[name])]
        )
        self._collate_staged(table, [columns[key] for key in keys])
        if keys:
            self._keep_last_of_each_key([columns[key] for key in keys])
            self._take_turns(table, keys)
        yield "_api2db_staged"
        self.run("DROP TABLE _api2db_staged")

    def _keep_last_of_each_key(self, keys: Sequence[Column]) -> None:
        """Values that differ as sent may be equal in their type: {"a": 1} and {"a": 1.0}, or a UUID in capitals.

        Texts that are only equal under their collation stay, and the merge refuses them.
        """
        same = [f"later.{quote(key.name)} = earlier.{quote(key.name)}" for key in keys]
        same += [
            f'later.{quote(key.name)}::text COLLATE "C" = earlier.{quote(key.name)}::text COLLATE "C"'
            for key in keys
            if pa.types.is_string(key.type)
        ]
        if any(is_json(key.type) or not self._is_copied(key) for key in keys):
            self.run(
                f"DELETE FROM _api2db_staged AS earlier USING _api2db_staged AS later WHERE {' AND '.join(same)}"
                " AND earlier.ctid < later.ctid"
            )

    def _take_turns(self, table: str, keys: Sequence[str]) -> None:
        """Lock out other streams: rows with the same keys would be doubled, or refused by a unique index."""
        self.rows(_TAKE_TURNS, (self._quoted(table),))
        if table not in self._looked_at:
            self._looked_at.add(table)
            if self.rows(_LACKS_INDEX, (self._quoted(table), list(keys))):
                name, listed = self._quoted(table), ", ".join(map(quote, keys))
                logger.warning(
                    "%s has no unique index on its keys, so rows of other programs may be duplicates; run: "
                    "CREATE UNIQUE INDEX ON %s (%s)",
                    table,
                    name,
                    listed,
                )

    def _cast_staged(self, table: str, rows: pa.Table, columns: Sequence[Column]) -> None:
        """Cast what only SQL can cast. A cast silently rounds and truncates, so its result must equal what was sent."""
        found = self.rows(_BASE_TYPES, (self._quoted(table),)) if columns else ()
        bases = {name: (base, is_foreign) for name, base, is_foreign in found}
        for column in columns:
            name, (base, is_foreign) = quote(column.name), bases[column.name]
            value = f"trim_scale({name}::numeric)" if base == "numeric" else name
            cast = f"({value}::{column.declared})"
            condition = changed(name, cast, base, respelled=respells(base) or is_foreign)
            with _naming(column):
                if not _is_exact(rows.field(column.name).type) and self.rows(
                    f"SELECT 1 FROM _api2db_staged WHERE {condition} LIMIT 1"
                ):
                    raise BatchRefusedError(
                        f"{column.name!r}: a value does not come back from the column's type {column.declared} as it "
                        "was; correct the value, or give the column another type"
                    )
                self.run(f"ALTER TABLE _api2db_staged ALTER COLUMN {name} TYPE {column.declared} USING {cast}")

    def _collate_staged(self, table: str, keys: Sequence[Column]) -> None:
        """Apply the collations last: they decide which keys are equal, not whether a cast has changed a text."""
        has_text = any(pa.types.is_string(key.type) for key in keys)
        collations = dict(self.rows(_COLLATIONS, (self._quoted(table),))) if has_text else {}
        for key in keys:
            if key.name in collations:
                declared = key.declared if not self._is_copied(key) else self._staged_as(key)
                self.run(
                    f"ALTER TABLE _api2db_staged ALTER COLUMN {quote(key.name)} TYPE {declared}{collations[key.name]}"
                )

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        """COPY into the table, or into a staged one if only SQL can cast a column or the table accepts no COPY."""
        if not self._takes_no_copy and all(self._is_copied(columns[name]) for name in rows.column_names):
            self._check_lengths(rows, columns)
            return self._copy(self._quoted(table), rows, columns)
        names = ", ".join(quote(name) for name in rows.column_names)
        with self.stage(table, rows, columns) as staged:
            return self.run(f"INSERT INTO {self._quoted(table)} ({names}) SELECT {names} FROM {staged}")

    def _check_lengths(self, rows: pa.Table, columns: Mapping[str, Column]) -> None:
        """PostgreSQL would silently cut spaces beyond the length of a varchar, as the SQL standard says."""
        for name in rows.column_names:
            limit = _LIMITED.fullmatch(self._base(columns[name]))
            if limit and (pc.max(pc.utf8_length(rows.column(name))).as_py() or 0) > int(limit[1]):
                raise BatchRefusedError(f"{name!r}: value too long for type {columns[name].declared}")

    def _is_copied(self, column: Column) -> bool:
        """Whether COPY accepts the column's values in its own type, or in the base type of its domain."""
        return is_copied(self._base(column))

    def _staged_as(self, column: Column) -> str:
        is_text = pa.types.is_decimal256(column.type)
        return "text" if is_text else POSTGRESQL.column(column.type) or "text"

    def _copy(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        binary = encoder(rows.schema, columns)
        names = ", ".join(quote(name) for name in rows.column_names)
        statement = f"COPY {table} ({names}) FROM STDIN WITH (FORMAT BINARY)"
        with self._connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                copy.write(binary.write_header())
                for batch in rows.to_batches(_ROWS_AT_ONCE):
                    copy.write(memoryview(encoded(binary.write_batch, batch)))  # it is sliced without being copied
                copy.write(binary.finish())
            return cursor.rowcount

    def _execute(self, sql: str, values: Sequence[Any]) -> Any:
        return self._connection.execute(_MARKS.sub(_as_sent, sql), values) if values else self._connection.execute(sql)


@contextmanager
def _naming(column: Column) -> Iterator[None]:
    """Name the column in the server's message about its values, and say what to do."""
    import psycopg

    try:
        yield
    except psycopg.DataError as error:
        list_ = '; put a list, not its text, into an array, such as ["a", "b"]' if pa.types.is_list(column.type) else ""
        raise BatchRefusedError(
            f"{column.name!r}: {' '.join(str(error).split())}{list_}; correct the value, or give the column another "
            f"type than {column.declared}"
        ) from None


def _is_exact(type_: pa.DataType) -> bool:
    """Whether the server's cast cannot change it: items of lists have the column's type, unless sent as text."""
    return bool(pa.types.is_list(type_) and not pa.types.is_string(type_.value_type))


def _as_sent(found: re.Match[str]) -> str:
    return "%s" if found[0] == "?" else found[0].replace("%", "%%")
