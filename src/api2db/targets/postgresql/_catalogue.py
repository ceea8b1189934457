"""What PostgreSQL's catalogue says about a table: columns and their base types, collations, indexes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from api2db.errors import TargetUnavailableError
from api2db.targets.port import Column
from api2db.targets.postgresql._dialect import qualified
from api2db.targets.postgresql._values import held, is_array

if TYPE_CHECKING:
    import psycopg

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


class Catalogue:
    """Queries the server on one connection.

    Args:
        rows: Runs a query.
        schema: The tables' schema; None: the one that the search path finds.

    Attributes:
        takes_no_copy: Whether the table whose columns were read last accepts no COPY.
    """

    def __init__(
        self,
        connection: "psycopg.Connection[tuple[Any, ...]]",
        rows: Callable[..., list[tuple[Any, ...]]],
        schema: str | None = None,
    ) -> None:
        self._connection = connection
        self._rows = rows
        self._schema = schema
        self._made_of: dict[str, str] = {}
        self.takes_no_copy = False

    def quoted(self, table: str) -> str:
        """A table's name, quoted."""
        return qualified(self._schema, table)

    def columns(self, table: str) -> list[Column] | None:
        """See ``Session``."""
        return self._columns(self._rows(_COLUMNS.format("?"), (self.quoted(table),)))

    def _columns(self, found: Sequence[tuple[Any, ...]]) -> list[Column] | None:
        if any(is_catalogue for *_, is_catalogue in found):
            raise TargetUnavailableError("PostgreSQL has a system table of this name; give another one with table=")
        self._made_of = {declared: base for _, declared, base, *_ in found}
        if any(name is None for name, *_ in found):
            raise TargetUnavailableError(
                "the table has no column that takes values; add one, or give another table with table="
            )
        self.takes_no_copy = any(takes_no_copy for *_, takes_no_copy, _ in found)
        return [
            Column(name, held(base), declared, fills, is_array(base)) for name, declared, base, fills, *_ in found
        ] or None

    def lock_columns(self, table: str) -> list[Column] | None:
        """Binary COPY interprets the bytes by the column's current type, so nobody may alter it in between."""
        from psycopg import sql

        name = sql.Literal(self.quoted(table)).as_string(self._connection)
        cursor = self._connection.execute(
            f"LOCK TABLE {self.quoted(table)} IN ROW EXCLUSIVE MODE; {_COLUMNS.format(name)}"
        )
        cursor.nextset()
        return self._columns(cursor.fetchall())

    def base(self, column: Column) -> str:
        """The base type of a column, in the table whose columns were read last."""
        return self._made_of.get(column.declared, column.declared)

    def may_drop(self, table: str) -> bool:
        """Partitions and children may have triggers of their own, and so may the tables of a view."""
        return bool(self._rows(_MAY_DROP, (self.quoted(table),)))

    def lacks_index(self, table: str, keys: Sequence[str]) -> bool:
        """Whether no index prevents two rows with the same keys; False for a view, where it is unknown."""
        return bool(self._rows(_LACKS_INDEX, (self.quoted(table), list(keys))))

    def bases(self, table: str) -> dict[str, tuple[str, bool]]:
        """Each column's base type without its length, and whether it belongs to an extension."""
        return {name: (base, is_foreign) for name, base, is_foreign in self._rows(_BASE_TYPES, (self.quoted(table),))}

    def collations(self, table: str) -> dict[str, str]:
        """The clause for each column that has a collation of its own."""
        return dict(self._rows(_COLLATIONS, (self.quoted(table),)))
