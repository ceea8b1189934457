"""PostgreSQL and MySQL under names that api2db does not know, so that they have only what every database has."""

from typing import Any

from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class StrangeDialect(PGDialect_psycopg):
    """PostgreSQL's dialect with another name."""

    name = "strange"
    supports_statement_cache = True


class OddDialect(MySQLDialect_pymysql):
    """MySQL's dialect with another name."""

    name = "odd"
    supports_statement_cache = True


class _WithoutKeys(PGTypeCompiler):
    def visit_user_defined(self, type_: Any, **options: Any) -> str:
        """Leave the key out: some warehouses accept the clause and do not enforce it."""
        return str(super().visit_user_defined(type_, **options)).removesuffix(" PRIMARY KEY")


class KeylessDialect(StrangeDialect):
    """PostgreSQL's dialect for a database that does not enforce primary keys."""

    supports_statement_cache = True
    type_compiler_cls = _WithoutKeys


class CountlessDialect(SQLiteDialect_pysqlite):
    """SQLite's dialect for a driver that does not count what an UPDATE has changed."""

    supports_statement_cache = True
    supports_sane_rowcount = False
