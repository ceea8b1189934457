"""Servers that forbid LOCAL: rows are sent by multi-row INSERT, the same values arrive, and the log says so once."""

import datetime
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api2db import Stream2Sql
from tests.servers.server import Server

TEXTS = ["", "NULL", "\\N", "\\", "'", '"', "a\nb\r\n\tc", "%s %(id)s ?", "é名🐘", "\\'; DROP TABLE canary; --", None]
DAY = datetime.datetime(2026, 2, 28, 1, 2, 3, 456789)  # noqa: DTZ001 - a column without a zone
COLUMNS: dict[str, pa.Array] = {
    "id": pa.array(range(11), pa.int64()),
    "text": pa.array(TEXTS),
    "bytes": pa.array([b"\0\xff'\\\"\n", b"", *[b"x"] * 8, None]),
    "float": pa.array([0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1e22, 123456789.12345679, 2**53, 1, -1, None]),
    "single": pa.array([0.1, 1 / 3, *[1.5] * 8, None], pa.float32()),
    "large": pa.array([2**64 - 1, 0, *[2**63] * 8, None], pa.uint64()),
    "small": pa.array([-(2**63), 2**63 - 1, *[0] * 8, None], pa.int64()),
    "decimal": pa.array(
        [Decimal("1.10"), Decimal("-" + "9" * 30 + ".99"), *[Decimal(0)] * 8, None], pa.decimal128(38, 2)
    ),
    "flag": pa.array([True, False, *[True] * 8, None]),
    "date": pa.array([datetime.date(1000, 1, 1), datetime.date(9999, 12, 31), *[DAY.date()] * 8, None]),
    "time": pa.array([datetime.time(23, 59, 59, 999999), datetime.time(0), *[DAY.time()] * 8, None]),
    "naive": pa.array([DAY, *[DAY] * 9, None], pa.timestamp("us")),
    "zoned": pa.array([DAY.replace(tzinfo=datetime.UTC)] * 10 + [None], pa.timestamp("us", "UTC")),
    "delta": pa.array([datetime.timedelta(days=-1, microseconds=1)] * 10 + [None], pa.duration("us")),
    "list": pa.array([[1, 2, 2**53 + 1], [], *[[0]] * 8, None], pa.list_(pa.int64())),
    "struct": pa.array([{"a": text} for text in TEXTS], pa.struct([("a", pa.string())])),
}


@pytest.fixture(params=["mariadb", "mysql"])
def forbidding(request: pytest.FixtureRequest) -> Iterator[Server]:
    server: Server = request.getfixturevalue(request.param)
    yield server
    server.execute("SET GLOBAL local_infile = 1")


def arrived(server: Server, home: Path, table: str, *frames: pa.Table) -> list[tuple[Any, ...]]:
    who: dict[str, Any] = {
        "username": server.user,
        "password": server.password,
        "host": server.host,
        "port": str(server.port),
    }
    with Stream2Sql("flights", "without local", server.kind, table=table, home=home / table, **who) as stream:
        for frame in frames:
            stream.q.put(frame)
            assert stream.flush(30)
        assert stream.status().rows_rejected == 0
    with closing(server.client("without local", init_command="SET time_zone = '+00:00'")) as client:
        cursor = client.cursor()
        cursor.execute(f"SELECT * FROM {table} ORDER BY id")
        return list(cursor.fetchall())


def test_the_same_values_arrive_and_it_is_said_once(
    forbidding: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = pa.table(COLUMNS)
    with_local = arrived(forbidding, tmp_path, "loaded", frame)
    assert "LOCAL" not in caplog.text
    forbidding.execute("SET GLOBAL local_infile = 0")
    without = arrived(forbidding, tmp_path, "inserted", frame.slice(0, 5), frame.slice(5, 3), frame.slice(8))
    assert without == with_local
    assert [row[1] for row in without] == TEXTS
    assert [row[3] for row in without] == COLUMNS["float"].to_pylist()
    assert [row[2] for row in without] == COLUMNS["bytes"].to_pylist()
    said = [record.getMessage() for record in caplog.records if "LOCAL" in record.getMessage()]
    assert len(said) == 1
    assert "multi-row INSERT" in said[0]


def test_a_thousand_rows_and_more_go_in_statements_that_the_server_takes(forbidding: Server, tmp_path: Path) -> None:
    forbidding.execute("SET GLOBAL local_infile = 0")
    frame = pa.table({"id": pa.array(range(5_000)), "text": ["x" * 500] * 5_000})
    assert [row[0] for row in arrived(forbidding, tmp_path, "many", frame)] == list(range(5_000))
