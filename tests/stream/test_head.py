"""``head``: the newest rows of each target, in types that pandas has for them."""

import datetime
import decimal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from api2db import Collector, Stream, Stream2Local, Stream2Sql
from api2db.errors import ConfigurationError
from tests.stream.cases import COLLECTOR, TargetCase, bigquery, files, frame, making, omnisci, sql
from tests.stream.databases import DATABASES, execute
from tests.stream.eventually import eventually

BY_ARRIVAL = (
    *(sql(dialect) for dialect in ("duckdb", "sqlite", "postgresql", "mariadb", "mysql")),
    *(sql(dialect, keys=["id"]) for dialect in ("duckdb", "sqlite", "postgresql", "mariadb", "mysql")),
    omnisci(),
    files("shard", "parquet"),
    files("shard", "csv"),
    files("update", "json"),
)
BY_COLUMN = (bigquery(), bigquery(keys=["id"]))
NAIVE = datetime.datetime(2026, 1, 31, 12, 30, 15, 123456)  # noqa: DTZ001 - it has no zone
ROW: dict[str, Any] = {
    "id": 2**53 + 1,
    "part": 0.1,
    "text": 'a "b" ünï',
    "yes": True,
    "at": NAIVE,
    "zoned": NAIVE.replace(tzinfo=datetime.UTC),
    "day": datetime.date(2026, 1, 31),
    "price": decimal.Decimal("12.34"),
    "nested": {"a": [1, None]},
}


LOST = {"omnisci": ("zoned", "price", "nested"), "update_json": ("price",)}  # docs/types.md says how


@pytest.fixture(params=[*BY_ARRIVAL, *BY_COLUMN], ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> TargetCase:
    assert isinstance(request.param, TargetCase)
    return request.param.use(request)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Stream]]:
    with making(tmp_path) as make:
        yield make


def by_of(case: TargetCase) -> str | None:
    return "id" if case.stream_type == "bigquery" else None


def put(stream: Stream, *frames: Any) -> None:
    stream.start()
    for each in frames:
        stream.q.put(each)
        assert stream.flush(30)


def test_the_newest_rows_come_first_while_the_stream_runs(case: TargetCase, make: Callable[..., Stream]) -> None:
    stream = make(case)
    assert stream.head().empty
    put(stream, frame(1, 2, 3), frame(4, 5), frame(6))
    found = stream.head(4, by=by_of(case))
    assert found["id"].tolist() == [6, 5, 4, 3]
    assert found["text"].tolist() == ["row 6", "row 5", "row 4", "row 3"]
    assert list(found.columns) == ["id", "text"]
    assert len(stream.head(by=by_of(case))) == 5
    assert len(stream.head(100, by="id")) == 6
    assert stream.head(0, by="id").empty
    stream.stop()
    assert stream.head(1, by=by_of(case))["id"].tolist() == [6]


def test_types_are_those_that_pandas_has(case: TargetCase, make: Callable[..., Stream]) -> None:
    stream = make(case)
    put(stream, [ROW, {"id": 5}])
    found = stream.head(2, by="id").iloc[0]
    wanted = {name: value for name, value in ROW.items() if name not in LOST.get(case.name, ())}
    for name, value in wanted.items():
        assert found[name] == value, (name, found[name], type(found[name]))
    assert isinstance(found["at"], pd.Timestamp)
    assert stream.head(2, by="id")["at"].dtype.kind == "M"


def test_an_unknown_column_is_refused_with_those_that_there_are(case: TargetCase, make: Callable[..., Stream]) -> None:
    stream = make(case)
    put(stream, frame(1))
    with pytest.raises(ConfigurationError, match=r"no column 'none'.*id, text"):
        stream.head(by="none")


def test_a_table_without_an_order_needs_a_column(request: pytest.FixtureRequest, make: Callable[..., Stream]) -> None:
    stream = make(bigquery().use(request))
    put(stream, frame(1, 3, 2))
    with pytest.raises(ConfigurationError, match="head"):
        stream.head()
    stream.newest_by = "id"
    assert stream.head(2)["id"].tolist() == [3, 2]


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_a_primary_key_of_the_users_gives_the_order_only_where_it_counts(
    request: pytest.FixtureRequest, make: Callable[..., Stream], tmp_path: Path, dialect: str
) -> None:
    stream = make(sql(dialect).use(request))
    put(stream, frame(1))
    execute(tmp_path, dialect, f"DROP TABLE {COLLECTOR}")
    execute(tmp_path, dialect, f"CREATE TABLE {COLLECTOR} (id BIGINT PRIMARY KEY, text LONGTEXT)")
    put(stream, frame(9, 3))
    with pytest.raises(ConfigurationError, match="by="):
        stream.head()
    execute(tmp_path, dialect, f"DROP TABLE {COLLECTOR}")
    counted = "number BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT, text LONGTEXT"
    execute(tmp_path, dialect, f"CREATE TABLE {COLLECTOR} ({counted})")
    put(stream, frame(9, 3))
    assert stream.head(1)["id"].tolist() == [3]


@pytest.mark.parametrize("dialect", ["duckdb", "sqlite", "postgresql", "mysql"])
def test_nothing_is_created_by_looking(
    request: pytest.FixtureRequest, make: Callable[..., Stream], tmp_path: Path, dialect: str
) -> None:
    case = sql(dialect).use(request)
    options = {"db_name": "nobody_made_it"} if dialect not in DATABASES else {}
    for _ in range(2):
        assert make(case, **options).head().empty
    assert list(tmp_path.iterdir()) == []


def test_a_duckdb_file_that_another_process_holds_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    with Stream2Sql("flights", "flights.duckdb", "duckdb", home=tmp_path) as stream:
        stream.q.put(frame(1))
    eventually(lambda: not (tmp_path / "flights.duckdb.wal").exists())
    with holder_of(tmp_path / "flights.duckdb"):
        assert stream.head()["id"].tolist() == [1]


@contextmanager
def holder_of(path: Path) -> Iterator[None]:
    """A process that has a file open for some tenths of a second."""
    program = f"import duckdb, time; c = duckdb.connect({str(path)!r}); print('held', flush=True); time.sleep(0.5)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield
    process.communicate()


def test_dates_beyond_those_of_python_become_timestamps(tmp_path: Path) -> None:
    with Stream2Sql("far", "far.duckdb", "duckdb", home=tmp_path) as stream:
        stream.q.put([{"id": 1, "day": datetime.date(2026, 1, 1)}])
    with duckdb.connect(str(tmp_path / "far.duckdb")) as connection:
        connection.execute("INSERT INTO far VALUES (2, DATE '12345-01-01')")
    assert str(stream.head()["day"].iloc[0])[:5] == "12345"


def test_shards_of_different_types_are_read_together(tmp_path: Path) -> None:
    with Stream2Local("mixed", home=tmp_path) as stream:
        for value in (1, 2.5, "three"):
            stream.q.put([{"value": value}])
            assert stream.flush(20)
    assert [str(value) for value in stream.head()["value"]] == ["three", "2.5", "1"]


def test_a_stream_of_a_cursor_knows_what_to_sort_by(tmp_path: Path) -> None:
    class Polled:
        cursor_column = "changed_at"

        def __call__(self) -> None:
            return None

    stream = Stream2Sql("orders", "orders.sqlite", "sqlite", home=tmp_path)
    Collector("orders", 1, Polled(), [stream])
    assert stream.newest_by == "changed_at"


def test_a_stream_without_a_target_has_no_rows_to_look_at(tmp_path: Path) -> None:
    class Own(Stream):
        def stream(self, data: pd.DataFrame) -> None:
            return None

    with pytest.raises(ConfigurationError, match="no target of its own"):
        Own("own", home=tmp_path).head()
