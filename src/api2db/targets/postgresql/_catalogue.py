"""What PostgreSQL tells of a table: its columns and what they are made of, its collations, its indexes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from api2db.errors import TargetUnavailableError
from api2db.targets.port import Column
from api2db.targets.postgresql._dialect import qualified
from api2db.targets.postgresql._values import held, is_array

if TYPE_CHECKING:
    import psycopg

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


class Catalogue:
    """Asks the server, by one connection.

    Args:
        rows: Runs a query.
        schema: Where tables are; None: where the search path finds them.

    Attributes:
        takes_no_copy: Whether that is so of the table whose columns were asked for last.
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
        """A table's name as SQL takes it."""
        return qualified(self._schema, table)

    def columns(self, table: str) -> list[Column] | None:
        """As ``Session`` has it."""
        return self._columns(self._rows(_COLUMNS.format("?"), (self.quoted(table),)))

    def _columns(self, found: Sequence[tuple[Any, ...]]) -> list[Column] | None:
        if any(is_catalogue for *_, is_catalogue in found):
            raise TargetUnavailableError("the server has a table of its own by this name; give another one with table=")
        self._made_of = {declared: base for _, declared, base, *_ in found}
        if any(name is None for name, *_ in found):
            raise TargetUnavailableError(
                "the table is there and has no column that takes values; add one, or give another table with table="
            )
        self.takes_no_copy = any(takes_no_copy for *_, takes_no_copy, _ in found)
        return [
            Column(name, held(base), declared, fills, is_array(base)) for name, declared, base, fills, *_ in found
        ] or None

    def lock_columns(self, table: str) -> list[Column] | None:
        """Binary COPY takes bytes for whatever type there is by then: nobody may alter it in between."""
        from psycopg import sql

        name = sql.Literal(self.quoted(table)).as_string(self._connection)
        cursor = self._connection.execute(
            f"LOCK TABLE {self.quoted(table)} IN ROW EXCLUSIVE MODE; {_COLUMNS.format(name)}"
        )
        cursor.nextset()
        return self._columns(cursor.fetchall())

    def base(self, column: Column) -> str:
        """What a column's type is made of at last, in the table whose columns were asked for last."""
        return self._made_of.get(column.declared, column.declared)

    def may_drop(self, table: str) -> bool:
        """What partitions and children have of their own, and what stands behind a view, counts too."""
        return bool(self._rows(_MAY_DROP, (self.quoted(table),)))

    def lacks_index(self, table: str, keys: Sequence[str]) -> bool:
        """Whether nothing sees to it that no two rows of a table have the same keys; of a view it is not known."""
        return bool(self._rows(_LACKS_INDEX, (self.quoted(table), list(keys))))

    def bases(self, table: str) -> dict[str, tuple[str, bool]]:
        """What each column is made of, without its length, and whether that is an extension's own."""
        return {name: (base, is_foreign) for name, base, is_foreign in self._rows(_BASE_TYPES, (self.quoted(table),))}

    def collations(self, table: str) -> dict[str, str]:
        """The clause for each column that has a collation of its own."""
        return dict(self._rows(_COLLATIONS, (self.quoted(table),)))
