"""Commands of the command line, forget and retry, carried out by the running owner or in its place."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from api2db import Stream2Local, Stream2Sql
from api2db.delivery._rejected import Rejects
from api2db.errors import Api2dbError, BacklogFullError, ConfigurationError
from api2db.journal import StreamIdentity, journal_store
from api2db.stream.commands import drop, forget, retry
from tests.journals.rejected import rejected_files
from tests.stream.cases import DATABASES, DIALECTS, execute, frame, rejected_rows, table_rows
from tests.stream.eventually import eventually

Make = Callable[..., Stream2Sql]


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(tmp_path: Path, dialect: str) -> Iterator[Make]:
    made: list[Stream2Sql] = []

    def make(**options: Any) -> Stream2Sql:
        made.append(Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path, **options))
        return made[-1]

    yield make
    for stream in made:
        stream.stop()


def reject_two_rows(stream: Stream2Sql, home: Path, dialect: str) -> str:
    """Make a table that refuses 2 and 3; return the file of rejected rows."""
    execute(home, dialect, "CREATE TABLE flights (id BIGINT CHECK (id NOT IN (2, 3)), text VARCHAR)")
    stream.stream(frame(1, 2, 3, 4))
    assert stream.status().rows_rejected == 2
    [file] = rejected_files(home)
    return file


def mend(home: Path, dialect: str) -> None:
    execute(home, dialect, "ALTER TABLE flights RENAME TO refusing")
    execute(home, dialect, "CREATE TABLE flights AS SELECT * FROM refusing")


@pytest.mark.parametrize("owner", ["running", "stopped"])
def test_retried_rows_are_in_the_mended_table_once_and_the_file_is_gone(
    owner: str, make: Make, dialect: str, tmp_path: Path
) -> None:
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    mend(tmp_path, dialect)
    if owner == "stopped":
        stream.stop()
    assert retry(tmp_path, file) == 2
    assert rejected_files(tmp_path) == []
    stream.start()
    assert stream.flush(20)
    assert sorted(row["id"] for row in table_rows(tmp_path, dialect)) == [1, 2, 3, 4]
    assert set(table_rows(tmp_path, dialect)[0]) == {"id", "text"}
    status = stream.status()
    assert (status.rows_rejected, status.rows_delivered) == (0, 4)
    with pytest.raises(Api2dbError, match="there is no file"):
        retry(tmp_path, file)


@pytest.mark.parametrize("owner", ["running", "stopped"])
def test_dropped_rows_are_gone_and_count_no_longer(owner: str, make: Make, dialect: str, tmp_path: Path) -> None:
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    if owner == "stopped":
        stream.stop()
    assert drop(tmp_path, file) == 2
    assert rejected_files(tmp_path) == []
    assert stream.status().rows_rejected == 0
    with pytest.raises(Api2dbError, match="there is no file"):
        drop(tmp_path, file)


@pytest.fixture
def stuck(journal_kind: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While this is set, no file of rejected rows can be removed."""
    if journal_kind == "nats":
        pytest.skip("the rejected rows are no file")
    is_stuck, real = threading.Event(), Path.unlink
    is_stuck.set()

    def unlink(path: Path, *arguments: Any, **options: Any) -> None:
        if is_stuck.is_set() and path.suffix == ".parquet":
            raise PermissionError(13, "planted")
        real(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    return is_stuck


@pytest.mark.every_journal
@pytest.mark.parametrize("owner", ["running", "stopped"])
@pytest.mark.parametrize("again", [retry, drop])
def test_rows_of_a_file_that_can_not_be_removed_are_not_put_twice(
    owner: str, again: Callable[..., int], make: Make, dialect: str, stuck: threading.Event, tmp_path: Path
) -> None:
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    mend(tmp_path, dialect)
    if owner == "stopped":
        stream.stop()
    assert retry(tmp_path, file) == 2
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="put again or dropped before"):
            again(tmp_path, file)
        assert stream.status().rows_rejected == 2, "the file is still there"
        stream.stop()
        stream.start()
    assert stream.flush(20)
    assert sorted(row["id"] for row in table_rows(tmp_path, dialect)) == [1, 2, 3, 4]
    stream.stop()
    stuck.clear()
    stream.start()
    assert rejected_files(tmp_path) == []
    assert stream.status().rows_rejected == 0


@pytest.mark.disk_journal
@pytest.mark.parametrize("command", [retry, drop])
def test_a_file_that_could_not_be_removed_is_removed_in_a_later_round(
    command: Callable[..., int],
    make: Make,
    dialect: str,
    stuck: threading.Event,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api2db.journal._housekeeping._ROUND_S", 0.05)
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    assert command(tmp_path, file) == 2
    assert rejected_files(tmp_path)[0] == file
    stuck.clear()
    eventually(lambda: file not in rejected_files(tmp_path))
    assert stream.flush(20)
    assert eventually(lambda: stream.status().rows_rejected == (2 if command is retry else 0))


@pytest.mark.every_journal
def test_rows_that_are_put_again_before_they_are_counted_count_once(
    make: Make, dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, real, retried = make(), Rejects._publish, list[int]()

    def publish(rejects: Rejects, checkpoint: Any) -> None:
        real(rejects, checkpoint)
        if not retried:
            mend(tmp_path, dialect)
            retried.append(retry(tmp_path, *rejected_files(tmp_path)))
            assert stream.status().rows_rejected == 0

    execute(tmp_path, dialect, "CREATE TABLE flights (id BIGINT CHECK (id NOT IN (2, 3)), text VARCHAR)")
    monkeypatch.setattr(Rejects, "_publish", publish)
    stream.start()
    stream.q.put(frame(1, 2, 3, 4))
    assert stream.flush(20)
    assert retried == [2]
    handle = stream._attachment.handle
    assert handle is not None
    assert stream.status().rows_rejected == 0
    stream.stop()
    assert stream.status().rows_rejected == 0
    stream.start()
    assert stream._attachment.reader is not None
    assert (stream._attachment.reader.delivered.rejected, stream._attachment.reader.delivered.rejected_bytes) == (0, 0)


def test_what_is_still_set_aside_beside_retried_rows_counts(make: Make, dialect: str, tmp_path: Path) -> None:
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    stream.stream(frame(2, 3))
    [kept] = set(rejected_files(tmp_path)) - {file}
    mend(tmp_path, dialect)
    stream.stop()
    assert retry(tmp_path, file) == 2
    assert stream.status().rows_rejected == 2
    handle = journal_store(tmp_path).open("flights")
    _, reader = handle.journal.attach(StreamIdentity(stream.identity, stream.stream_type))
    assert reader.delivered.rejected_bytes == len(journal_store(tmp_path).read_rejected(kept) or b"")
    handle.release()


def test_a_retry_that_the_quota_has_no_room_for_says_so_and_leaves_the_file(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    stream.stop()
    full = make(max_backlog_bytes=1)
    full.q.put(frame(9))
    failed: list[BaseException] = []

    def retry_again() -> None:
        try:
            retry(tmp_path, file)
        except BacklogFullError as error:
            failed.append(error)

    asking = threading.Thread(target=retry_again, daemon=True)
    asking.start()
    asking.join(30)
    assert len(failed) == 1
    assert rejected_files(tmp_path) == [file]


def test_rows_that_are_refused_again_are_set_aside_again(make: Make, dialect: str, tmp_path: Path) -> None:
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    assert retry(tmp_path, file) == 2
    assert stream.flush(20)
    [again] = eventually(lambda: rejected_files(tmp_path))
    assert again != file
    rows = rejected_rows(tmp_path, f"sql.{dialect}")
    assert [row["id"] for row in rows] == [2, 3]
    assert list(rows[0]) == ["id", "text", "_api2db_reason", "_api2db_frame_ns"]
    assert stream.status().rows_rejected == 2


def test_retried_rows_are_those_of_the_stream_that_they_were_rejected_by(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    stream, other = make(), Stream2Local("flights", home=tmp_path)
    other.start()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    mend(tmp_path, dialect)
    retry(tmp_path, file)
    assert stream.flush(20)
    assert other.flush(20)
    assert not (tmp_path / "STORE" / "flights").exists()
    other.stop()


@pytest.mark.parametrize(
    "file",
    [
        "x.parquet",
        "/etc/passwd",
        "STORE/rejected/../../../x",
        "STORE/rejected/flights/../../x.parquet",
        "STORE/a/b/c/d",
    ],
)
def test_a_file_elsewhere_is_not_retried(file: str, make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not a file of STORE/rejected"):
        retry(tmp_path, file)


@pytest.mark.disk_journal
@pytest.mark.parametrize("owner", ["running", "stopped"])
def test_a_file_that_no_stream_wrote_is_not_retried_and_stays(owner: str, make: Make, tmp_path: Path) -> None:
    stream = make()
    stream.stream(frame(1))
    folder = tmp_path / "STORE" / "rejected" / "flights" / stream.stream_type
    folder.mkdir(parents=True)
    pyarrow.parquet.write_table(pa.table({"id": [5]}), folder / "1.parquet")
    if owner == "stopped":
        stream.stop()
    with pytest.raises(Api2dbError, match="not written by a stream"):
        retry(tmp_path, f"STORE/rejected/flights/{stream.stream_type}/1.parquet")
    assert (folder / "1.parquet").exists()


def test_rows_of_a_stream_that_was_forgotten_are_not_retried(make: Make, dialect: str, tmp_path: Path) -> None:
    stream = make()
    stream.start()
    file = reject_two_rows(stream, tmp_path, dialect)
    stream.stop()
    forget(tmp_path, "flights", stream.identity)
    with pytest.raises(ConfigurationError, match="no longer has"):
        retry(tmp_path, file)
    assert rejected_files(tmp_path) == [file]


@pytest.mark.parametrize("owner", ["running", "stopped"])
def test_a_forgotten_stream_s_waiting_frames_are_dropped_and_those_of_others_not(
    owner: str, make: Make, dialect: str, tmp_path: Path
) -> None:
    stream, other = make(), make(table="other")
    for each in (stream, other):
        each.q.put(frame(1))
        each.stop()
    if owner == "running":
        other.start()
    forget(tmp_path, "flights", stream.identity)
    assert eventually(lambda: stream.status().frames_waiting == 0)
    stream.start()
    other.start()
    stream.q.put(frame(2))
    assert stream.flush(20)
    assert other.flush(20)
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [2]
    assert [row["id"] for row in table_rows(tmp_path, dialect, "other")] == [1]


def test_a_stream_that_runs_is_not_forgotten(make: Make, dialect: str, tmp_path: Path) -> None:
    stream = make()
    stream.start()
    with pytest.raises(Api2dbError, match="running"):
        forget(tmp_path, "flights", stream.identity)
    stream.stream(frame(1))
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1]


@pytest.mark.parametrize("owner", ["running", "stopped"])
def test_an_unknown_stream_or_collector_is_named(owner: str, make: Make, tmp_path: Path) -> None:
    stream = make()
    stream.start()
    if owner == "stopped":
        stream.stop()
    with pytest.raises(Api2dbError, match="no stream is named 'nobody'"):
        forget(tmp_path, "flights", "nobody")
    with pytest.raises(ConfigurationError, match="no journal of a collector 'arrivals'"):
        forget(tmp_path, "arrivals", "nobody")
    assert not (tmp_path / "STORE" / "journal" / "arrivals").exists()


def test_a_column_that_is_named_as_the_reason_is_kept_beside_it_and_put_again(
    make: Make, dialect: str, tmp_path: Path
) -> None:
    with make() as stream:
        stream.stream(frame(1))
        stream.stream(pd.DataFrame({"id": ["x"], "_api2db_reason": ["mine"]}))
        stream.stream(frame(2))
    assert stream.status().rows_rejected == 1
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1, 2]
    [row] = rejected_rows(tmp_path, f"sql.{dialect}")
    assert list(row) == ["id", "own_api2db_reason", "_api2db_reason", "_api2db_frame_ns"]
    assert row["own_api2db_reason"] == "mine"
    assert "does not fit" in row["_api2db_reason"]
    [file] = rejected_files(tmp_path)
    assert retry(tmp_path, file) == 1
    stream.start()
    assert stream.flush(20)
    [again] = eventually(lambda: rejected_rows(tmp_path, f"sql.{dialect}"))
    assert list(again) == list(row), "it was put again under its own name"
    assert again["own_api2db_reason"] == "mine"
