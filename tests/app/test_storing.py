"""Stores on the command line and in a run."""

import json
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from api2db import Collector, Store2Sql, Stream2Local
from api2db.app.command_line import main
from api2db.errors import ConfigurationError
from api2db.formats import read_frame, write_frame
from api2db.shards import manifest as manifests
from api2db.shards.compose import as_frame, compose
from api2db.shards.manifest import MANIFEST_NAME
from tests.app.projects import Project, counted
from tests.ingest.tiny import wait_until
from tests.shards.killing import interrupted

STORING = """
    from api2db import Store2Sql, Stream2Local

    class Failing:
        seconds = 0.05

        def store(self):
            raise OSError("no bucket")

    def stored(name):
        stores = [Failing(), Store2Sql(name, 0.1, f"{name}.sqlite", "sqlite", home=HOME)]
        return Collector(name, 0.05, count, [Stream2Local(name, home=HOME)], stores)

    collectors = [stored("a"), stored("b")]
"""
ONE = """
    from api2db import Store2Sql, Stream2Local

    stores = [Store2Sql("a", 0.1, "a.sqlite", "sqlite", home=HOME)]
    collectors = [Collector("a", 60, count, [Stream2Local("a", home=HOME)], stores), polls("b")]
"""


class Ended(NamedTuple):
    code: int
    out: str
    error: str


Command = Callable[..., Ended]


@pytest.fixture
def api2db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, with the test's folder as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")

    def command(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["api2db", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capfd.readouterr())

    return command


def put_shards(folder: Path, *numbers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        write_frame(pd.DataFrame({"id": [number]}), folder / f"{number}.parquet", "parquet")


def ids(file: Path) -> list[int]:
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as connection:
        try:
            return [row[0] for row in connection.execute(f"SELECT id FROM {file.stem} ORDER BY rowid")]
        except sqlite3.OperationalError:
            return []


def test_compose_joins_a_folder_into_one_file(api2db: Command, tmp_path: Path) -> None:
    put_shards(tmp_path / "shards", 1, 2)
    ended = api2db("compose", "shards", "--fmt", "parquet")
    assert (ended.code, ended.error) == (0, "")
    assert ended.out.startswith("2 shards, 2 rows → ")
    assert read_frame(tmp_path / "shards" / "composed" / "1_2.parquet", "parquet")["id"].tolist() == [1, 2]
    assert api2db("compose", "shards").out == "There are no parquet shards to compose in shards.\n"


def test_compose_names_the_file_of_a_killed_call_that_it_has_completed(
    api2db: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_shards(tmp_path / "shards", 1, 2)
    with interrupted(monkeypatch, manifests, "put_away"):
        compose(tmp_path / "shards", "parquet", as_frame, composed_to=tmp_path / "there")
    ended = api2db("compose", "shards", "--out", "there")
    assert ended.code == 0
    assert f"completed: {tmp_path}/there/1_2.parquet" in ended.out
    assert "no other parquet shards" in ended.out


def test_compose_puts_the_file_and_the_shards_where_it_is_told(api2db: Command, tmp_path: Path) -> None:
    put_shards(tmp_path / "shards", 1, 2)
    assert api2db("compose", "shards", "--out", "there", "--move-shards", "moved").code == 0
    assert (tmp_path / "there" / "1_2.parquet").exists()
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["1.parquet", "2.parquet"]


def test_compose_names_a_torn_shard_and_ends_with_1(api2db: Command, tmp_path: Path) -> None:
    put_shards(tmp_path / "shards", 1, 2)
    (tmp_path / "shards" / "2.parquet").write_bytes(b"torn")
    ended = api2db("compose", "shards")
    assert ended.code == 1
    assert "left where it is: " in ended.out
    assert "2.parquet" in ended.out
    assert (tmp_path / "shards" / "2.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nowhere",), 1, "nowhere"),
        (("shards", "--fmt", "xlsx"), 2, "parquet, json, csv, pickle"),
        (("shards", "--move-shards", "shards"), 2, "another folder"),
    ],
)
def test_compose_says_in_one_line_what_it_can_not_do(
    api2db: Command, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    put_shards(tmp_path / "shards", 1)
    ended = api2db("compose", *arguments)
    assert ended.code == code
    assert said in ended.error
    assert len(ended.error.splitlines()) == 1


def test_one_round_of_a_collector_s_stores(api2db: Command, tmp_path: Path) -> None:
    Project(tmp_path, ONE)
    put_shards(tmp_path / "STORE" / "a" / "parquet", 1, 2)
    ended = api2db("store", "a", "--once")
    assert (ended.code, ended.out) == (0, "<Store2Sql a → sqlite a.sqlite#a>: 2 shards, 2 rows\n")
    assert ids(tmp_path / "a.sqlite") == [1, 2]


def test_a_round_that_leaves_an_unreadable_shard_says_so_and_ends_with_1(api2db: Command, tmp_path: Path) -> None:
    Project(tmp_path, ONE)
    folder = tmp_path / "STORE" / "a" / "parquet"
    put_shards(folder, 1, 2)
    (folder / "2.parquet").write_bytes(b"torn")
    ended = api2db("store", "a", "--once")
    assert ended.code == 1
    assert ended.out.endswith(": 1 shard, 1 row; 1 shard left that can't be read\n")
    (folder / "2.parquet").unlink()
    assert api2db("store", "a", "--once").code == 0


def test_a_round_that_fails_ends_with_1_and_status_with_3(api2db: Command, tmp_path: Path) -> None:
    Project(tmp_path, ONE)
    folder = tmp_path / "STORE" / "a" / "parquet"
    put_shards(folder, 1)
    (folder / MANIFEST_NAME).write_text("{}")
    ended = api2db("store", "a", "--once")
    assert ended.code == 1
    assert f"{MANIFEST_NAME} is damaged" in ended.out
    status = api2db("status")
    assert status.code == 3
    assert f"{MANIFEST_NAME} is damaged" in status.out
    (folder / MANIFEST_NAME).unlink()
    assert api2db("store", "a", "--once").code == 0
    said = json.loads(api2db("status", "--json").out)
    assert said["healthy"] is True
    [store] = said["stores"]
    assert (store["collector"], store["shards"], store["rows"], store["last_error"]) == ("a", 1, 1, None)
    assert "sqlite a.sqlite#a from STORE/a/parquet" in api2db("status").out


def test_a_round_says_how_many_rows_it_has_set_aside(api2db: Command, tmp_path: Path) -> None:
    Project(tmp_path, ONE)
    folder = tmp_path / "STORE" / "a" / "parquet"
    put_shards(folder, 1)
    write_frame(pd.DataFrame({"id": ["x"]}), folder / "2.parquet", "parquet")
    ended = api2db("store", "a", "--once")
    assert ended.code == 0
    assert ended.out.endswith(": 2 shards, 1 row; 1 row set aside: see api2db rejected list\n")
    assert "text does not fit the column's type" in api2db("rejected", "list").out


def test_rows_that_a_store_has_set_aside_make_status_end_with_3_until_they_are_put_again(
    api2db: Command, tmp_path: Path
) -> None:
    Project(tmp_path, ONE)
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as database:
        database.execute("CREATE TABLE a (id BIGINT CHECK (id <> 2))")
    put_shards(tmp_path / "STORE" / "a" / "parquet", 1, 2)
    assert api2db("store", "a", "--once").code == 0
    assert api2db("status").code == 3
    assert "CHECK" in api2db("rejected", "list").out
    assert api2db("rejected", "retry", "--all").code == 0
    assert api2db("status").code == 0
    assert len(list((tmp_path / "STORE" / "a" / "parquet").glob("*.parquet"))) == 1


@pytest.mark.parametrize(("name", "said"), [("c", "no collector 'c'"), ("b", "has no stores")])
def test_a_collector_without_stores_is_named(api2db: Command, tmp_path: Path, name: str, said: str) -> None:
    Project(tmp_path, ONE)
    ended = api2db("store", name, "--once")
    assert ended.code == 2
    assert said in ended.error


def test_stores_of_a_collector_run_without_its_polls_until_they_are_stopped(tmp_path: Path) -> None:
    project = Project(tmp_path, ONE, guard="")
    project.main.rename(tmp_path / "collectors.py")
    project.main.write_text("from api2db.app.command_line import main\nmain()\n")
    put_shards(tmp_path / "STORE" / "a" / "parquet", 1)
    with project.running("store", "a", "collectors.py") as process:
        wait_until(lambda: ids(tmp_path / "a.sqlite") == [1], 30)
        put_shards(tmp_path / "STORE" / "a" / "parquet", 2)
        wait_until(lambda: ids(tmp_path / "a.sqlite") == [1, 2], 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not (tmp_path / "STORE" / "journal").exists()


def test_a_run_stores_what_it_polls_each_store_on_its_own_clock(tmp_path: Path) -> None:
    project = Project(tmp_path, STORING)
    with project.running() as process:
        wait_until(lambda: all(len(ids(tmp_path / f"{name}.sqlite")) >= 5 for name in "ab"), 60)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    for name in "ab":
        waiting = (tmp_path / "STORE" / name / "parquet").glob("*.parquet")
        rest = [read_frame(path, "parquet")["id"].tolist() for path in sorted(waiting)]
        stored = ids(tmp_path / f"{name}.sqlite")
        every = [*stored, *(number for numbers in rest for number in numbers)]
        assert every[: len(stored)] == counted(stored)
        assert sorted(set(every)) == counted(sorted(set(every)))


def a_collector(home: Path, *stores: Any) -> Collector:
    return Collector("a", 60, list, [Stream2Local("a", home=home)], list(stores))


def test_two_stores_never_take_the_shards_of_one_folder(tmp_path: Path) -> None:
    one = Store2Sql("a", 60, "one.sqlite", "sqlite", move_shards_path="moved", home=tmp_path)
    with pytest.raises(ConfigurationError, match="move_shards_path"):
        a_collector(tmp_path, one, Store2Sql("a", 60, "two.sqlite", "sqlite", home=tmp_path))
    a_collector(tmp_path, one, Store2Sql("a", 60, "two.sqlite", "sqlite", path="moved", home=tmp_path))


def test_a_store_shares_a_process_with_the_streams_of_its_database_file(tmp_path: Path) -> None:
    from api2db.app.run import _files

    store = Store2Sql("a", 60, "one.sqlite", "sqlite", home=tmp_path)
    assert _files(a_collector(tmp_path, store)) == [tmp_path / "one.sqlite"]
