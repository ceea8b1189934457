"""REST: a paged list into DuckDB beside dlt's REST source, a rate limit as the server sees it, and idle collectors."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.environments import interpreter_of
from benchmarks.figure import Figure

_RUNS: Final = 3
_ROWS: Final = 50_000
_PAGE: Final = 100
_PEER: Final = "dlt[duckdb]==1.31.0"
_AIM_FASTER: Final = 5.0
_COLLECTORS: Final = 100
_LIMIT: Final = 50
_LIMITED_S: Final = 20.0
_IDLE_S: Final = 20.0
_HOUR_S: Final = 3600.0
_AIM_IDLE_CPU: Final = 1.0

OURS: Final = """
from api2db import Collector, Run, Stream2Sql
from api2db.rest import LinkHeader, RestApi

issues = RestApi(URL).get("/issues", params={"per_page": SIZE}, pagination=LinkHeader(), keys="id")
Run([Collector("issues", 60, issues, [Stream2Sql("issues", "issues.duckdb", "duckdb")])]).run(once=True)
"""

THEIRS: Final = """
import dlt
from dlt.sources.rest_api import rest_api_source

source = rest_api_source({
    "client": {"base_url": URL, "paginator": "header_link"},
    "resources": [{
        "name": "issues",
        "primary_key": "id",
        "write_disposition": "merge",
        "endpoint": {"path": "issues", "params": {"per_page": SIZE}},
    }],
})
destination = dlt.destinations.duckdb("issues.duckdb")
dlt.pipeline("issues", destination=destination, dataset_name="main").run(source)
"""
"""Both as their documentation has them: rows replace each other by key."""


def measure(folder: Path) -> Iterator[Figure]:
    """Each program in a process of its own, ours and dlt's in turn, against a server in another process."""
    yield from _beside_dlt(folder)
    yield from _limited(folder)


def _beside_dlt(folder: Path) -> Iterator[Figure]:
    python = interpreter_of("dlt", _PEER)
    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    calls: dict[str, list[int]] = {"ours": [], "theirs": []}
    for run in range(_RUNS):
        for who, interpreter, program in (("ours", sys.executable, OURS), ("theirs", python, THEIRS)):
            home = folder / f"{who}-{run}"
            home.mkdir()
            with _server(folder / f"{who}-{run}.json") as url:
                took[who].append(_seconds(interpreter, program, url, home))
            calls[who].append(len(json.loads((folder / f"{who}-{run}.json").read_text())))
            if (found := _rows_in(home / "issues.duckdb")) != _ROWS:
                raise AssertionError(f"{who} loaded {found} rows of {_ROWS}")
    ours_s, theirs_s = (statistics.median(took[who]) for who in ("ours", "theirs"))
    title = f"REST, {_ROWS:,} rows in pages of {_PAGE} into DuckDB, dlt as floor"
    yield Figure(title, _ROWS / ours_s, "rows/s", floor=_ROWS / theirs_s, aim=_AIM_FASTER)
    yield _at_most("calls made", statistics.median(calls["ours"]), statistics.median(calls["theirs"]), "calls")
    yield _at_most("lines of the user's code", _lines(OURS), _lines(THEIRS), "lines")


def _at_most(name: str, ours: float, theirs: float, unit: str) -> Figure:
    return Figure(f"REST, {name}, dlt as floor", ours, unit, floor=theirs, aim=1.0, less_is_better=True)


def _lines(program: str) -> int:
    return sum(bool(line.strip()) for line in program.splitlines())


def _seconds(python: str, program: str, url: str, home: Path) -> float:
    """What a program takes from its first import to its last row, without the start of the interpreter."""
    timed = (
        f"import time\nbegan_s = time.perf_counter()\nURL, SIZE = {url!r}, {_PAGE}\n{program}\n"
        "print('took', time.perf_counter() - began_s)"
    )
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DLT_DATA_DIR": str(home / "dlt"), "API2DB_HOME": str(home)}
    done = subprocess.run(
        [python, "-c", timed], cwd=home, env={**os.environ, **quiet}, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout.split()[-1])


def _rows_in(path: Path) -> int:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        found = connection.execute("SELECT count(DISTINCT id) FROM issues").fetchone()
    return int(found[0]) if found is not None else 0


def _limited(folder: Path) -> Iterator[Figure]:
    """The collectors have no other bound than the rate limit; then they have nothing to do for an hour."""
    busy, idle = folder / "busy", folder / "idle"
    with _server(folder / "busy.json") as url:
        _collecting(busy, url, 1.0, _LIMITED_S)
    most = _most_in_a_second(json.loads((folder / "busy.json").read_text()))
    title = f"{_COLLECTORS} REST collectors on one host"
    yield Figure(f"{title}, most calls in any second", most, "calls", aim=_LIMIT, less_is_better=True)
    with _server(folder / "idle.json") as url:
        cpu = _collecting(idle, url, _HOUR_S, _IDLE_S)
    yield Figure(f"{title}, CPU while idle", cpu, "% of one", aim=_AIM_IDLE_CPU, less_is_better=True)


def _most_in_a_second(seen_s: list[float]) -> int:
    """The most calls in any second that begins with one of them."""
    seen_s, most, begin = sorted(seen_s), 0, 0
    for number, at_s in enumerate(seen_s):
        while seen_s[begin] <= at_s - 1.0:
            begin += 1
        most = max(most, number - begin + 1)
    return most


def _collecting(home: Path, url: str, seconds: float, window_s: float) -> float:
    home.mkdir()
    command = [sys.executable, "-m", "benchmarks.rest", "collect", str(home), url, str(seconds), str(window_s)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def _collect(home: Path, url: str, seconds: float, window_s: float) -> float:
    """Run the collectors in this process; return the CPU that it takes in a window after their first polls."""
    from api2db import Collector, Stream2Sql
    from api2db.app._host import Host
    from api2db.rest import RestApi

    api = RestApi(url, rate_limit=f"{_LIMIT}/s")
    names = [f"c{number:03}" for number in range(_COLLECTORS)]
    resources = {name: api.get("/one/{name}", name=name) for name in names}
    host = Host(
        [
            Collector(name, seconds, one, [Stream2Sql(name, "all.duckdb", "duckdb", home=home)])
            for name, one in resources.items()
        ]
    )
    host.start()
    while any(not one.figures.rows_new for one in resources.values()):
        time.sleep(0.2)  # a resource's figures tell nobody that they have changed
    time.sleep(5.0)  # until the first rows are in their tables, and what only the first load needed is gone
    began_s, cpu_s = time.monotonic(), time.process_time()
    time.sleep(window_s)  # idle: what the process uses meanwhile is what is measured
    cpu = 100 * (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    host.drain(60)
    return cpu


@contextmanager
def _server(seen: Path) -> Iterator[str]:
    """Run the API in a process of its own; at its end it writes when each call came, in seconds."""
    command = [sys.executable, "-m", "benchmarks.rest", "serve", str(seen)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("end\n")


def _serve(seen: Path) -> None:
    from api2db.testing import ApiServer, Call, Reply

    seen_s: list[float] = []
    rows = [_row(number) for number in range(_ROWS)]
    bodies = [json.dumps(rows[place : place + _PAGE]).encode() for place in range(0, _ROWS, _PAGE)]
    lock = threading.Lock()

    def answer(call: Call) -> Reply:
        with lock:
            seen_s.append(time.monotonic())
        if call.path != "/issues":
            return Reply({"name": call.path, "at": time.time()})
        page = int(call.params.get("page", 1))
        link = f'<{call.base}/issues?per_page={_PAGE}&page={page + 1}>; rel="next"'
        return Reply(
            bodies[page - 1],
            headers={"Content-Type": "application/json", **({"Link": link} if page < len(bodies) else {})},
        )

    with ApiServer(answer) as server:
        print(server.url, flush=True)
        sys.stdin.readline()
    seen.write_text(json.dumps(seen_s))


def _row(number: int) -> dict[str, Any]:
    """A dozen fields as an API of issues has them, without nested ones, which dlt puts into tables of their own."""
    at = f"2024-{1 + number % 12:02}-{1 + number % 28:02}T{number % 24:02}:{number % 60:02}:00Z"
    return {
        "id": number,
        "node_id": f"I_{number:012x}",
        "number": number % 9973,
        "title": f"Something is wrong with the thing number {number}",
        "state": "open" if number % 3 else "closed",
        "locked": number % 7 == 0,
        "comments": number % 40,
        "score": number / 8,
        "author": f"user{number % 500}",
        "labels": "bug,help wanted" if number % 5 == 0 else "",
        "created_at": at,
        "updated_at": at,
        "body": "It happens each time, on all machines. " * (1 + number % 4),
    }


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    if task == "serve":
        _serve(Path(arguments[0]))
    else:
        print(_collect(Path(arguments[0]), arguments[1], float(arguments[2]), float(arguments[3])))
