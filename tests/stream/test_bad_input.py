"""Bad input: each case gets a clear typed error, loses nothing, and writes nothing outside the home."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api2db import Stream, Stream2Local, Stream2Sql
from api2db.errors import ConfigurationError, FrameError, InvalidNameError, JournalWriteError
from tests.faults.disks import small_disk
from tests.stream.cases import DATABASES, DIALECTS, execute, frame, query, rejected_rows, shards, table_rows
from tests.stream.eventually import eventually

ROOT = Path(__file__).parents[2]
MAKERS: dict[str, Callable[..., Stream]] = {
    "Stream": lambda name, home: Stream(name, home=home),
    "Stream2Local": lambda name, home: Stream2Local(name, home=home),
    "sqlite": lambda name, home: Stream2Sql(name, "x.sqlite", "sqlite", home=home),
    "duckdb": lambda name, home: Stream2Sql(name, "x.duckdb", "duckdb", home=home),
}
NAMES = [
    "../x",
    "a/b",
    "/etc/x",
    "..",
    ".",
    "",
    ".hidden",
    "a\0b",
    "x" * 300,
    "é" * 100,
    "a\\b",
    "a\nb",
    " a",
    "\ud800",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("make", MAKERS)
def test_a_collector_s_name_that_could_leave_the_home_is_refused(make: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidNameError, match="can't name a collector") as caught:
        MAKERS[make](name, tmp_path / "home")
    assert isinstance(caught.value, ValueError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [None, 1, b"bytes", Path("x")], ids=repr)
def test_a_name_that_is_no_text_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidNameError):
        Stream2Local(name, home=tmp_path)


@pytest.mark.parametrize("name", ["x" * 120, "é" * 60, "a b", "a.b", "%s", 'a"b', "a'b; --", "😀", "select"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_other_name_works(dialect: str, name: str, tmp_path: Path) -> None:
    with (
        Stream2Sql(name, DATABASES[dialect], dialect, home=tmp_path) as one,
        Stream2Local(name, home=tmp_path) as other,
    ):
        one.q.put(frame(1))
        other.q.put(frame(1))
    quoted = '"' + name.replace('"', '""') + '"'
    assert query(tmp_path, dialect, f"SELECT id FROM {quoted}") == [(1,)]
    assert len(list((tmp_path / "STORE" / name / "parquet").iterdir())) == 1


NO_FRAMES = [None, 1, "text", b"bytes", {"id": [1]}, {1, 2}, pd.Series([1]), np.arange(3), [1, 2], object()]


@pytest.mark.parametrize("what", NO_FRAMES, ids=lambda what: type(what).__name__)
def test_what_is_no_frame_is_refused_by_the_put_and_nothing_is_stored(what: object, tmp_path: Path) -> None:
    stream = Stream2Local("flights", home=tmp_path)
    for put in (stream.q.put, stream.q.put_nowait):
        with pytest.raises(FrameError) as caught:
            put(what)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)
    assert stream.status().frames_waiting == 0
    stream.stop()


BAD_FRAMES = {
    "two columns of one name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "two columns of one name in Arrow": pa.table([[1], [2]], names=["a", "a"]),
    "an index of a column's name": pd.DataFrame({"a": [1]}, index=pd.Index([1], name="a")),
    "columns of levels": pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
    "complex numbers": pd.DataFrame({"a": [1j]}),
    "a name of half a surrogate pair": pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)),
    "a function": pd.DataFrame({"a": [print]}),
}


@pytest.mark.parametrize("what", BAD_FRAMES)
def test_a_frame_that_no_table_holds_is_refused_by_the_put_and_the_next_is_delivered(what: str, tmp_path: Path) -> None:
    with Stream2Local("flights", home=tmp_path) as stream:
        with pytest.raises(FrameError):
            stream.q.put(BAD_FRAMES[what])
        stream.q.put(frame(1))
    assert len(shards(tmp_path, "parquet")) == 1
    assert stream.status().frames_delivered == 1


def test_a_stream_without_a_target_takes_no_frame_that_nothing_could_deliver(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no target: inherit from it"):
        Stream("flights", home=tmp_path).q.put(frame(1))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_below_a_file_s_folder_is_told_with_the_folder_and_what_to_do(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        stream = Stream2Local("flights", path=str(disk / "shards"), home=tmp_path / "home")
        stream.start()
        try:
            stream.q.put(pd.DataFrame({"id": range(300_000), "text": np.random.default_rng(1).random(300_000)}))
            said = eventually(lambda: stream.status().last_error or "")
            assert f"{disk / 'shards'} can't be written: No space left on device; free space" in said
        finally:
            stream.stop()


HALF = [{"id": 1, "t": "a"}, {"id": 2, "t": "x\ud800"}, {"id": 3, "t": "c"}, {"id": 4, "t": {"k": ["\udfff"]}}]
TEXTS = pd.Index(["a", "x\ud800", "c"], dtype=object)
HALVES: dict[str, Any] = {
    "rows": HALF,
    "a DataFrame": pd.DataFrame({"id": [1, 2, 3, 4], "t": pd.Series([row["t"] for row in HALF], dtype=object)}),
    "categories": pd.DataFrame({"id": [1, 2, 3], "t": pd.Categorical.from_codes([0, 1, 2], TEXTS)}),
    "an index": pd.DataFrame({"id": [1, 2, 3]}, index=TEXTS.rename("t")),
    "no other row": HALF[1:2],
}


@pytest.mark.parametrize("what", HALVES)
@pytest.mark.parametrize("owner", ["running", "started after the put"])
def test_a_row_with_half_a_surrogate_pair_is_set_aside_with_the_reason_and_its_neighbours_go_in(
    what: str, owner: str, tmp_path: Path
) -> None:
    there = HALVES[what]
    odd = [2, 4] if len(there) == 4 else [2]
    stream = Stream2Sql("flights", DATABASES["sqlite"], "sqlite", home=tmp_path)
    if owner == "running":
        stream.start()
    stream.q.put([{"id": 0, "t": "before"}])
    stream.q.put(there)
    stream.q.put([{"id": 9, "t": "after"}])
    with stream:
        assert stream.flush(20)
    neighbours = [1, 3] if len(there) > 1 else []
    assert [row["id"] for row in table_rows(tmp_path, "sqlite")] == [0, *neighbours, 9]
    rejected = rejected_rows(tmp_path, "sql.sqlite")
    assert [row["id"] for row in rejected] == odd
    assert "\\ud800" in str(rejected[0]["t"])
    assert all(row["_api2db_reason"].startswith("the text in 't' holds half of a surrogate pair") for row in rejected)
    status = stream.status()
    assert (status.frames_delivered, status.frames_waiting, status.rows_rejected) == (3, 0, len(odd))


@pytest.mark.parametrize("mode", ["shard", "update", "replace"])
def test_a_file_gets_the_neighbours_of_a_row_with_half_a_surrogate_pair(mode: Any, tmp_path: Path) -> None:
    stream = Stream2Local("flights", mode=mode, home=tmp_path)
    stream.q.put(frame(7))
    stream.q.put(HALF)
    with stream:
        assert stream.flush(20)
    single = tmp_path / "CACHE" / "flights_static.parquet"
    files = shards(tmp_path, "parquet") if mode == "shard" else [single]
    found = [number for path in files for number in pd.read_parquet(path)["id"]]
    assert found == ([1, 3] if mode == "replace" else [7, 1, 3])
    assert [row["id"] for row in rejected_rows(tmp_path, "local")] == [2, 4]


def test_a_table_that_is_replaced_has_the_neighbours_of_a_row_with_half_a_surrogate_pair(tmp_path: Path) -> None:
    stream = Stream2Sql("flights", DATABASES["sqlite"], "sqlite", if_exists="replace", home=tmp_path)
    stream.q.put([{"id": 7, "t": "x"}])
    stream.q.put(HALF)
    with stream:
        assert stream.flush(20)
    assert [row["id"] for row in table_rows(tmp_path, "sqlite")] == [1, 3]
    assert [row["id"] for row in rejected_rows(tmp_path, "sql.sqlite")] == [2, 4]
    assert stream.status().rows_superseded == 1


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_column_whose_name_no_database_holds_is_rejected_with_its_reason(
    dialect: str, name: str, tmp_path: Path
) -> None:
    with Stream2Sql("flights", DATABASES[dialect], dialect, home=tmp_path) as stream:
        stream.q.put(frame(1))
        stream.q.put(pd.DataFrame({"id": [2], name: ["x"]}))
        stream.q.put(frame(3))
    assert [row["id"] for row in table_rows(tmp_path, dialect)] == [1, 3]
    [row] = rejected_rows(tmp_path, f"sql.{dialect}")
    assert (row["id"], row[name]) == (2, "x")
    assert repr(name) in row["_api2db_reason"]


AWKWARD = st.one_of(
    st.sampled_from(
        [
            'a"b',
            '"; DROP TABLE canary; --',
            "a'); DROP TABLE canary; --",
            "`",
            "a`b",
            "%",
            "%s",
            "%(x)s",
            ":x",
            "?",
            "$1",
            "[a]",
            "{}",
            "\\",
            "\\'",
            "/* */",
            "--",
            "😀",
            "select",
            "TABLE",
            "order",
            "rowid",
            "oid",
            "a b",
            " a ",
            "\t",
            "\n",
            "é",
            "ß",
            "ﬁ",
            "İ",
            "1",
            "x" * 200,
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40),
)


@pytest.mark.parametrize("examples", [12, pytest.param(200, marks=[pytest.mark.torture, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_name_reaches_sql_unquoted(dialect: str, tmp_path_factory: pytest.TempPathFactory, examples: int) -> None:
    @settings(max_examples=examples)
    @example(table='"; DROP TABLE canary; --', columns=['"', "'", "`", "%s", "?"])
    @example(table="%(x)s", columns=["_api2db_old", "select", "SELECT "])
    @given(table=AWKWARD, columns=st.lists(AWKWARD, min_size=1, max_size=5, unique_by=lambda name: name.casefold()))
    def check(table: str, columns: list[str]) -> None:
        reaches_sql_quoted(tmp_path_factory.mktemp("home"), dialect, table, columns)

    check()


def reaches_sql_quoted(home: Path, dialect: str, table: str, columns: list[str]) -> None:
    if table.lower().startswith(("_api2db_", "sqlite_")) or table.lower() == "canary":
        return
    execute(home, dialect, "CREATE TABLE canary AS SELECT 1 AS alive")
    stream = Stream2Sql("flights", DATABASES[dialect], dialect, table=table, home=home)
    with stream:
        stream.q.put(pd.DataFrame({columns[0]: [1]}))
        assert stream.flush(20)
        stream.q.put(pd.DataFrame({name: [place] for place, name in enumerate(columns)}))
        assert stream.flush(20)
        stream.q.put(pd.DataFrame({name: [place + 0.5] for place, name in enumerate(columns)}))
        assert stream.flush(20)
    assert query(home, dialect, "SELECT alive FROM canary") == [(1,)]
    assert stream.status().rows_rejected == 0
    quoted = '"' + table.replace('"', '""') + '"'
    rows = query(home, dialect, f"SELECT * FROM {quoted}")
    nothing = [None] * (len(columns) - 1)
    places = list(range(len(columns)))
    assert [list(row) for row in rows] == [[1, *nothing], places, [place + 0.5 for place in places]]


def child(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(home)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.disk_journal
def test_a_second_process_on_the_journal_is_told_who_has_it(tmp_path: Path) -> None:
    code = """
import sys
import pandas as pd
from api2db import Stream2Local
from api2db.errors import JournalBusyError
stream = Stream2Local("flights", home=sys.argv[1])
for attempt in (lambda: stream.q.put(pd.DataFrame({"id": [1]})), stream.start, lambda: stream.stream(pd.DataFrame())):
    try:
        attempt()
    except JournalBusyError as error:
        print(error)
print(stream.status().frames_waiting, stream.lock.locked())
"""
    with Stream2Local("flights", home=tmp_path) as stream:
        done = child(code, tmp_path)
        lines = done.stdout.splitlines()
        assert len(lines) == 4, done.stderr
        assert all(f"pid {os.getpid()}" in line for line in lines[:3])
        assert lines[3] == "0 False"
        stream.q.put(frame(1))
    assert len(shards(tmp_path, "parquet")) == 1


@pytest.mark.parametrize("prepared", ["put", "started"])
def test_a_forked_child_s_put_is_refused_and_the_parent_goes_on(prepared: str, tmp_path: Path) -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
import pandas as pd
from api2db import Stream2Local
from api2db.errors import JournalBusyError
stream = Stream2Local("flights", home=sys.argv[1])
stream.q.put(pd.DataFrame({"id": [1]}))
if sys.argv[2] == "started":
    stream.start()
pid = os.fork()
if pid == 0:
    try:
        stream.q.put(pd.DataFrame({"id": [2]}))
    except JournalBusyError as error:
        print(error, flush=True)
        os._exit(7)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
stream.q.put(pd.DataFrame({"id": [3]}))
stream.start()
assert stream.flush(20)
stream.stop()
"""
    command = [sys.executable, "-c", code, str(tmp_path), prepared]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "forked" in done.stdout
    assert [pd.read_parquet(path)["id"].tolist() for path in shards(tmp_path, "parquet")] == [[1], [3]]


@pytest.mark.disk_journal
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_full_disk_is_told_by_the_put_and_it_goes_on_when_space_is_back(dialect: str, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        home = disk / "home"
        home.mkdir(mode=0o700)
        stream = Stream2Sql("flights", DATABASES[dialect], dialect, home=home)
        stream.stream(frame(0))
        ballast = disk / "ballast"
        _fill(ballast)
        kept, unknown = [0], []
        wide = "x" * 20_000
        for number in range(1, 200):
            try:
                stream.q.put(pd.DataFrame({"id": [number], "text": [f"{number} {wide}"]}))
                kept.append(number)
            except JournalWriteError:
                unknown.append(number)
                if len(unknown) == 3:
                    break
        assert len(unknown) == 3
        ballast.unlink()
        stream.q.put(frame(1000))
        assert stream.flush(60)
        stream.stop()
        ids = [row["id"] for row in table_rows(home, dialect)]
        assert ids == sorted(set(ids))
        assert set(kept) | {1000} <= set(ids) <= set(kept) | {1000} | set(unknown)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_database_in_a_folder_that_can_not_be_made_is_waited_for(dialect: str, tmp_path: Path) -> None:
    (tmp_path / "place").touch()
    with Stream2Sql("flights", f"place/{dialect}.db", dialect, home=tmp_path) as stream:
        stream.q.put(frame(1))
        assert "place" in eventually(lambda: stream.status().last_error or "")
        (tmp_path / "place").unlink()
        stream.check_failures()
        assert stream.flush(20)
    assert (tmp_path / "place" / f"{dialect}.db").exists()


HIDING = """
import sys, warnings
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden}:
            raise ImportError(name)
sys.meta_path.insert(0, Hidden())
import pandas as pd
from api2db import Stream2Sql, Stream2Local
"""


def test_without_duckdb_the_extra_is_named_and_the_rest_works(tmp_path: Path) -> None:
    code = (
        HIDING.format(hidden={"duckdb", "duckdb_engine"})
        + """
import logging
logging.basicConfig(level="WARNING", stream=sys.stdout)
from api2db.errors import MissingExtraError
with Stream2Local("flights", home=sys.argv[1]) as stream:
    stream.q.put(pd.DataFrame({"id": [1]}))
with Stream2Sql("flights", "flights.sqlite", "sqlite", home=sys.argv[1]) as stream:
    stream.q.put(pd.DataFrame({"id": [1]}))
stream = Stream2Sql("flights", "x.duckdb", "duckdb", home=sys.argv[1])
print(stream.connect())
try:
    stream.start()
except MissingExtraError as error:
    print("start:", error, stream.lock.locked())
stream.q.put(pd.DataFrame({"id": [1]}))
print(stream.status().frames_waiting)
"""
    )
    done = child(code, tmp_path)
    assert done.returncode == 0, done.stderr
    [said, answer, start, waiting] = done.stdout.splitlines()
    assert "pip install 'api2db[duckdb]'" in said
    assert answer == "False"
    assert "pip install 'api2db[duckdb]'" in start
    assert start.endswith("False")
    assert waiting == "1"
    assert len(shards(tmp_path, "parquet")) == 1
    assert [row["id"] for row in table_rows(tmp_path, "sqlite")] == [1]


def test_a_program_that_just_ends_delivers_what_it_put_whatever_becomes_of_one_stream(tmp_path: Path) -> None:
    code = """
import sys, threading
import pandas as pd
from api2db import Stream2Local
class Dying(Stream2Local):
    def stream(self, data):
        threading.Event().wait(0.3)
        raise SystemExit
class Slow(Stream2Local):
    def stream(self, data):
        threading.Event().wait(0.03)
        super().stream(data)
dying = Dying("flights", stream_id="dying", home=sys.argv[1])
slow = Slow("flights", home=sys.argv[1])
never = Stream2Local("others", home=sys.argv[1])
for stream in (dying, slow):
    stream.start()
never.q.put(pd.DataFrame({"id": [1]}))
dying.q.put(pd.DataFrame({"id": [1]}))
for number in range(20):
    slow.q.put(pd.DataFrame({"id": [number]}))
"""
    done = child(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(shards(tmp_path, "parquet")) == 20


def test_a_duckdb_file_that_another_process_holds_is_waited_for_and_its_holder_named(tmp_path: Path) -> None:
    code = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1] + "/flights.duckdb")
print("open", flush=True)
sys.stdin.readline()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder, Stream2Sql("flights", "flights.duckdb", "duckdb", home=tmp_path) as stream:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        stream.q.put(frame(1))
        assert f"pid {holder.pid}" in eventually(lambda: stream.status().last_error or "")
        holder.communicate("end\n")
        stream.check_failures()
        assert stream.flush(20)
    assert [row["id"] for row in table_rows(tmp_path, "duckdb")] == [1]


def test_a_duckdb_file_is_let_go_soon_after_the_last_load(tmp_path: Path) -> None:
    code = """
import duckdb, sys
with duckdb.connect(sys.argv[1] + "/flights.duckdb", read_only=True) as connection:
    print(connection.execute("SELECT count(*) FROM flights").fetchall())
"""
    with Stream2Sql("flights", "flights.duckdb", "duckdb", home=tmp_path) as stream:
        stream.stream(frame(1))
        done = eventually(lambda: (found := child(code, tmp_path)).returncode == 0 and found)
        assert done
        assert done.stdout == "[(1,)]\n"
        stream.stream(frame(2))
    assert [row["id"] for row in table_rows(tmp_path, "duckdb")] == [1, 2]


def test_whoever_has_the_file_open_in_the_same_process_shares_it(tmp_path: Path) -> None:
    with Stream2Sql("flights", "flights.duckdb", "duckdb", home=tmp_path) as stream:
        stream.stream(frame(1))
        with closing(duckdb.connect(str(tmp_path / "flights.duckdb"))) as connection:
            stream.stream(frame(2))
            assert connection.execute("SELECT id FROM flights ORDER BY id").fetchall() == [(1,), (2,)]
    assert not [thread for thread in threading.enumerate() if thread.name == "api2db-flights-sql.duckdb"]
