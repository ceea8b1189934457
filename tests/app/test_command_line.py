"""The command line as a person and a script see it."""

import io
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Stream2Local, Stream2Sql
from api2db.demo._sample import NEWEST
from api2db.errors import StreamDiedError
from api2db.ingest.status import CollectorStatus, publish_status
from api2db.testing import ApiServer, Call, Reply, pages_of
from tests.app.commands import Command, Ended, command_of
from tests.app.projects import ENDS_WITHIN_S, Project
from tests.ingest.tiny import wait_until

PROGRAM = [sys.executable, "-m", "api2db"]
ESCAPE = "\x1b"
pytestmark = pytest.mark.usefixtures("_api2db_logger_as_before")


@pytest.fixture
def _api2db_logger_as_before() -> Iterator[None]:
    import logging

    logger = logging.getLogger("api2db")
    handlers, level = list(logger.handlers), logger.level
    yield
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def api2db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, with the test's folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return command_of(monkeypatch, capfd)


def test_help_imports_nothing_that_takes_its_time() -> None:
    program = "import sys, api2db.program; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "pyarrow", "rich.live", "sqlalchemy", "sqlite3", "duckdb"} & set(modules)


def test_a_status_imports_even_less(tmp_path: Path) -> None:
    asked = "sys.argv[1:] = ['status', '--json']; api2db.__main__.main()"
    program = f"import atexit, sys, api2db.__main__; atexit.register(lambda: print(*sys.modules)); {asked}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert not {"typer", "rich", "numpy", "pandas", "pyarrow", "importlib.metadata"} & set(ended.stdout.split())


@pytest.mark.usefixtures("rejecting")
def test_a_status_is_the_same_with_and_without_typer(api2db: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API2DB_HOME", "")  # --home changes it

    def asked() -> list[Ended]:
        found = [api2db("status", *options.split()) for options in _STATUS_OPTIONS]
        return [ended._replace(out=" ".join(re.sub(r"\d+\.\d+", "a lag", ended.out).split())) for ended in found]

    mostly_without = asked()
    monkeypatch.setattr("api2db.__main__._plain_status", lambda _: None)
    assert asked() == mostly_without
    assert {ended.code for ended in mostly_without} == {0, 2, 3}


_STATUS_OPTIONS = (
    *("", "--json", "--json --home .", "--home=. --only shards", "--only=nothing", "--only cities --json"),
    *("--home", "--json=1", "--hom .", ".", "--json --help"),
)


def test_help_tells_the_exit_codes_and_all_commands(api2db: Command) -> None:
    ended = api2db("--help")
    assert ended.code == 0
    for word in (
        "Exit codes: 0",
        "init",
        "run",
        "compose",
        "store",
        "status",
        "forget",
        "adopt",
        "rejected",
        "demo",
        "--version",
    ):
        assert word in ended.out


@pytest.mark.parametrize(
    "command",
    [["init"], ["run"], ["compose"], ["store"], ["status"], ["forget"], ["adopt"], ["demo"], ["rejected", "retry"]],
    ids=str,
)
def test_each_command_has_help(api2db: Command, command: list[str]) -> None:
    assert api2db(*command, "--help").code == 0


def test_the_version_is_that_of_the_package(api2db: Command) -> None:
    import api2db as package

    assert api2db("--version").out.strip() == package.__version__


@pytest.mark.parametrize("arguments", [["walk"], ["run", "--twice"], ["forget"]], ids=str)
def test_a_command_that_does_not_exist_ends_with_2(api2db: Command, arguments: list[str]) -> None:
    assert api2db(*arguments).code == 2


def test_init_writes_private_files_and_refuses_to_overwrite_any(api2db: Command, tmp_path: Path) -> None:
    assert api2db("init", "weather", "cities", "rivers").code == 0
    project = tmp_path / "weather"
    assert sorted(path.name for path in project.iterdir()) == [
        ".gitignore", "AUTH", "CACHE", "LOGS", "STORE", "apis", "main.py",
    ]  # fmt: skip
    assert {path.name for path in (project / "apis").iterdir()} == {"__init__.py", "cities.py", "rivers.py"}
    everything = list(project.rglob("*"))
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in everything if path.is_file()} == {0o600}
    for template in (project / "AUTH").iterdir():
        values = json.loads(template.read_text())
        assert any(value.startswith("$") for value in values.values())
    (project / "main.py").write_text("mine")
    again = api2db("init", "weather")
    assert again.code == 2
    assert "exists already" in again.error
    assert (project / "main.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "a-b", "class", "2nd"])
def test_init_refuses_a_name_that_no_module_can_have(api2db: Command, tmp_path: Path, name: str) -> None:
    assert api2db("init", "project", name).code == 2
    assert not (tmp_path / "project").exists()


def rows_of(file: Path, table: str) -> int:
    import duckdb

    with duckdb.connect(file) as database:
        return int(database.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def once(home: Path) -> None:
    """Poll each collector of a project once, without a network: the proxy leads nowhere."""
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "no_proxy": "localhost"}
    ended = subprocess.run(
        [*PROGRAM, "run", "--once"],
        cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ESCAPE not in ended.stdout


def test_a_new_project_runs_as_it_stands(api2db: Command, tmp_path: Path) -> None:
    api2db("init", "project", "cities", "rivers")
    home = tmp_path / "project"
    once(home)
    for name in ("cities", "rivers"):
        assert rows_of(home / "STORE" / "data.duckdb", name) >= NEWEST
        assert list((home / "STORE" / name / "parquet").glob("*.parquet"))
    assert api2db("status", "--home", str(home)).code == 0


def test_a_new_project_resumes_at_its_cursor_after_a_pause(api2db: Command, tmp_path: Path) -> None:
    import duckdb

    api2db("init", "project")
    home = tmp_path / "project"
    once(home)
    before = rows_of(home / "STORE" / "data.duckdb", "orders")
    time.sleep(1.1)
    once(home)
    with duckdb.connect(home / "STORE" / "data.duckdb") as database:
        counts = "SELECT count(*), count(DISTINCT id), max(id) - min(id) + 1 FROM orders"
        [(rows, ids, span)] = database.sql(counts).fetchall()
    assert rows == ids == span > before


def test_a_new_project_can_be_backfilled(api2db: Command, tmp_path: Path) -> None:
    api2db("init", "project")
    home = tmp_path / "project"
    window = ["--from", "2025-01-02", "--to", "2025-01-02T00:20:00Z", "--step", "10m"]
    ended = subprocess.run(
        [*PROGRAM, "backfill", "orders", *window], cwd=home, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert rows_of(home / "STORE" / "data.duckdb", "orders") == 20 * 60


def test_init_with_a_url_makes_the_collector_of_that_list(
    api2db: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(call: Call) -> Reply:
        assert call.headers["authorization"] == "Bearer canary-1234"
        return pages(call)

    pages = pages_of([{"id": n, "updated_at": f"2024-01-01T00:00:{n:02}Z"} for n in range(25)])
    with ApiServer(answer) as server:
        url = f"{server.url}/v1/items?kind=new"
        assert "SHOP_TOKEN is not set" in api2db("init", "project", "--url", url, "--auth", "bearer:$SHOP_TOKEN").error
        monkeypatch.setenv("SHOP_TOKEN", "canary-1234")
        ended = api2db("init", "project", "--url", url, "--auth", "bearer:$SHOP_TOKEN")
        assert ended.code == 0, ended.error
        home = tmp_path / "project"
        assert subprocess.run([*PROGRAM, "run", "--once"], cwd=home, check=False, timeout=60).returncode == 0
    module = (home / "apis" / "items.py").read_text()
    assert rows_of(home / "STORE" / "data.duckdb", "items") == 25
    assert 'auth=BearerToken("$SHOP_TOKEN")' in module
    assert 'params={"kind": "new"},' in module
    assert '    # the header Link has rel="next"\n    pagination=LinkHeader(),\n' in module
    assert "seconds=60," in (home / "main.py").read_text()
    assert not any(b"canary" in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_init_with_a_url_writes_nothing_where_the_list_cannot_be_read(api2db: Command, tmp_path: Path) -> None:
    with ApiServer(lambda _: Reply({"message": "gone"}, 404)) as server:
        ended = api2db("init", "project", "--url", f"{server.url}/items")
        assert (ended.code, "404" in ended.error) == (1, True)
        server.answer = pages_of([{"id": 1}])
        ended = api2db("init", "project", "cities", "rivers", "--url", f"{server.url}/items")
        assert (ended.code, "one collector" in ended.error) == (2, True)
    assert api2db("init", "project", "--auth", "bearer:$TOKEN").code == 2
    assert not (tmp_path / "project").exists()


def test_python_main_py_streams_rows_until_a_signal(api2db: Command, tmp_path: Path) -> None:
    api2db("init", "project")
    home = tmp_path / "project"
    shards = home / "STORE" / "orders" / "parquet"
    with subprocess.Popen([sys.executable, "main.py"], cwd=home, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: sum(len(pd.read_parquet(shard)) for shard in shards.glob("*.parquet")) > NEWEST, 40)
            status = json.loads(api2db("status", "--json", "--home", str(home)).out)
            process.send_signal(signal.SIGTERM)
            assert process.wait(ENDS_WITHIN_S) == 0
        finally:
            process.kill()
    assert status["healthy"]
    [collector] = status["collectors"]
    assert collector["running"]
    assert {stream["stream_type"] for stream in collector["streams"]} == {"local", "sql.duckdb"}
    rows = sum(len(pd.read_parquet(shard)) for shard in shards.glob("*.parquet"))
    assert rows_of(home / "STORE" / "data.duckdb", "orders") == rows


def test_the_generator_that_a_new_project_shows_gives_no_page_twice_after_a_failure(
    api2db: Command, tmp_path: Path
) -> None:
    api2db("init", "project")
    text = (tmp_path / "project" / "apis" / "orders.py").read_text()
    example = text[text.index("# def import_data") :].replace("# ", "")
    names: dict[str, Any] = {"orders_after": lambda number: [{"id": number + 1}]}
    exec(example, names)
    state: dict[str, int] = {}
    pages = names["import_data"](state)
    assert [(next(pages)[0]["id"], state["last"]) for _ in range(3)] == [(1, 1), (2, 2), (3, 3)]


COUNTING = 'collectors = [polls("alpha")]\n'


def test_run_prints_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    project = Project(tmp_path, COUNTING)
    process = subprocess.Popen(
        [*PROGRAM, "run"], cwd=tmp_path, env=project.environment(), stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            project.pids("alpha")
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=ENDS_WITHIN_S)
        finally:
            process.kill()
    assert process.returncode == 0
    assert ESCAPE not in said
    assert "alpha → alpha/tiny: " in said
    assert "delivered, 0 waiting" in said


def test_a_second_run_ends_with_one_line_that_names_the_process(tmp_path: Path) -> None:
    project = Project(tmp_path, COUNTING)
    with project.running():
        [pid] = project.pids("alpha")
        ended = subprocess.run(
            [*PROGRAM, "run"],
            cwd=tmp_path, env=project.environment(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert f"(pid {pid})" in line


def test_run_draws_a_table_on_a_terminal(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha", lambda: print("hello from the poll") or [{"id": 1}])]\n')
    drawn = on_a_terminal(project, lambda: project.pids("alpha"))
    assert "rows/s" in drawn
    assert "alpha/tiny" in drawn
    assert "hello from the poll" in drawn
    assert ESCAPE in drawn
    assert "\x1b[31m" not in drawn, "NO_COLOR is set"


def on_a_terminal(project: Project, until: Callable[[], object]) -> str:
    ours, theirs = pty.openpty()
    environment = project.environment() | {"TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(
        [*PROGRAM, "run"], cwd=project.home, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        until()
        process.send_signal(signal.SIGINT)
        drawn = _everything_from(ours)
        assert process.wait(ENDS_WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return drawn


def _everything_from(terminal: int) -> str:
    seen = b""
    with suppress(OSError):  # Linux says that all is read by an input/output error
        while piece := os.read(terminal, 1 << 16):
            seen += piece
    return seen.decode(errors="replace")


def test_run_says_what_is_wrong_with_a_project(api2db: Command, tmp_path: Path) -> None:
    assert "there is no file main.py" in api2db("run").error
    (tmp_path / "main.py").write_text("x = 1\n")
    assert "has no collectors" in api2db("run", "main.py").error
    (tmp_path / "main.py").write_text("collectors = [5]\n")
    assert "has no collectors" in api2db("run", "main.py").error
    (tmp_path / "main.py").write_text("import no_such_module\n")
    ended = api2db("run")
    assert ended.code == 2
    assert "no_such_module" in ended.error
    assert not (tmp_path / "LOGS").exists()


def test_a_failed_poll_ends_run_once_with_1(tmp_path: Path) -> None:
    project = Project(tmp_path, 'collectors = [polls("alpha", lambda: 1 / 0)]\n')
    ended = subprocess.run(
        [*PROGRAM, "run", "--once"],
        cwd=tmp_path, env=project.environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "the poll of alpha failed: ZeroDivisionError" in ended.stderr


def test_status_of_a_folder_without_journals_says_so(api2db: Command) -> None:
    ended = api2db("status")
    assert ended.code == 0
    assert "There are no streams" in ended.out
    assert json.loads(api2db("status", "--json").out)["collectors"] == []


@pytest.fixture
def rejecting(tmp_path: Path) -> Path:
    """A home in which a stream has rejected one row of two, and has waiting rows left."""
    with closing(sqlite3.connect(tmp_path / "cities.sqlite")) as database:
        database.execute("CREATE TABLE cities (id INTEGER, name TEXT NOT NULL)")
    frame = pd.DataFrame({"id": [1, 2], "name": ["Ulm", None]})
    with Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path, schema="freeze") as stream:
        stream.q.put(frame)
        assert stream.flush(20)
    stream.q.put(pd.DataFrame({"id": [3], "name": ["Bonn"]}))
    stream.stop()
    return tmp_path


def test_status_without_a_run_says_how_many_rows_wait(api2db: Command, rejecting: Path) -> None:
    assert api2db("status").out.splitlines()[-1] == "No run is active; 1 row waiting in the journals."


def test_status_tells_a_run_from_a_program_that_uses_streams(api2db: Command, tmp_path: Path) -> None:
    with Stream2Local("cities", home=tmp_path):
        assert api2db("status").out.splitlines()[-1] == "A program other than a run uses the streams of cities."
        publish_status(tmp_path, CollectorStatus("cities", os.getpid()))
        assert api2db("status").out.splitlines()[-1] == f"1 of 1 collectors runs, in process {os.getpid()}."


def test_rejected_rows_make_status_end_with_3(api2db: Command, rejecting: Path) -> None:
    ended = api2db("status")
    assert ended.code == 3
    assert "1 row rejected" in ended.out
    assert json.loads(api2db("status", "--json").out)["healthy"] is False


def test_rejected_rows_are_listed_shown_and_put_again(api2db: Command, rejecting: Path) -> None:
    listed = api2db("rejected", "list")
    [line] = listed.out.splitlines()[1:]
    file = line.split()[-1]
    assert (rejecting / file).is_file()
    shown = api2db("rejected", "show", Path(file).stem)
    assert "_api2db_reason" in shown.out
    assert shown.code == 0
    again = api2db("rejected", "retry", file)
    assert again.code == 0, again
    assert "1 row put again" in again.out
    assert not (rejecting / file).exists()
    assert api2db("rejected", "list").out == "There are no rejected rows.\n"
    assert api2db("status").code == 0


_THREADS_AT_EXIT = """
import atexit, sys, threading
from pathlib import Path
from api2db.__main__ import main

def tell():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    print("native:", len([name for name in names if not name.startswith("jemalloc")]) - threading.active_count())

atexit.register(tell)
sys.argv[1:] = ["rejected", "list"]
main()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists the threads of a process")
def test_rejected_rows_are_listed_without_threads_of_arrow(rejecting: Path) -> None:
    """One that lets go of an object of Python while the process exits would abort it."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _THREADS_AT_EXIT]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=rejecting, env=environment)
    assert "NOT NULL" in ended.stdout
    assert ended.stdout.endswith("native: 0\n")


def test_rejected_rows_are_dropped_after_a_question(
    api2db: Command, rejecting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert "Delete 1 rejected row for good?" in api2db("rejected", "drop", "--all").out
    [file] = (rejecting / "STORE" / "rejected").glob("*/*/*.parquet")
    dropped = api2db("rejected", "drop", file.name, "--yes")
    assert (dropped.code, dropped.out) == (0, f"{file.relative_to(rejecting)}: 1 row deleted\n")
    assert not file.exists()
    status = json.loads(api2db("status", "--json").out)
    assert status["collectors"][0]["streams"][0]["rows_rejected"] == 0


def test_retry_wants_to_know_what(api2db: Command, rejecting: Path) -> None:
    assert api2db("rejected", "retry").code == 2
    assert api2db("rejected", "retry", "nothing-like-that").code == 2
    assert api2db("rejected", "retry", "--all").code == 0


def test_forget_drops_a_stream_and_says_how_many_rows_go(api2db: Command, rejecting: Path) -> None:
    assert "no stream matches 'rivers'" in api2db("forget", "rivers").error
    ended = api2db("forget", "cities", "--yes")
    assert ended.code == 0
    assert "with 1 row that waited for it." in ended.out
    assert json.loads(api2db("status", "--json").out)["collectors"] == []


def test_forget_asks_first_and_does_nothing_on_no(
    api2db: Command, rejecting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    ended = api2db("forget", "cities")
    assert ended.code == 1
    assert "with 1 row waiting for it?" in ended.out
    assert len(json.loads(api2db("status", "--json").out)["collectors"][0]["streams"]) == 1


@pytest.fixture
def overtaken(tmp_path: Path) -> Stream2Sql:
    """A stream into a database that a copy of its project has written into; one row waits for it."""
    home, database = tmp_path / "ours", str(tmp_path / "cities.sqlite")
    put(Stream2Sql("cities", database, "sqlite", home=home), 1)
    shutil.copytree(home, tmp_path / "copy")
    put(Stream2Sql("cities", database, "sqlite", home=tmp_path / "copy"), 2)
    stream = Stream2Sql("cities", database, "sqlite", home=home)
    with suppress(StreamDiedError):
        put(stream, 3)
    stream.stop()
    return stream


def put(stream: Stream2Sql, number: int) -> None:
    with stream:
        stream.q.put(pd.DataFrame({"id": [number]}))
        stream.flush(20)


def test_a_stream_that_a_copy_has_overtaken_makes_status_end_with_3_and_goes_on_once_it_is_adopted(
    api2db: Command, tmp_path: Path, overtaken: Stream2Sql
) -> None:
    home = ["--home", str(tmp_path / "ours")]
    status = api2db("status", *home)
    assert status.code == 3
    assert "api2db adopt" in status.out
    adopted = api2db("adopt", "cities", "--yes", *home)
    assert adopted.code == 0, adopted
    assert "First stop the copy" in adopted.out
    assert "may be in the target twice" in adopted.out
    put(overtaken, 4)
    with closing(sqlite3.connect(tmp_path / "cities.sqlite")) as database:
        assert database.execute("SELECT id FROM cities").fetchall() == [(1,), (2,), (3,), (4,)]
    assert api2db("status", *home).code == 0


def test_adopt_asks_first_and_does_nothing_on_no(
    api2db: Command, tmp_path: Path, overtaken: Stream2Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    ended = api2db("adopt", "cities", "--home", str(tmp_path / "ours"))
    assert ended.code == 1
    assert "with 1 row waiting for it?" in ended.out
    with suppress(StreamDiedError):
        put(overtaken, 4)
    assert overtaken.status().last_error is not None


def test_a_main_file_that_raises_is_one_line_and_has_its_traceback_with_debug(tmp_path: Path) -> None:
    main_file = tmp_path / "main.py"
    main_file.write_text("def broken():\n    raise RuntimeError('no such thing, password=geheim')\n\nbroken()\n")
    command = [sys.executable, "-c", "from api2db.__main__ import main; main()", "run", str(main_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = "RuntimeError: no such thing, password=*** (main.py:2 in broken)"
    step = f"correct it; api2db run {main_file} --debug shows the traceback"
    assert done.returncode == 2
    assert done.stderr == f"api2db: {main_file} can't be imported: {said}; {step}\n"
    debugged = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False).stderr
    assert f'File "{main_file}", line 4, in <module>' in debugged
    assert f'File "{main_file}", line 2, in broken' in debugged
    assert debugged.endswith(done.stderr)
    assert "geheim" not in debugged


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pd.DataFram()", "AttributeError: module 'pandas' has no attribute 'DataFram'. Did you mean: 'DataFrame'?"),
        ("len(5)", "TypeError: object of type 'int' has no len()"),
    ],
)
def test_an_error_during_the_import_keeps_the_hint_of_python(
    api2db: Command, tmp_path: Path, line: str, said: str
) -> None:
    (tmp_path / "main.py").write_text(f"import pandas as pd\n\n{line}\n")
    ended = api2db("run")
    step = "correct it; api2db run main.py --debug shows the traceback"
    assert ended.error == f"api2db: main.py can't be imported: {said} (main.py:3); {step}\n"
    [finding] = [each for each in api2db("doctor", "--json").said["findings"] if each["about"] == "main.py"]
    assert finding["what"] == f"main.py can't be imported: {said} (main.py:3)"
    assert finding["next_step"] == step


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "ImportError", "RuntimeError"])
def test_ctrl_c_during_the_import_of_a_main_file_ends_as_any_other(
    api2db: Command, tmp_path: Path, raised: str
) -> None:
    """Libraries in C may make an ImportError of it: numpy does."""
    (tmp_path / "main.py").write_text(
        "import signal\n\ntry:\n    signal.raise_signal(signal.SIGINT)\n"
        f"except KeyboardInterrupt:\n    raise {raised}('multiarray failed to import') from None\n"
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ended = api2db("run", "main.py")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.code == 130
    assert "can't be imported" not in ended.error
