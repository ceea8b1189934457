"""Overridden stream methods: each gets each frame at least once, in order, and may pass on any frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Stream, Stream2Bigquery, Stream2Local, Stream2Sql
from api2db.errors import StreamDiedError
from api2db.targets.bigquery import _stream as write_stream
from tests.stream.bigqueries import DATASET, target_of_bigquery, use_bigquery
from tests.stream.cases import DATABASES, DIALECTS, execute, frame, query, rejected_rows, shards, table_rows
from tests.stream.eventually import eventually


class Collecting(Stream):
    """A stream without a target of its own, which fails as often as it is told."""

    def __init__(self, home: Path, failures: int = 0) -> None:
        super().__init__("flights", stream_type="collecting", home=home)
        self.seen: list[pd.DataFrame] = []
        self.failures = failures

    def stream(self, data: pd.DataFrame) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("not now")
        self.seen.append(data)

    @property
    def ids(self) -> list[int]:
        return [number for each in self.seen for number in each["id"]]


def test_an_overridden_stream_gets_each_frame_in_order_as_it_was_put(tmp_path: Path) -> None:
    with Collecting(tmp_path) as stream:
        for number in range(5):
            stream.q.put(frame(number, number + 10))
    assert len(stream.seen) == 5
    for number, seen in enumerate(stream.seen):
        pd.testing.assert_frame_equal(seen, frame(number, number + 10))
    assert (stream.status().frames_delivered, stream.status().rows_delivered) == (5, 10)


def test_a_row_with_half_a_surrogate_pair_is_set_aside_and_the_method_gets_its_neighbours(tmp_path: Path) -> None:
    with Collecting(tmp_path) as stream:
        stream.q.put([{"id": 1, "t": "a"}, {"id": 2, "t": "\ud800"}, {"id": 3, "t": "c"}])
    assert stream.ids == [1, 3]
    [row] = rejected_rows(tmp_path, "collecting")
    assert (row["id"], row["t"]) == (2, "\\ud800")
    status = stream.status()
    assert (status.frames_delivered, status.rows_delivered, status.rows_rejected) == (1, 2, 1)


def test_a_frame_that_the_method_raised_on_comes_again_before_those_behind_it(tmp_path: Path) -> None:
    stream = Collecting(tmp_path, failures=3)
    for number in range(3):
        stream.q.put(frame(number))
    stream.start()
    assert stream.flush(20)
    stream.stop()
    assert stream.ids == [0, 1, 2]


def test_what_a_method_keeps_raising_on_is_told_and_parked_and_not_lost(tmp_path: Path) -> None:
    stream = Collecting(tmp_path, failures=10**9)
    stream.q.put(frame(1, 2))
    stream.start()
    assert "not now" in eventually(lambda: stream.status().last_error or "")
    assert eventually(lambda: stream.status().rows_parked) == 2
    stream.failures = 0
    stream.check_failures()
    assert stream.flush(20)
    assert stream.ids == [1, 2]
    assert eventually(lambda: not stream.status().rows_parked)
    stream.stop()


class Leaking(Stream):
    """Raises errors that contain what a library put into them."""

    def stream(self, _: pd.DataFrame) -> None:
        raise RuntimeError("GET https://example.org/rows?api_key=canary-7c1f failed, Authorization: Bearer canary-7c1f")


def test_a_secret_in_what_a_method_raises_is_in_no_log_line_status_or_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Leaking("flights", stream_type="leaking", home=tmp_path)
    stream.q.put(frame(1))
    stream.start()
    assert "GET https://example.org/rows" in eventually(lambda: stream.status().last_error or "")
    stream.stop()
    assert "GET https://example.org/rows" in caplog.text
    assert "canary" not in caplog.text + str(stream.status())
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"canary" in path.read_bytes()] == []


def test_a_method_that_ends_the_program_is_told_without_its_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Ending(Stream):
        def stream(self, data: pd.DataFrame) -> None:
            raise SystemExit("refused: password='s3cret'")

    stream = Ending("flights", home=tmp_path)
    stream.q.put(frame(1))
    stream.start()
    said = eventually(lambda: stream.status().last_error or "")
    with pytest.raises(StreamDiedError, match="refused") as died:
        stream.q.put(frame(2))
    stream.stop()
    assert "refused" in said
    assert "in stream" in caplog.text, "the log says where it was raised"
    for told in (said, caplog.text, str(died.value)):
        assert "s3cret" not in told


def test_an_overridden_stream_goes_on_where_it_ended(tmp_path: Path) -> None:
    with Collecting(tmp_path) as first:
        first.q.put(frame(1))
    first.q.put(frame(2))
    first.stop()
    with Collecting(tmp_path) as second:
        pass
    assert (first.ids, second.ids) == ([1], [2])


class Doubling(Stream2Sql):
    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        super().stream(data.assign(double=data["id"] * 2), retry_depth)


class Splitting(Stream2Sql):
    """Passes on two frames for one, or none."""

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        for remainder in (0, 1):
            part = data[data["id"] % 2 == remainder]
            if len(part):
                super().stream(part.rename(columns={"text": f"text_{remainder}"}))


class Retyping(Stream2Sql):
    """Passes on frames that have no common schema."""

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        super().stream(data)
        super().stream(pd.DataFrame({"id": ["no number"]}))


Make = Callable[..., Any]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_subclass_of_stream2sql_hands_on_is_in_its_table(dialect: str, tmp_path: Path) -> None:
    with Doubling("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(frame(1, 2))
        stream.q.put(frame(3))
    rows = table_rows(tmp_path, dialect)
    assert [(row["id"], row["text"], row["double"]) for row in rows] == [
        (1, "row 1", 2),
        (2, "row 2", 4),
        (3, "row 3", 6),
    ]
    assert stream.status().frames_delivered == 2


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_method_may_hand_on_several_frames_or_none(dialect: str, tmp_path: Path) -> None:
    with Splitting("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(frame(1, 2, 3))
        stream.q.put(frame())
        stream.q.put(frame(4))
    rows = table_rows(tmp_path, dialect)
    assert [row["id"] for row in rows] == [2, 1, 3, 4]
    assert [row["text_0"] for row in rows] == ["row 2", None, None, "row 4"]
    assert stream.status().frames_delivered == 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_was_handed_on_and_does_not_fit_is_rejected_with_its_reason(dialect: str, tmp_path: Path) -> None:
    with Retyping("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(frame(1))
        stream.q.put(frame(2))
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1, 2]
    assert [row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")] == ["no number"] * 2


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_a_large_frame_that_was_handed_on_much_may_be_refused(dialect: str, tmp_path: Path) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT CHECK (id % 3 <> 1), text VARCHAR, double BIGINT)")
    with Doubling("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(frame(*range(150)))
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [n for n in range(150) if n % 3 != 1]
    assert sorted(row["id"] for row in rejected_rows(tmp_path, f"sql.{dialect}")) == list(range(1, 150, 3))
    status = stream.status()
    assert (status.frames_delivered, status.rows_delivered, status.rows_rejected) == (1, 100, 50)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_load_of_a_subclass_steps_the_ledger(dialect: str, tmp_path: Path) -> None:
    with Doubling("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(frame(1))
        stream.q.put(frame(2))
    assert query(tmp_path, dialect, "SELECT loaded FROM _api2db_ledger") == [(2,)]


class Sharding(Stream2Local):
    """Passes on two frames for one, with different widths of columns."""

    def stream(self, data: pd.DataFrame) -> None:
        super().stream(data.head(1))
        super().stream(data.tail(-1).astype({"id": "Int32"}).assign(more=1))


def test_what_a_subclass_of_stream2local_hands_on_for_one_frame_is_one_shard(tmp_path: Path) -> None:
    with Sharding("flights", home=tmp_path) as stream:
        stream.q.put(frame(1, 2, 3))
        stream.q.put(frame(4, 5))
    found = [pd.read_parquet(path) for path in shards(tmp_path, "parquet")]
    assert [list(each["id"]) for each in found] == [[1, 2, 3], [4, 5]]
    assert [each["more"].fillna(0).tolist() for each in found] == [[0, 1, 1], [0, 1]]
    assert stream.status().frames_delivered == 2


class Failing(Stream2Sql):
    failures = 3

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        super().stream(data)
        if type(self).failures:
            type(self).failures -= 1
            raise ValueError("behind the hand-over")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_was_handed_on_before_the_method_raised_is_not_loaded(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failing, "failures", 3)
    with Failing("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(frame(1))
        stream.q.put(frame(2))
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1, 2]
    assert stream.status().last_error is None


class Negating(Stream2Sql):
    """Passes on each frame without its text, and then negated with it."""

    def __init__(self, home: Path, dialect: str) -> None:
        super().__init__("flights", DATABASES[dialect], dialect, home=home)
        self.calls = 0

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        self.calls += 1
        super().stream(data[["id"]])
        super().stream(data.assign(id=-data["id"]))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_of_two_frames_of_which_one_lacks_a_column_with_a_default_both_are_loaded_once(
    dialect: str, tmp_path: Path
) -> None:
    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT, text VARCHAR(20) DEFAULT 'none')")
    stream = Negating(tmp_path, dialect)
    stream.q.put(frame(1, 2))
    stream.q.put(frame(3))
    stream.start()
    assert stream.flush(20), stream.status()
    stream.stop()
    rows = [(row["id"], row["text"]) for row in table_rows(tmp_path, dialect)]
    assert rows == [(1, "none"), (2, "none"), (-1, "row 1"), (-2, "row 2"), (3, "none"), (-3, "row 3")]
    assert stream.calls == 2
    assert (stream.status().frames_delivered, stream.status().rows_delivered) == (2, 6)


class Renaming(Stream2Sql):
    """Passes on each frame twice, with names that are one column to a database."""

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        super().stream(data)
        super().stream(data.rename(columns={"text": "TEXT"}))


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_of_two_frames_that_have_no_common_table_both_are_loaded_once(dialect: str, tmp_path: Path) -> None:
    stream = Renaming("flights", DATABASES[dialect], dialect, home=tmp_path)
    stream.q.put(frame(1, 2))
    stream.start()
    assert stream.flush(20), stream.status()
    stream.stop()
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1, 2, 1, 2]
    assert [row["text"] for row in table_rows(tmp_path, dialect)] == ["row 1", "row 2"] * 2


@pytest.mark.disk_journal
def test_a_frame_whose_last_slice_is_damaged_on_disk_does_not_stop_the_stream(tmp_path: Path) -> None:
    stream = Doubling("flights", DATABASES["sqlite"], "sqlite", home=tmp_path)
    stream.q.put(pd.DataFrame({"id": range(300_000)}))
    stream.q.put(pd.DataFrame({"id": [-1]}))
    stream.stop()
    [path] = (tmp_path / "STORE" / "journal" / "flights").glob("*.segment")
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index((299_000).to_bytes(8, "little") + (299_001).to_bytes(8, "little"))] ^= 0x10
    path.write_bytes(damaged)
    again = Doubling("flights", DATABASES["sqlite"], "sqlite", home=tmp_path)
    again.start()
    assert again.flush(20), again.status()
    again.stop()
    ids = [row["id"] for row in table_rows(tmp_path, "sqlite")]
    assert ids == [*range(len(ids) - 1), -1]
    assert 200_000 < len(ids) < 299_000


class Sorting(Stream2Bigquery):
    """Passes on each frame in another order."""

    calls = 0

    def stream(self, data: pd.DataFrame, retry_depth: int = 5) -> None:
        self.calls += 1
        super().stream(data.sort_values("id", ascending=False))


def test_what_was_handed_on_to_bigquery_is_in_its_table_once_though_requests_fail(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_stream, "_REQUEST_BYTES", 1_000)
    server = use_bigquery(request)
    stream = Sorting("flights", home=tmp_path, **target_of_bigquery(server))
    server.faults.fail("AppendRows", "before", chance=0.05)
    server.faults.fail("AppendRows", "after", chance=0.05)
    stream.q.put(frame(*range(1_000)))
    stream.q.put(frame(1_000))
    stream.start()
    assert stream.flush(30), stream.status()
    stream.stop()
    assert server.faults.met["AppendRows"] >= 1
    assert stream.calls == 2
    assert [row["id"] for row in server.rows(DATASET, "flights")] == [*range(999, -1, -1), 1_000]


def test_a_subclass_that_overrides_nothing_is_as_its_base(tmp_path: Path) -> None:
    class Mine(Stream2Local):
        pass

    with Mine("flights", home=tmp_path) as stream:
        stream.q.put(frame(1))
    assert len(shards(tmp_path, "parquet")) == 1


def test_to_call_an_overridden_method_oneself_hands_on_to_the_journal(tmp_path: Path) -> None:
    with Doubling("flights", DATABASES["sqlite"], "sqlite", home=tmp_path) as stream:
        stream.stream(frame(1))
    assert len(table_rows(tmp_path, "sqlite")) == 1
