"""The functions behind the command line's commands."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from api2db.app._cluster import cluster_address
from api2db.app._host import wait_for_journals
from api2db.app._page import page_beside
from api2db.app._progress import progress_bar
from api2db.app._rejects import RejectedFile, drop_file, find_file, read_rows, rejected_files, retry_file
from api2db.app._status import waiting_rows
from api2db.app._stopping import Stop
from api2db.app.figures import read_figures
from api2db.app.live import LiveView
from api2db.app.logs import log_to_console, log_to_file
from api2db.app.project import collectors_in, load
from api2db.app.run import Run
from api2db.app.screen import ConsoleHandler, print_figures, print_table
from api2db.errors import Api2dbError, ConfigurationError
from api2db.frames import to_pandas
from api2db.journal import StreamOverview
from api2db.stream import commands
from api2db.texts import counted

_BEFORE_ADOPTING = (
    "First stop the copy that delivers there for good. Rows that the copy delivered under the same frames may be in "
    "the target twice: check the target."
)


def run_project(main_file: Path, home: Path, *, once: bool, timeout_s: float | None, web: str | None = None) -> None:
    """Run the collectors of a main file, with the live view.

    Args:
        main_file: The project's.
        home: Its folder.
        once: Whether each collector polls once only.
        timeout_s: See ``Run.run``.
        web: Where to serve the live page; None for no page.

    Raises:
        Api2dbError: As ``Run.run`` does.
    """
    console = Console()
    log_to_console(logging.INFO, ConsoleHandler(console))
    loaded = load(main_file)
    collectors = collectors_in(loaded)
    log_to_file(home, "run")
    names = [collector.name for collector in collectors]
    run = Run(
        collectors,
        main_file=main_file.absolute(),
        output=lambda line: console.out(line, highlight=False),
        alerts=getattr(loaded.module, "alerts", ()),
    )
    if once:
        run.run(once=True, timeout=timeout_s)
        print_figures(console, read_figures(home, names))
        return
    if cluster_address() is None:
        wait_for_journals(collectors, Stop())
    page = nullcontext() if web is None else page_beside(home, web, lambda line: console.out(line, highlight=False))
    with page, LiveView(home, console, names):
        run.run()
    if said := waiting_rows(read_figures(home, names)):
        console.out(f"{said}; the next run delivers them", highlight=False)


def forget_stream(home: Path, wanted: str, confirm: Callable[[str], bool]) -> None:
    """Drop a stream and print what was dropped.

    Raises:
        ConfigurationError: There is no such stream, or it is running.
    """
    stream = _stream_named(home, wanted)
    name, waiting = f"{stream.collector} → {stream.identity}", counted(stream.rows_waiting, "row")
    if confirm(f"Forget {name}, with {waiting} waiting for it?"):
        commands.forget(home, stream.collector, stream.identity)
        print(f"{name} is forgotten, with {waiting} that waited for it.")


def adopt_stream(home: Path, wanted: str, confirm: Callable[[str], bool]) -> None:
    """Continue a stream after a copy of the project has written to its target's ledger.

    Raises:
        ConfigurationError: There is no such stream.
    """
    stream = _stream_named(home, wanted)
    name = f"{stream.collector} → {stream.identity}"
    print(_BEFORE_ADOPTING)
    if confirm(f"Continue {name} from here, with {counted(stream.rows_waiting, 'row')} waiting for it?"):
        commands.adopt(home, stream.collector, stream.identity)
        print(f"{name} belongs to this project now; its next load records that in the target's ledger.")


def print_rejected(home: Path, *, as_json: bool = False) -> None:
    """Print the files of rejected rows."""
    files = rejected_files(home)
    if as_json:
        print(json.dumps([{**asdict(file), "rejected_at": file.rejected_at.isoformat()} for file in files], indent=2))
        return
    if not files:
        print("There are no rejected rows.")
        return
    rows = [[f"{file.rejected_at:%Y-%m-%d %H:%M:%S}", f"{file.rows:,}", _reason(file), file.file] for file in files]
    print_table(Console(), ["put at", "rows", "reason", "file"], rows)


def show_rejected_rows(home: Path, wanted: str, most: int, *, as_json: bool = False) -> None:
    """Print rejected rows with their reasons.

    Raises:
        ConfigurationError: There is no such file.
    """
    file = find_file(home, wanted)
    frame = to_pandas(read_rows(home, file).slice(0, most))
    if as_json:
        rows = json.loads(frame.to_json(orient="records", date_format="iso"))
        print(json.dumps({"file": file.file, "rows_of_file": file.rows, "rows": rows}, indent=2))
        return
    print(f"{file.file}: {counted(file.rows, 'row')}")
    print(frame.to_string(index=False))
    if file.rows > most:
        print(f"… {counted(file.rows - most, 'more row')}")


def retry_rejected_files(home: Path, wanted: Sequence[str] | None) -> bool:
    """Put the rows of some files again, or of all files; return False if that failed for one.

    Raises:
        ConfigurationError: There is no such file; then nothing is done.
    """
    return _each_file(_files(home, wanted), "put again", partial(retry_file, home))


def drop_rejected_files(home: Path, wanted: Sequence[str] | None, confirm: Callable[[str], bool]) -> bool:
    """Delete the rows of some files for good, or of all files; return False if that failed for one.

    Raises:
        ConfigurationError: There is no such file; then nothing is done.
    """
    files = _files(home, wanted)
    rows = sum(file.rows for file in files)
    if not files or not confirm(f"Delete {counted(rows, 'rejected row')} for good?"):
        return True
    return _each_file(files, "deleted", partial(drop_file, home))


def _files(home: Path, wanted: Sequence[str] | None) -> list[RejectedFile]:
    return rejected_files(home) if wanted is None else [find_file(home, name) for name in wanted]


def _each_file(files: Sequence[RejectedFile], done: str, act: Callable[[str], int]) -> bool:
    went_well, reached, total = True, 0, sum(file.rows for file in files)
    with progress_bar() as show:
        for file in files:
            show(f"rows {done}", reached, total)
            try:
                rows = act(file.file)
            except Api2dbError as error:
                went_well = False
                print(f"{file.file}: {error}")
            else:
                print(f"{file.file}: {counted(rows, 'row')} {done}")
            reached += file.rows
    return went_well


def _reason(file: RejectedFile) -> str:
    return file.reason + (f" (and {counted(file.reasons - 1, 'other reason')})" if file.reasons > 1 else "")


def _stream_named(home: Path, wanted: str) -> StreamOverview:
    streams = [stream for collector in read_figures(home) for stream in collector.streams]
    exact = [stream for stream in streams if wanted in {stream.identity, _full_name(stream)}]
    found = exact or [stream for stream in streams if wanted in _full_name(stream)]
    if len(found) == 1:
        return found[0]
    known = "; ".join(_full_name(stream) for stream in found or streams) or "none"
    many = f"{len(found)} streams match" if found else "no stream matches"
    raise ConfigurationError(f"{many} {wanted!r} in {home}; there are: {known}")


def _full_name(stream: StreamOverview) -> str:
    return f"{stream.collector}/{stream.identity}"
