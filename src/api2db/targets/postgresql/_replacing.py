"""Give a table of PostgreSQL the newest frame's columns: keep columns that are needed, and make room for new ones."""

from collections.abc import Sequence

from api2db.errors import BatchRefusedError
from api2db.targets.sql import Session

_MOST_COLUMNS = 1_600  # dropped columns count until the table is created again
# DROP COLUMN would drop an index too, and is refused because of a view. NOT NULL constraints are no obstacle.
_HELD = """
    SELECT attname, CASE
        WHEN relkind NOT IN ('r', 'p') OR attinhcount > 0 THEN 'it belongs to another table'
        WHEN NOT pg_has_role(relowner, 'USAGE') THEN 'only the owner of the table may drop it'
        ELSE (SELECT pg_describe_object(classid, objid, objsubid) || ' needs it' FROM pg_depend
            LEFT JOIN pg_constraint ON classid = 'pg_constraint'::regclass AND pg_constraint.oid = objid
            WHERE refclassid = 'pg_class'::regclass AND refobjid = attrelid AND refobjsubid = attnum
            AND contype IS DISTINCT FROM 'n' LIMIT 1)
        END
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped AND attname = ANY (CAST(? AS name[]))
"""
_USED = "SELECT coalesce(max(attnum), 0) FROM pg_attribute WHERE attrelid = to_regclass(?)"
# What would be lost if the table were created again.
_DEPENDING = """
    SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
    LEFT JOIN pg_constraint ON classid = 'pg_constraint'::regclass AND pg_constraint.oid = objid
    LEFT JOIN pg_class AS other ON classid = 'pg_class'::regclass AND other.oid = objid
    WHERE refclassid = 'pg_class'::regclass AND refobjid = to_regclass(?) AND (
        deptype = 'n' OR contype = 'f' OR (other.relkind NOT IN ('i', 't') AND deptype <> 'i')
        OR classid IN ('pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass,
            'pg_publication_rel'::regclass)
    ) UNION ALL SELECT 'a partition, a child table or row-level security' FROM pg_class WHERE oid = to_regclass(?) AND (
        relkind <> 'r' OR relispartition OR relrowsecurity OR relhassubclass
        OR EXISTS (SELECT FROM pg_inherits WHERE inhrelid = pg_class.oid)
    ) LIMIT 1
"""
_TABLE = """
    SELECT quote_ident(nspname), quote_ident(relname), quote_ident(pg_get_userbyid(relowner)),
        relowner = current_user::regrole, relpersistence = 'u', array_to_string(reloptions, ', '),
        quote_ident(spcname), quote_literal(obj_description(pg_class.oid, 'pg_class'))
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    LEFT JOIN pg_tablespace ON pg_tablespace.oid = reltablespace WHERE pg_class.oid = to_regclass(?)
"""
_GRANTS = """
    SELECT privilege_type || coalesce(' (' || quote_ident(attname) || ')', ''),
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    FROM (
        SELECT NULL::name AS attname, relacl AS acl, relowner FROM pg_class WHERE oid = to_regclass(?)
        UNION ALL SELECT attname, attacl, relowner FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE attrelid = to_regclass(?) AND NOT attisdropped
    ) AS held, aclexplode(acl) WHERE grantee <> relowner
"""


def held_columns(session: Session, table: str, names: Sequence[str]) -> dict[str, str]:
    """The columns among ``names`` that the table must keep, each with the reason.

    Args:
        table: Its name, quoted.
    """
    return {name: why for name, why in session.rows(_HELD, (table, list(names))) if why is not None}


def make_room(session: Session, table: str, new: int) -> None:
    """Create an empty table again if its dropped columns leave no room for new ones.

    Owner, grants, indexes, defaults, checks and comments are preserved.

    Args:
        table: Its name, quoted.

    Raises:
        BatchRefusedError: Something depends on the table, so that it cannot be created again.
    """
    ((used,),) = session.rows(_USED, (table,))
    if not new or used + new <= _MOST_COLUMNS:
        return
    for (depending,) in session.rows(_DEPENDING, (table, table)):
        raise BatchRefusedError(
            f"{table} has no room for {new} more columns: PostgreSQL counts {used} of {_MOST_COLUMNS}, dropped ones too"
            f", until the table is created again, which {depending} forbids; drop that, put the rows"
            " again, and create it again"
        )
    _recreate(session, table)


def _recreate(session: Session, table: str) -> None:
    ((schema, name, owner, is_ours, unlogged, options, space, comment),) = session.rows(_TABLE, (table,))
    full, old = f"{schema}.{name}", f"{schema}._api2db_old"
    grants = session.rows(_GRANTS, (table, table))
    session.run(f"ALTER TABLE {full} RENAME TO _api2db_old")
    session.run(
        f"CREATE {'UNLOGGED ' if unlogged else ''}TABLE {full} (LIKE {old} INCLUDING ALL)"
        f"{f' WITH ({options})' if options else ''}{f' TABLESPACE {space}' if space else ''}"
    )
    session.run(f"DROP TABLE {old}")
    if comment:
        session.run(f"COMMENT ON TABLE {full} IS {comment}")
    for grantee in {grantee for _, grantee, _ in session.rows(_GRANTS, (full, full))}:  # default privileges
        session.run(f"REVOKE ALL ON TABLE {full} FROM {grantee}")
    for privilege, grantee, more in grants:
        session.run(f"GRANT {privilege} ON TABLE {full} TO {grantee}{more}")
    if not is_ours:
        session.run(f"ALTER TABLE {full} OWNER TO {owner}")
