"""``api2db demo``: load a recorded API into Parquet and DuckDB, kill the process on the way, and compare the rows."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb
from rich.console import Console
from rich.text import Text

from api2db.app.figures import read_figures
from api2db.app.live import LiveView
from api2db.app.logs import log_to_console, log_to_file
from api2db.app.project import collectors_in, load
from api2db.app.run import Run
from api2db.app.screen import ConsoleHandler, print_table
from api2db.demo import _records
from api2db.demo._api import DemoApi
from api2db.demo._proof import Proof, new_home, print_proofs, proof_of, shard_ids
from api2db.errors import Api2dbError

_MAIN_FILE: Final = Path(__file__).with_name("_main.py")
_KILL_AT: Final = 0.45
_LONGEST_WAIT_S: Final = 45.0
_LOOK_EVERY_S: Final = 0.1
_INTERRUPTED: Final = 130
_DATABASE: Final = "STORE/demo.duckdb"

_QUERIES: Final = (
    (
        "Which airlines cancelled most flights in the storm?",
        """SELECT airline->>'name' AS airline, count(*) AS flights,
       count(*) FILTER (dep_time IS NULL) AS cancelled,
       round(avg(dep_delay), 1) AS mean_delay_min
FROM departures GROUP BY ALL ORDER BY cancelled DESC LIMIT 5""",
    ),
    (
        "How did the weather affect departures, day by day?",
        """SELECT f.day, count(*) AS flights, round(100 * avg((f.dep_time IS NULL)::INT)) AS cancelled_percent,
       round(min(w.visib), 2) AS worst_visibility_miles, round(max(w.wind_speed), 1) AS strongest_wind_mph
FROM departures f LEFT JOIN weather w USING (origin, time_hour) GROUP BY ALL ORDER BY f.day""",
    ),
)


def run_demo(seconds: float, home: Path | None) -> int:
    """Run the demo; return the exit code, which is 0 if the counts are equal.

    Args:
        seconds: Wall time in which four days of flights and weather are served.
        home: An empty or new folder; by default ``demo/<date and time>`` here.

    Raises:
        ConfigurationError: The folder holds a project already.
    """
    folder = new_home(home)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"Four stormy days of New York's airports, February 2013, are served on a loopback port in {seconds:g} s.\n"
        "Two collectors poll it, each into Parquet shards and into DuckDB. On the way their process is killed.\n"
    )
    with DemoApi(seconds) as api:
        os.environ["API2DB_HOME"] = str(folder)
        os.environ["API2DB_DEMO_URL"] = api.url
        try:
            _collect(console, folder, api, seconds)
        except KeyboardInterrupt:
            console.print("interrupted; what was collected so far stays where it is")
            return _INTERRUPTED
        served = api.served()
    faults = {**served.departures.faults}
    for code, count in served.weather.faults.items():
        faults[code] = faults.get(code, 0) + count
    said = ", ".join(f"{count} times {code}" for code, count in sorted(faults.items()) if count) or "no errors"
    console.print(
        f"\nThe API also answered {said}, and sent {served.weather.sent:,} weather rows for "
        f"{served.weather.rows:,}: polls overlap.\n"
    )
    holds = print_proofs(console, _proofs(folder))
    _query(console, folder)
    _say_where(console, folder)
    return 0 if holds else 1


def _collect(console: Console, home: Path, api: DemoApi, seconds: float) -> None:
    """Run the collectors in a child process, kill it once, and return when all served rows have arrived."""
    log_to_console(logging.INFO, ConsoleHandler(console))
    log_to_file(home, "demo")
    collectors = collectors_in(load(_MAIN_FILE))
    run = Run(collectors, main_file=_MAIN_FILE, output=lambda line: console.out(line, highlight=False))
    failures: list[Api2dbError] = []
    thread = threading.Thread(target=_kept(run.run, failures), name="api2db-demo")
    with LiveView(home, console):
        thread.start()
        try:
            began_s = time.monotonic()
            _wait(lambda: time.monotonic() - began_s > _KILL_AT * seconds and _some_arrived(home), seconds, thread)
            _kill(console, run)
            _wait(lambda: api.served().complete and _all_arrived(home), seconds + _LONGEST_WAIT_S, thread)
        finally:
            run.stop()
            thread.join()
    if failures:
        raise failures[0]


def _kept(run: Callable[[], None], failures: list[Api2dbError]) -> Callable[[], None]:
    def target() -> None:
        try:
            run()
        except Api2dbError as error:
            failures.append(error)

    return target


def _kill(console: Console, run: Run) -> None:
    for pid, names in run.processes.items():
        line = f"kill -9 {pid}: killed the process that collects and delivers {' and '.join(names)}"
        console.print(Text(line, style="bold red"))
        os.kill(pid, signal.SIGKILL)


def _wait(happened: Callable[[], bool], timeout_s: float, thread: threading.Thread) -> None:
    deadline_s = time.monotonic() + timeout_s
    while thread.is_alive() and time.monotonic() < deadline_s and not happened():
        thread.join(_LOOK_EVERY_S)


def _some_arrived(home: Path) -> bool:
    return any(stream.rows_delivered for collector in read_figures(home) for stream in collector.streams)


def _all_arrived(home: Path) -> bool:
    wanted = {"departures": len(_records.departures()), "weather": len(_records.weather())}
    streams = [stream for collector in read_figures(home) for stream in collector.streams]
    return bool(streams) and all(
        stream.rows_delivered >= wanted[stream.collector] and not stream.rows_waiting for stream in streams
    )


def _query(console: Console, home: Path) -> None:
    for question, query in _QUERIES:
        console.print(Text(question, style="bold"))
        console.print(Text(query, style="dim"))
        print_table(console, *_table_of(home, query))
        console.print()


def _say_where(console: Console, home: Path) -> None:
    console.print("Everything is in", str(home))
    print_table(
        console,
        ["what", "where"],
        [
            ["the database", f"{home / _DATABASE} (duckdb, DBeaver, or any client)"],
            ["the shards", str(home / "STORE" / "departures" / "parquet")],
            ["the journals", str(home / "STORE" / "journal")],
            ["the log", str(home / "LOGS")],
            ["the collectors", str(_MAIN_FILE)],
        ],
    )


def _proofs(home: Path) -> list[Proof]:
    """Compare both targets of both collectors with what was served, with clients other than api2db."""
    found = []
    for name, served in (("departures", _records.departures()), ("weather", _records.weather())):
        ids = [record.id for record in served]
        found.append(proof_of(name, "Parquet shards", ids, shard_ids(home / "STORE" / name / "parquet")))
        found.append(proof_of(name, "DuckDB table", ids, _table_ids(home / _DATABASE, name)))
    return found


def _table_of(home: Path, query: str) -> tuple[list[str], list[list[str]]]:
    """Run a query on the demo's database; return its column names and its rows as text."""
    with duckdb.connect(str(home / _DATABASE), read_only=True) as connection:
        result = connection.execute(query)
        head = [column[0] for column in result.description or []]
        return head, [["" if value is None else str(value) for value in row] for row in result.fetchall()]


def _table_ids(path: Path, table: str) -> list[str]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return [row[0] for row in connection.execute(f'SELECT id FROM "{table}"').fetchall()]  # noqa: S608 - our own name
