"""A run in the background of an interactive session, and what a notebook shows of it."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Collector, Run, Stream2Sql
from api2db.app._notebook import View, _refresh
from api2db.errors import ConfigurationError, JournalBusyError
from api2db.hypertext import escaped
from api2db.ingest import CollectorStatus, read_status
from tests.app.projects import Project
from tests.ingest.tiny import TinyStream, rows_in, wait_until

SCRIPT = "<script>alert(1)</script>"
ROWS = [{"id": 1}]


def polled(home: Path, name: str = "alpha", target: Callable[..., Any] = lambda: ROWS) -> Collector:
    return Collector(name, 0.05, target, [TinyStream(name, home=home)])


def has_more(home: Path, rows: int) -> bool:
    return len(rows_in(home, "alpha")) > rows


def threads_of_a_run() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name in {"api2db-run", "api2db-notebook"}}


def test_a_started_run_polls_until_it_is_stopped_and_can_be_started_again(tmp_path: Path) -> None:
    run = Run([polled(tmp_path)])
    for _ in range(2):
        before = len(rows_in(tmp_path, "alpha")) if (tmp_path / "alpha.sqlite").exists() else 0
        run.start()
        assert "running" in repr(run)
        wait_until(functools.partial(has_more, tmp_path, before + 2))
        run.stop()
        assert "ended" in repr(run)
        assert not threads_of_a_run()
        run.stop()


def test_two_starts_are_an_error_and_stop_reaches_a_run_whose_object_is_lost(tmp_path: Path) -> None:
    collector = polled(tmp_path)
    Run([collector]).start()
    again = Run([collector])
    try:
        for begin in (again.start, again.run, lambda: again.run(once=True)):
            with pytest.raises(ConfigurationError, match=r"alpha was started in this process.*stop\(\)"):
                begin()
    finally:
        again.stop()
    assert not threads_of_a_run()
    again.start()
    with pytest.raises(ConfigurationError, match="stop"):
        again.start()
    again.stop()


def test_a_run_that_cannot_begin_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha")]\n')
    run = Run([polled(tmp_path)])
    with project.running():
        project.pids("alpha")
        with pytest.raises(JournalBusyError):
            run.start()
    assert not threads_of_a_run()
    run.start()
    run.stop()


def test_a_started_run_of_a_main_file_has_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha")]\n')
    monkeypatch.setenv("PYTHONPATH", project.environment()["PYTHONPATH"])
    run = Run([polled(tmp_path)], main_file=project.main, output=lambda line: None)
    run.start()
    try:
        wait_until(lambda: rows_in(tmp_path, "alpha") if (tmp_path / "alpha.sqlite").exists() else [], 30)
        status = read_status(tmp_path, "alpha")
        assert status is not None
        assert status.pid in run.processes
        assert status.pid != os.getpid()
    finally:
        run.stop()
    assert run.processes == {}


def test_what_ends_a_started_run_is_shown_logged_and_raised_by_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main = tmp_path / "main.py"
    main.write_text("collectors = []\n")
    run = Run([polled(tmp_path)], main_file=main, output=lambda line: None)
    run.start()
    wait_until(lambda: "ended: ConfigurationError" in repr(run), 30)
    assert "does not create the collector alpha" in caplog.text
    with pytest.raises(ConfigurationError, match="does not create the collector alpha"):
        run.stop()
    run.stop()


ENDING = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from api2db import Collector, Run
    from tests.ingest.tiny import TinyStream, rows_in, wait_until

    home = Path({home!r})
    numbers = iter(range(1, 1_000_000))
    run = Run([Collector("alpha", 0.05, lambda: [{{"id": next(numbers)}}], [TinyStream("alpha", home=home)])])
    run.start()
    wait_until(lambda: len(rows_in(home, "alpha")) > 3)
    print("main ends")
"""


def test_the_end_of_the_interpreter_stops_it_and_no_row_is_lost(tmp_path: Path) -> None:
    program = textwrap.dedent(ENDING.format(home=str(tmp_path), root=str(Path(__file__).parents[2])))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "main ends\n", "")
    status = read_status(tmp_path, "alpha")
    assert status is not None
    ids = [row["id"] for row in rows_in(tmp_path, "alpha")]
    assert ids == sorted(set(ids))
    assert len(ids) == status.rows


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Stream2Sql]:
    """A stream whose name, table and target hold script and a password."""
    name = "a&b'\"<i>"
    options: dict[str, Any] = {"host": "127.0.0.1", "port": "1", "username": "u", "password": "canary-77"}
    stream = Stream2Sql(name, "db", "postgresql", table=SCRIPT, home=tmp_path, **options)
    yield stream
    stream.stop()


def test_every_value_is_escaped_and_no_secret_is_shown(foreign: Stream2Sql, tmp_path: Path) -> None:
    assert foreign.name is not None
    polls = functools.partial(lambda key: None, "token=canary-77")
    collector = Collector(foreign.name, 1, polls, [foreign], home=tmp_path)
    foreign.start()
    foreign.q.put([{"id": 1}])
    wait_until(lambda: foreign.status().last_error, 30)
    shown: list[Any] = [foreign, foreign.status(), collector, Run([collector])]
    wait_until(lambda: "can&#x27;t be reached" in collector._repr_html_())
    for each in shown:
        html = each._repr_html_()
        assert "<script" not in html
        assert "<i>" not in html
        assert "canary-77" not in html
        assert "can't be reached" in html.replace("&#x27;", "'")
    foreign.stop()
    assert "<td" in foreign._repr_html_()


def test_a_value_is_bounded_redacted_and_can_be_sent() -> None:
    assert escaped(SCRIPT) == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert "secret-1" not in escaped("postgresql://u:secret-1@h/db")
    assert len(escaped("x" * 10_000)) < 400
    escaped("\ud800\0").encode()


def test_the_status_of_a_collector_is_a_table() -> None:
    html = CollectorStatus("alpha", 7, polls=3, failed=1, last_error=SCRIPT)._repr_html_()
    assert "polls that failed" in html
    assert "<script" not in html


def test_a_table_that_failed_once_is_shown_again_until_the_run_has_ended() -> None:
    states = iter(["", "running", "ended"])
    shown: list[str] = []

    class Handle:
        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown.append(bundle["text/plain"])

    def see() -> View:
        state = next(states)
        if not state:
            raise OSError("down")
        return "", state

    _refresh(Handle(), see, functools.partial(next, iter([False, False, True])))
    assert shown == ["running", "ended"]


KERNEL = """
    from api2db import Collector, Run, Stream2Sql
    numbers = iter(range(1, 1_000_000))
    stream = Stream2Sql("alpha", "alpha.duckdb", "duckdb", home={home!r})
    run = Run([Collector("alpha", 0.05, lambda: [{{"id": next(numbers)}}], [stream])])
    run.start()
"""


class Kernel:
    """A real kernel of IPython in a process of its own; it keeps what its displays show."""

    def __init__(self) -> None:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(extra_arguments=["--HistoryManager.enabled=False"])
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.displays: dict[str, list[str]] = {}

    def runs(self, code: str) -> dict[str, Any]:
        """Execute a cell; return its value by MIME type, and its printed text under ``stream``."""
        found: dict[str, Any] = {"stream": ""}
        asked = self.client.execute(textwrap.dedent(code))
        while True:
            message = self.listen()
            kind, content = message["header"]["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != asked:
                continue
            assert kind != "error", content
            if kind == "stream":
                found["stream"] += content["text"]
            elif kind == "execute_result":
                found.update(content["data"])
            elif content.get("execution_state") == "idle":
                return found

    def listen(self) -> dict[str, Any]:
        """Take one message."""
        message: dict[str, Any] = self.client.get_iopub_msg(timeout=20)
        content = message["content"]
        if message["header"]["msg_type"] in {"display_data", "update_display_data"}:
            shown = self.displays.setdefault(content["transient"]["display_id"], [])
            shown.append(content["data"]["text/html"])
        return message

    def end(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.end()


def test_a_notebook_shows_a_run_that_it_goes_on_with_beside_its_cells(kernel: Kernel, tmp_path: Path) -> None:
    kernel.runs(KERNEL.format(home=str(tmp_path)))
    [shown] = kernel.displays.values()
    assert "running" in shown[0]
    while len(shown) < 3:
        kernel.listen()
    assert list(kernel.displays.values()) == [shown]
    assert "alpha.duckdb" in shown[-1]
    newest = kernel.runs("stream.head(2)")
    assert "<table" in newest["text/html"]
    assert "<table" in kernel.runs("stream")["text/html"]
    said = kernel.runs("try:\n    run.start()\nexcept ValueError as error:\n    print(error)")["stream"]
    assert "was started in this process" in said
    kernel.runs("run.stop()")
    while "ended" not in shown[-1]:
        kernel.listen()
    kernel.runs("run.start()")
    kernel.manager.shutdown_kernel()  # as a person closes the notebook
    stream = Stream2Sql("alpha", "alpha.duckdb", "duckdb", home=tmp_path)
    with stream:  # its journal is free, and what was left is delivered
        assert stream.status().rows_waiting == 0
    ids = pd.Series(stream.head(1_000_000)["id"])
    assert ids.is_unique
    assert len(ids) == stream.status().rows_delivered
