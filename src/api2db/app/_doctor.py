"""``api2db doctor``: examines a project, its APIs, targets, journals and machine, and says what to do next."""

import itertools
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console

from api2db.app.figures import read_figures
from api2db.app.health import forget_command, troubles
from api2db.app.project import MainFileError, collectors_in, load
from api2db.app.screen import print_table
from api2db.errors import Api2dbError, ConfigurationError
from api2db.ingest import Collector
from api2db.journal import StreamOverview
from api2db.progress import through
from api2db.rest import Resource
from api2db.store import store_figures
from api2db.stream.diagnosis import Diagnosis
from api2db.stream.stream import Stream
from api2db.texts import counted, describe_error

Level = Literal["ok", "warning", "error"]
_LITTLE_BYTES: Final = 1 << 30
_TOO_LITTLE_BYTES: Final = 100 << 20
_FEW_INODES: Final = 10_000
_FILES_OF_A_PROCESS: Final = 64
_FILES_OF_A_COLLECTOR: Final = 12
_FILES_OF_A_STREAM: Final = 8
_CLOCK_OFF_S: Final = 60.0
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined.

    Attributes:
        level: ``error``: rows do not arrive, or soon won't; ``warning``: somebody should look at it.
        about: What was examined.
        what: What was found.
        next_step: What to do; empty if nothing is to be done.
    """

    level: Level
    about: str
    what: str
    next_step: str = ""


def examine(main_file: Path, home: Path) -> list[Finding]:
    """Examine all of a project. Each API is asked for one page; targets are only read."""
    found = list(_of_machine(home))
    collectors, trouble = _collectors(main_file)
    found += [trouble, *_of_files(collectors)]
    for collector in through("examining collectors", collectors):
        found.append(_of_api(collector))
        found += [each for stream in _streams(collector) for each in _of_target(collector, stream, collectors)]
    found += _of_journals(home, _declared(collectors), main_file)
    return found


def print_findings(main_file: Path, home: Path, *, as_json: bool) -> bool:
    """Print what was found; return whether all is well."""
    found = examine(main_file, home)
    is_well = all(finding.level == "ok" for finding in found)
    if as_json:
        print(json.dumps({"healthy": is_well, "findings": [asdict(finding) for finding in found]}, indent=2))
        return is_well
    console = Console(soft_wrap=True, highlight=False)
    print_table(console, ["", "examined", "found"], [[each.level, each.about, each.what] for each in found])
    steps = [each for each in found if each.next_step]
    console.print("Nothing is to be done." if not steps else "\nWhat to do next:", highlight=False)
    for each in steps:
        console.out(f"- {each.about}: {each.next_step}", highlight=False)
    return is_well


def _collectors(main_file: Path) -> tuple[list[Collector], Finding]:
    try:
        found = collectors_in(load(main_file))
    except MainFileError as error:
        return [], Finding("error", str(main_file), error.what, error.next_step)
    except Api2dbError as error:
        return [], Finding("error", str(main_file), str(error), "correct the file; see docs/collectors.md")
    return found, Finding("ok", str(main_file), f"{counted(len(found), 'collector')} imported")


def _streams(collector: Collector) -> Sequence[Any]:
    return () if callable(collector.streams) else collector.streams


def _declared(collectors: Sequence[Collector]) -> Callable[[StreamOverview], bool]:
    """Tell which streams of journals are in the main file; all are taken to be, where it can't be known."""
    names = {each.name for each in collectors if callable(each.streams)}
    streams = [each for collector in collectors for each in _streams(collector)]
    names |= {each.name for each in streams if not isinstance(each, Stream)}
    known = {(each.name, each.identity) for each in streams if isinstance(each, Stream)}
    return lambda seen: not collectors or seen.collector in names or (seen.collector, seen.identity) in known


def _of_api(collector: Collector) -> Finding:
    about, resource_ = f"API of {collector.name}", collector.import_target
    if not isinstance(resource_, Resource):
        return Finding("ok", about, "polled by a function of yours, which is not called here")
    if resource_.job is not None:
        return Finding("ok", about, f"{resource_!r} makes its list in a job, which is not begun here")
    try:
        pages = resource_({})
        first = next(iter(pages), None)
    except Api2dbError as error:
        return Finding("error", about, str(error), "check the address, the credentials and their rights at the API")
    except Exception as error:  # noqa: BLE001 - casts and filters are the user's code
        return Finding("error", about, describe_error(error), "correct the resource; see docs/rest.md")
    return Finding("ok", about, f"{resource_!r} answers, {'without rows' if first is None else 'with rows'}")


def _of_target(collector: Collector, stream: Any, collectors: Sequence[Collector]) -> Iterator[Finding]:
    if not isinstance(stream, Stream):
        return
    about = f"target of {collector.name}: {stream.describe()}"
    try:
        said = stream.diagnose()
    except Api2dbError as error:
        is_ours = isinstance(error, ConfigurationError)
        step = "correct the stream" if is_ours else "correct its address, login or server; rows wait in the journal"
        yield Finding("error", about, str(error), step)
        return
    if said.missing_rights:
        rights = ", ".join(said.missing_rights)
        yield Finding("error", about, f"reached, but the user lacks: {rights}", f"grant {rights}")
    else:
        yield Finding("ok", about, "reached, and no right is missing")
    yield from _of_server(about, said, _connections(stream, collectors))


def _of_server(about: str, said: Diagnosis, wanted: int) -> Iterator[Finding]:
    if said.connections is not None:
        used, most = said.connections
        what = f"{used} of {most} connections are in use; this project opens up to {wanted} more"
        step = "raise max_connections of the server, or lower that of the streams"
        yield Finding("warning", about, what, step) if used + wanted > most else Finding("ok", about, what)
    if said.clock_ahead_s is not None and abs(said.clock_ahead_s) > _CLOCK_OFF_S:
        what = f"the server's clock differs from this machine's by {said.clock_ahead_s:,.0f} s"
        yield Finding("warning", about, what, "synchronise both clocks, for example with chrony")


def _connections(stream: Stream, collectors: Sequence[Collector]) -> int:
    """How many connections the processes of a run open at most: each collector may have one of its own."""
    each = getattr(stream, "max_connections", 0)
    same = [other for collector in collectors for other in _streams(collector) if _server(other) == _server(stream)]
    return min(int(each) * len(collectors), len(same))


def _server(stream: Any) -> tuple[Any, ...]:
    return tuple(getattr(stream, name, None) for name in ("dialect", "host", "port"))


def _of_machine(home: Path) -> Iterator[Finding]:
    folder = home if home.exists() else home.parent
    free = shutil.disk_usage(folder).free
    what = f"{free / _MIB:,.0f} MiB are free on the disk of {home}"
    if free < _LITTLE_BYTES:
        level: Level = "error" if free < _TOO_LITTLE_BYTES else "warning"
        yield Finding(level, "disk", what, "free space, or move the project: put fails once the disk is full")
    else:
        yield Finding("ok", "disk", what)
    inodes = os.statvfs(folder)
    if inodes.f_files and inodes.f_favail < _FEW_INODES:
        what = f"{inodes.f_favail:,} inodes are left"
        yield Finding("warning", "disk", what, "remove files, or compose shards: api2db compose")
    if not os.access(folder, os.W_OK):
        yield Finding("error", "disk", f"{folder} can't be written", "change its owner, or name another: --home")
    yield from _of_clock(home)


def _of_clock(home: Path) -> Iterator[Finding]:
    now_s = time.time()
    newest_s = max((figures.status.polled_at or 0 for figures in read_figures(home) if figures.status), default=0.0)
    if newest_s > now_s + _CLOCK_OFF_S:
        what = f"the last poll was {newest_s - now_s:,.0f} s in the future: the clock has gone back"
        yield Finding("warning", "clock", what, "correct the clock; cursors of time may skip rows meanwhile")


def _of_files(collectors: Sequence[Collector]) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    streams = sum(len(_streams(collector)) for collector in collectors)
    need = _FILES_OF_A_PROCESS + _FILES_OF_A_COLLECTOR * len(collectors) + _FILES_OF_A_STREAM * streams
    what = f"a process may have {soft:,} files open; this project needs up to about {need:,}"
    yield Finding("warning", "files", what, f"ulimit -n {need * 2}") if soft < need else Finding("ok", "files", what)


def _of_journals(home: Path, is_declared: Callable[[StreamOverview], bool], main_file: Path) -> Iterator[Finding]:
    figures = read_figures(home)
    found = troubles(figures, store_figures(home))
    for trouble in found:
        about = " → ".join(filter(None, (f"journal of {trouble.collector}", trouble.stream)))
        yield Finding(trouble.severity, about, trouble.what, trouble.next_step)
    wrong = {(trouble.collector, trouble.stream) for trouble in found}
    for name, stream in itertools.chain.from_iterable(((each.name, s) for s in each.streams) for each in figures):
        about, waits = f"journal of {name} → {stream.identity}", f"{counted(stream.rows_waiting, 'row')} waiting"
        if stream.rows_waiting and not stream.running and not is_declared(stream):
            step = f"add it to {main_file} again, or drop its rows: {forget_command(stream)}"
            yield Finding("warning", about, f"{waits} for a stream that {main_file} does not declare", step)
        elif (name, stream.identity) not in wrong:
            why = "" if stream.running or not stream.rows_waiting else "; the next run delivers them"
            yield Finding("ok", about, f"{counted(stream.rows_delivered, 'row')} delivered, {waits}{why}")
