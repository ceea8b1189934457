"""A backfill: windows of history into the table of the live collector, resumable."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from typer.testing import CliRunner

from api2db.app import _backfill as backfills
from api2db.app.command_line import app
from api2db.errors import ConfigurationError, PollError
from api2db.ingest import CollectorStatus, read_status
from api2db.rest import Cursor, PageNumber, Resource, RestApi
from tests.ingest.tiny import wait_until
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server
from tests.servers.processes import kill

ROWS = [
    {"id": day * 3 + part, "at": f"2024-01-{1 + day:02}T{part * 8:02}:00:00Z"} for day in range(20) for part in range(3)
]


def answer(asked: Asked) -> Reply:
    since, until = asked.params.get("since", ""), asked.params.get("until", "9")
    found = [row for row in ROWS if since <= str(row["at"]) < until]
    page = int(asked.params.get("page", 1))
    return Reply(found[(page - 1) * 2 : page * 2])


def resource(server: Server, **options: Any) -> Resource:
    cursor = Cursor("at", param="since", **{"until": "until", **options})
    return RestApi(server.url).get("/x", cursor=cursor, keys="id", pagination=PageNumber(size=2))


def test_all_windows_are_polled_and_the_live_state_stays(serve: Serve) -> None:
    server = serve(answer)
    done: list[tuple[int, int]] = []
    polled = Polled(resource(server).backfill("2024-01-01", "2024-01-21", "3d", lambda n, of: done.append((n, of))))  # type: ignore[arg-type]
    polled.state = {"cursor": "2024-01-21T00:00:00Z", "known": {}}
    polled.poll()
    assert sorted(row["id"] for row in polled.rows) == [row["id"] for row in ROWS]
    assert polled.state == {"cursor": "2024-01-21T00:00:00Z", "known": {}}
    assert done[0] == (1, 7)
    assert done[-1] == (7, 7)
    assert server.asked[0].params["since"] == "2024-01-01"
    assert server.asked[0].params["until"] == "2024-01-04"


def test_a_backfill_that_fails_goes_on_at_the_page(serve: Serve) -> None:
    server = serve(answer)
    polled = Polled(resource(server).backfill("2024-01-01", "2024-01-21", "3d"))  # type: ignore[arg-type]
    server.answer = lambda asked: Reply("no", 418) if len(server.asked) == 9 else answer(asked)
    with pytest.raises(PollError, match="418"):
        polled.poll()
    server.answer = answer
    polled.poll()
    assert [row["id"] for row in polled.rows] == [row["id"] for row in ROWS]


def test_windows_are_in_the_form_of_the_cursor(serve: Serve) -> None:
    server = serve(answer)
    assert resource(server, type="unix_s").backfill("1970-01-01", "1970-01-01T03:00:00Z", "2h").windows() == [
        (0, 7200),
        (7200, 10800),
    ]
    assert resource(server, type="unix_ms").backfill("1970-01-01", "1970-01-02").windows() == [(0, 86_400_000)]


@pytest.mark.parametrize("options", [{"changes_only": True}, {}], ids=["changes", "cursor"])
def test_a_live_poll_loads_what_differs_from_the_backfill(serve: Serve, options: dict[str, Any]) -> None:
    row = {"id": 1, "at": "2024-01-01T00:00:00Z", "value": "old"}
    cursor = Cursor("at", param="since", until="until")
    found = RestApi(serve(lambda asked: Reply([row])).url).get("/x", cursor=cursor, keys="id", **options)
    polled = Polled(found)
    polled.poll()
    row["value"] = "new"
    for page in found.backfill("2024-01-01", "2024-01-02")(polled.state):
        polled.take(page)
    assert polled.rows[-1]["value"] == "new"
    row["value"] = "old"
    polled.poll()
    assert polled.rows[-1]["value"] == "old"


QUERY = "query ($after: String, $since: DateTime, $until: DateTime) { items { nodes pageInfo } }"


def test_windows_of_graphql_are_variables(serve: Serve) -> None:
    info = {"hasNextPage": False, "endCursor": None}
    server = serve(lambda asked: Reply({"data": {"items": {"nodes": [], "pageInfo": info}}}))
    cursor = Cursor("at", param="since", until="until")
    found = RestApi(server.url).graphql(QUERY, records="data.items.nodes", keys="id", cursor=cursor)
    Polled(found.backfill("2024-01-01", "2024-01-02")).poll()  # type: ignore[arg-type]
    assert server.asked[0].json == {"query": QUERY, "variables": {"since": "2024-01-01", "until": "2024-01-02"}}


def test_what_a_backfill_needs_is_told(serve: Serve) -> None:
    server = serve(answer)
    with pytest.raises(ConfigurationError, match="param= and until="):
        resource(server, until=None).backfill("2024-01-01", "2024-01-02")
    with pytest.raises(ConfigurationError, match="resource with a cursor"):
        RestApi(server.url).get("/x", keys="id").backfill("2024-01-01", "2024-01-02")
    with pytest.raises(ConfigurationError, match="has no window"):
        resource(server).backfill("2024-01-02", "2024-01-01")
    with pytest.raises(ConfigurationError, match="begin of the backfill is 'yesterday'"):
        resource(server).backfill("yesterday", "2024-01-01")


def test_the_command_fills_the_table_of_the_collector(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    Project(tmp_path, serve(answer), seconds=60)
    main = tmp_path / "main.py"
    command = ["backfill", "rows", str(main), "--from", "2024-01-01", "--to", "2024-01-19", "--step", "5d"]
    for arguments in (["run", str(main), "--once"], command, command):
        ended = CliRunner().invoke(app, arguments)
        assert ended.exit_code == 0, ended.output
    with duckdb.connect(str(tmp_path / "r.duckdb")) as database:
        assert database.execute("SELECT count(*), count(DISTINCT id) FROM rows").fetchone() == (60, 60)


DISABLED = """
from api2db import Collector, Stream2Local, Stream2Sql
from api2db.rest import Cursor, PageNumber, RestApi

rows = RestApi("{url}").get(
    "/x", cursor=Cursor("at", param="since", until="until"), keys="id", pagination=PageNumber(size=2)
)
collectors = [Collector("rows", 0, rows, [Stream2Sql("rows", "r.duckdb", "duckdb"), Stream2Local("rows")])]
"""


def test_a_disabled_collector_has_a_history_and_streams_without_keys_are_told_of(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    main = tmp_path / "main.py"
    main.write_text(DISABLED.format(url=serve(answer).url))
    command = ["backfill", "rows", str(main), "--from", "2024-01-01", "--to", "2024-01-03"]
    ended = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    assert "Stream2Local of rows has no keys" in ended.output
    assert "Stream2Sql" not in ended.output
    with duckdb.connect(str(tmp_path / "r.duckdb")) as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (6,)


LIVE = """
from api2db import Collector, Stream2Sql
from api2db.rest import Cursor, PageNumber, RestApi

rows = RestApi("{url}", rate_limit="{rate}").get(
    "/x",
    cursor=Cursor("at", param="since", until="until", initial="2024-01-18"),
    keys="id",
    pagination=PageNumber(size=2),
)
collectors = [Collector("rows", {seconds}, rows, [Stream2Sql("rows", "r.duckdb", "duckdb")])]
"""
WINDOW = ("2024-01-01", "2024-01-18", "1d")
BACKFILL = ("backfill", "rows", "main.py", "--from", WINDOW[0], "--to", WINDOW[1], "--step", WINDOW[2])


class Project:
    """A home whose run polls a server, with what the server was asked."""

    def __init__(self, home: Path, server: Server, rate: str = "1000/s", seconds: float = 0.5) -> None:
        self.home = home
        (home / "main.py").write_text(LIVE.format(url=server.url, rate=rate, seconds=seconds))

    @contextmanager
    def command(self, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
        command = [sys.executable, "-m", "api2db", *arguments]
        environment = os.environ | {"API2DB_HOME": str(self.home), "NO_COLOR": "1"}
        with (self.home / f"{arguments[0]}.txt").open("a+") as output:
            process = subprocess.Popen(
                command, cwd=self.home, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True
            )
            everyone: list[psutil.Process] = []
            try:
                yield process
            finally:
                if process.poll() is None:
                    everyone = psutil.Process(process.pid).children(recursive=True)
                    process.kill()
                for child in everyone:
                    kill(child)
                process.wait()

    def said(self, command: str) -> str:
        return (self.home / f"{command}.txt").read_text()

    def status(self) -> CollectorStatus:
        return read_status(self.home, "rows") or CollectorStatus("rows", 0)

    def done(self) -> int:
        found = self.status().backfill
        return 0 if found is None else found.done

    def rows(self) -> list[int]:
        with duckdb.connect(str(self.home / "r.duckdb")) as database:
            return [number for (number,) in database.execute("SELECT id FROM rows ORDER BY id").fetchall()]


class Timed:
    """Answers late, and knows when each call came."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s
        self.at: list[tuple[float, bool]] = []
        self.broken = False

    def __call__(self, asked: Asked) -> Reply:
        is_live = "until" not in asked.params
        self.at.append((time.monotonic(), is_live))
        if self.broken and not is_live:
            return Reply("no", 418)
        time.sleep(self.pause_s)
        return answer(asked)

    def times(self, *, live: bool) -> list[float]:
        return [at for at, is_live in self.at if is_live == live]


def test_a_backfill_beside_a_run_survives_its_death_and_delays_no_live_poll(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    monkeypatch.setattr(backfills, "_GONE_S", 300.0)  # how long another run may take depends on the machine
    timed = Timed(0.01)
    project = Project(tmp_path, serve(timed), rate="8/s")
    with ThreadPoolExecutor(1) as thread:
        with project.command("run", "main.py") as run:
            wait_until(lambda: project.status().rows, 60)
            command = thread.submit(backfills.run_backfill, tmp_path / "main.py", "rows", WINDOW)
            wait_until(lambda: project.done() >= 3, 60)
            polling = psutil.Process(project.status().pid)
            for process in {run.pid: psutil.Process(run.pid), polling.pid: polling}.values():
                kill(process)
            run.wait()
        calls = len(timed.at)
        with project.command("run", "main.py") as again:
            assert command.result(60)
            beside = timed.at[calls:]
            again.send_signal(signal.SIGINT)
            assert again.wait(60) == 0, project.said("run")
    assert project.rows() == [row["id"] for row in ROWS]
    live = [place for place, (_, is_live) in enumerate(beside) if is_live]
    assert len(live) > 2
    assert all(later - earlier <= 8 * 2 for earlier, later in pairwise(live)), "a backfill delays no live poll"
    at = sorted(moment for moment, _ in timed.at)
    assert all(later - earlier >= 1 for earlier, later in zip(at, at[8:], strict=False))
    assert len(timed.times(live=False)) <= 17 * 2 + 4, "a kill costs a page, not the windows before it"


def test_the_command_shows_a_failing_window_and_leaves_the_backfill_to_the_run(serve: Serve, tmp_path: Path) -> None:
    timed = Timed(0.0)
    timed.broken = True
    project = Project(tmp_path, serve(timed), seconds=0.1)
    with project.command("run", "main.py") as run:
        wait_until(lambda: project.status().rows, 60)
        with project.command(*BACKFILL) as command:
            wait_until(lambda: "HTTP 418" in project.said("backfill"), 60)
            command.send_signal(signal.SIGINT)
            assert command.wait(60) == 0
        assert "The backfill continues in the run" in project.said("backfill")
        polls = len(timed.times(live=True))
        wait_until(lambda: len(timed.times(live=True)) > polls + 2)
        assert "HTTP 418" in (wait_until(lambda: project.status().backfill).error or "")
        with project.command("status") as status:
            assert status.wait(60) == 0
        assert "backfill 0 of 17" in project.said("status")
        with project.command("backfill", "rows", "main.py", "--cancel") as command:
            assert command.wait(60) == 0
        assert "The backfill of rows from 2024-01-01 to 2024-01-18 is cancelled" in project.said("backfill")
        calls = len(timed.times(live=False))
        polls = len(timed.times(live=True))
        wait_until(lambda: len(timed.times(live=True)) > polls + 5)
        assert len(timed.times(live=False)) <= calls + 1
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 0
    assert project.rows() == [row["id"] for row in ROWS if str(row["at"]) >= "2024-01-18"]


def test_a_backfill_without_a_run_is_continued_by_the_next_run_or_cancelled(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    server = serve(lambda asked: Reply("no", 418) if asked.params["since"] == "2024-01-05" else answer(asked))
    Project(tmp_path, server)
    ended = CliRunner().invoke(app, BACKFILL)
    assert isinstance(ended.exception, PollError)
    other = CliRunner().invoke(app, [*BACKFILL[:-1], "2d"])
    assert "another backfill, from 2024-01-01 to 2024-01-18" in str(other.exception)
    assert "is cancelled" in CliRunner().invoke(app, ["backfill", "rows", "main.py", "--cancel"]).output
    again = CliRunner().invoke(app, ["backfill", "rows", "main.py", "--cancel"])
    assert "no backfill of rows is under way" in str(again.exception)
    server.answer = answer
    assert CliRunner().invoke(app, [*BACKFILL[:-1], "2d"]).exit_code == 0


def test_a_wrong_argument_is_refused_before_anything_is_stored(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API2DB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    server = serve(answer)
    Project(tmp_path, server)
    for arguments in (
        ["--from", "2024-01-01"],
        ["--from", "soon", "--to", "2024-01-02"],
        ["--from", "2024-01-02", "--to", "2024-01-01"],
        ["--from", "2024-01-01", "--to", "2024-01-02", "--step", "1 day"],
    ):
        ended = CliRunner().invoke(app, ["backfill", "rows", "main.py", *arguments])
        assert isinstance(ended.exception, ConfigurationError), arguments
    assert not (tmp_path / "STORE").exists()
    assert not server.asked
