"""What SQL Server and Oracle are sent, compared with what their documentation says; no server of theirs was there.

Pages of learn.microsoft.com: "TOP (Transact-SQL)", "UPDATE (Transact-SQL)", "Table hints (Transact-SQL)",
"SELECT - INTO clause", "sp_getapplock", "ALTER TABLE", "Data types". Pages of Oracle's SQL Language Reference:
"SELECT" (row limiting, FOR UPDATE), "UPDATE", "ALTER TABLE" (MODIFY), "Data Types", "TO_TIMESTAMP", "Database Object
Naming Rules".
"""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from api2db import Stream2Sql
from api2db.errors import BatchRefusedError, ConfigurationError
from api2db.stream.diagnosis import _search
from api2db.targets.port import Column
from api2db.targets.sqlalchemy import EXPERIMENTAL
from api2db.targets.types import MICROSOFT_SQL, ORACLE, from_microsoft_sql, from_oracle


def stream_into(dialect: str, home: Path, **options: Any) -> Stream2Sql:
    return Stream2Sql("flights", "market", dialect, "me", "s3cr3t", "127.0.0.1", home=home, **options)


def database(dialect: str, home: Path) -> Any:
    return stream_into(dialect, home)._place.database()


def test_the_statements_of_sql_server(tmp_path: Path) -> None:
    sql = database("microsoft_sql", tmp_path).dialect
    assert sql.limited("1", "[s] JOIN [t] old ON 1 = 1", 1) == "SELECT TOP 1 1 FROM [s] JOIN [t] old ON 1 = 1"
    assert sql.quote("a]b") == "[a]]b]"
    assert sql.update_from("[t]", "[s]", ["[a]"], ["[k]"]) == (
        "UPDATE old SET old.[a] = new.[a] FROM [t] old JOIN [s] new ON old.[k] = new.[k]"
    )
    assert f"SELECT epoch FROM [l]{sql.lock_hint} WHERE stream = ?" == (
        "SELECT epoch FROM [l] WITH (UPDLOCK, HOLDLOCK) WHERE stream = ?"
    )
    assert sql.locking == ""
    assert sql.create_table("IF NOT EXISTS [t]", ["a INT"], ()) == "CREATE TABLE [t] (a INT)"
    assert sql.key_type("NVARCHAR(max)") == "NVARCHAR(255) COLLATE Latin1_General_100_BIN2"
    assert sql.add_column == "ADD"
    backend = EXPERIMENTAL["mssql"]
    assert backend.temporary is not None
    assert backend.temporary("[#s]", "[a]", "[t]") == (
        "SELECT [a] INTO [#s] FROM [t] WHERE 1 = 0 UNION ALL SELECT [a] FROM [t] WHERE 1 = 0"
    )
    narrow, wide = Column("a", pa.int32(), "INTEGER"), Column("a", pa.int64(), "BIGINT")
    assert backend.retype("[t]", "[a]", narrow, wide) == ["ALTER TABLE [t] ALTER COLUMN [a] BIGINT"]


def test_the_statements_of_oracle(tmp_path: Path) -> None:
    sql = database("oracle", tmp_path).dialect
    assert sql.limited("1", '"t" old', 1) == 'SELECT 1 FROM "t" old FETCH FIRST 1 ROWS ONLY'
    assert sql.update_from('"t"', '"s"', ['"a"'], ['"k"']) == (
        'UPDATE "t" SET "a" = (SELECT new."a" FROM "s" new WHERE new."k" = "t"."k")'
        ' WHERE EXISTS (SELECT 1 FROM "s" new WHERE new."k" = "t"."k")'
    )
    assert sql.locking == " FOR UPDATE"
    assert [sql.own_type(each) for each in ("BIGINT", "VARCHAR(255)", "VARCHAR(64)")] == [
        "NUMBER(19, 0)",
        "VARCHAR2(255 CHAR)",
        "VARCHAR2(64 CHAR)",
    ]
    assert sql.unnamed == " "  # empty text is NULL
    assert [sql.key_type(each) for each in ("CLOB", "BLOB")] == ["VARCHAR2(255 CHAR)", "RAW(255)"]
    narrow, wide = Column("a", pa.int32(), "NUMBER(10, 0)"), Column("a", pa.int64(), "NUMBER(19, 0)")
    assert EXPERIMENTAL["oracle"].retype('"t"', '"a"', narrow, wide) == ['ALTER TABLE "t" MODIFY ("a" NUMBER(19, 0))']
    for name in ('a"b', "é" * 65, ""):
        with pytest.raises(BatchRefusedError):
            sql.quote(name)


@pytest.mark.parametrize(
    ("vendor", "declared", "type_", "value", "written", "sent"),
    [
        ("mssql", "DATETIME2(6)", pa.timestamp("us"), datetime.datetime(2026, 1, 2), "2026-01-02 00:00:00.000000", "CAST(:c AS DATETIME2(6))"),  # noqa: DTZ001, E501
        ("mssql", "NUMERIC(12, 2)", pa.decimal128(12, 2), Decimal("-1.50"), "-1.50", "CAST(:c AS NUMERIC(12, 2))"),
        ("mssql", "FLOAT(53)", pa.float64(), float("nan"), None, "CAST(:c AS FLOAT(53))"),
        ("mssql", "VARBINARY(max)", pa.binary(), b"\0", b"\0", "CAST(:c AS VARBINARY(max))"),
        ("oracle", "TIMESTAMP", pa.timestamp("us"), datetime.datetime(2026, 1, 2), "2026-01-02 00:00:00.000000", "to_timestamp(:c, 'YYYY-MM-DD HH24:MI:SS.FF6')"),  # noqa: DTZ001, E501
        ("oracle", "DATE /* api2db: date */", pa.date32(), datetime.date(2026, 1, 2), "2026-01-02", "to_date(:c, 'YYYY-MM-DD')"),  # noqa: E501
        ("oracle", "NUMBER(1, 0) /* api2db: boolean */", pa.bool_(), True, 1, ":c"),
        ("oracle", "CLOB", pa.string(), "x", "x", ":c"),
    ],
)  # fmt: skip
def test_values_are_written_as_text_that_the_server_converts_by_a_given_format(
    vendor: str, declared: str, type_: pa.DataType, value: Any, written: Any, sent: str
) -> None:
    backend, home = EXPERIMENTAL[vendor], Column("a", type_, declared)
    assert backend.values(pa.chunked_array([pa.array([value], type_)]), home) == [written]
    assert str(backend.sent(home, sa.bindparam("c"))) == sent


def test_each_column_type_is_read_back_as_a_type_that_holds_its_values() -> None:
    assert from_microsoft_sql("NUMERIC(38, 0)") == pa.decimal128(38, 0)
    assert from_microsoft_sql("TINYINT") == pa.uint8()  # without a sign there
    assert from_oracle("DATE") == pa.timestamp("s")  # has a time
    assert from_oracle("NUMBER(38, 4)") == pa.decimal128(38, 4)
    assert ORACLE.column(pa.time64("us")) == "VARCHAR2(20 CHAR) /* api2db: time */"  # has no type for a time of day
    assert MICROSOFT_SQL.column(pa.timestamp("ns", "UTC")) == "DATETIMEOFFSET(6)"


@pytest.mark.parametrize("dialect", ["microsoft_sql", "oracle"])
def test_a_server_that_does_not_answer_is_no_error_and_no_secret_is_told(
    dialect: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip({"microsoft_sql": "mssql_python", "oracle": "oracledb"}[dialect])
    stream = stream_into(dialect, tmp_path, port="1")
    assert not stream.connect()
    assert "can't be reached" in caplog.text
    assert "s3cr3t" not in caplog.text + repr(vars(stream))


def test_an_encryption_that_the_driver_can_not_give_is_refused(tmp_path: Path) -> None:
    for dialect, tls in (("oracle", "require"), ("oracle", "verify-full")):
        with pytest.raises(ConfigurationError, match="tls can be"):
            stream_into(dialect, tmp_path, tls=tls)


def test_explain_looks_for_names_as_the_table_was_made_with_them() -> None:
    oracle = sa.make_url("oracle+oracledb://").get_dialect()()
    written = str(_search("shop", "flights", {"id": "42"}, 5).compile(dialect=oracle))
    assert 'FROM "shop"."flights"' in written
    assert '"flights"."id"' in written
