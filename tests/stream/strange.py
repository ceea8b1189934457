"""PostgreSQL and MySQL under names that api2db does not know, so that they have only what every database has."""

from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
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


class CountlessDialect(SQLiteDialect_pysqlite):
    """SQLite's dialect for a driver that does not count what an UPDATE has changed."""

    supports_statement_cache = True
    supports_sane_rowcount = False
