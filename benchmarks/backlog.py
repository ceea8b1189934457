"""A backlog for PostgreSQL: its memory, api2db status, and how fast small frames drain beside large ones."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from api2db import Stream2Sql
from benchmarks.engines import running
from benchmarks.figure import Figure, median_of
from benchmarks.frames import tick_frame
from tests.servers.server import Server

_LARGE_ROWS = 100_000
# Each case: rows of the whole backlog, rows of a frame, and how fast it drains beside large frames.
_CASES = ((1_000_000, 5, 0.5), (5_000_000, 1_000, 0.9))
_MIXED_ROWS = 100_000
_AIM_MB = 30
_LEAST_ROWS = 100
_AIM_STATUS_S = 0.4
_STATUS_RUNS = 3
_DIFFERENT_FRAMES = 100
_PROCESS = Path("/proc/self")


def measure(folder: Path) -> Iterator[Figure]:
    """Put in one process while the server is down, and deliver in another."""
    with running("postgresql") as server:
        if server is None:
            return
        idle_mb = _Backlog(folder / "idle", server, 5, 5).figures("_idle")["idle_mb"]
        for rows, frame_rows, aim in _CASES:
            large = _Backlog(folder / f"{rows}-large", server, rows, _LARGE_ROWS)
            large.fill()
            floor = large.drained()["rows_per_s"]
            small = _Backlog(folder / f"{rows}-{frame_rows}", server, rows, frame_rows)
            title = f"{rows // frame_rows:,} frames of {frame_rows:,} rows"
            put = small.fill()
            yield _memory(f"{title}, putting", put["peak_mb"] - idle_mb, frame_rows)
            yield _status(f"{title}, with a run", put["status_s"])
            yield _status(f"{title}, after a kill", _status_s(small.home))
            size_bytes = sum(path.stat().st_size for path in small.home.rglob("*.segment"))
            yield Figure(f"{title}, on disk", size_bytes / rows, "bytes/row")
            found = small.drained()
            yield Figure(f"{title}, drained", found["rows_per_s"], "rows/s", floor=floor, aim=aim)
            yield _memory(f"{title}, draining", found["peak_mb"] - idle_mb, frame_rows)
        mixed = _Backlog(folder / "mixed", server, _MIXED_ROWS, 5, "_put_mixed")
        mixed.fill()
        title = f"{_MIXED_ROWS // 5:,} frames of 5 rows of two schemas in turn, drained"
        yield Figure(title, mixed.drained()["rows_per_s"], "rows/s")


def _memory(title: str, above_mb: float, frame_rows: int) -> Figure:
    aim = _AIM_MB if frame_rows < _LEAST_ROWS else None  # a batch of large frames is as large as without a backlog
    return Figure(f"{title}: memory above idle", above_mb, "MB", aim=aim, less_is_better=True)


def _status(title: str, took_s: float) -> Figure:
    return Figure(f"{title}: api2db status", took_s, "s", aim=_AIM_STATUS_S, less_is_better=True)


def _status_s(home: Path) -> float:
    """The median of three commands, with the bytecode that an installed package has."""
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
        command = [*_PYTHON, "api2db", "status", "--json", "--home", str(home)]

        def once(_: int) -> float:
            began_s = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=False)  # unhealthy: has an error
            return time.perf_counter() - began_s

        once(0)  # writes the bytecode
        return median_of(_STATUS_RUNS, once)


class _Backlog:
    """Rows that wait in the journal of a home for a server that is down."""

    def __init__(self, home: Path, server: Server, rows: int, frame_rows: int, put: str = "_put") -> None:
        home.mkdir(parents=True)
        self._put = put
        self.home = home
        self.rows = rows
        self._server = server
        self._database = server.new_database()
        self._frame_rows = frame_rows

    def fill(self) -> dict[str, float]:
        """Put, measure the status meanwhile, and kill the process that put."""
        self._server.stop()
        return self.figures(self._put, lambda: {"status_s": _status_s(self.home)})

    def drained(self) -> dict[str, float]:
        """Start the server, then a process that opens the journal and delivers all of it."""
        self._server.start()
        found = self.figures("_deliver")
        assert self._server.execute("SELECT count(*) FROM ticks", self._database) == [(self.rows,)]
        self._server.execute(f"DROP DATABASE {self._database} WITH (FORCE)")
        return found

    def figures(self, step: str, meanwhile: Callable[[], dict[str, float]] = dict) -> dict[str, float]:
        """Run a step in a process of its own; return its figures, and those taken before it is killed."""
        with self._process(step) as process:
            assert process.stdout is not None
            found: dict[str, float] = json.loads(process.stdout.readline())
            found |= meanwhile()
            process.kill()
        return found

    def _process(self, step: str) -> "subprocess.Popen[str]":
        server = self._server
        address = [self._database, "postgresql", server.user, server.password, server.host, str(server.port)]
        sizes = [str(self.rows), str(self._frame_rows)]
        command = [*_PYTHON, "benchmarks.backlog", step, str(self.home), *sizes, *address]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


_PYTHON = (sys.executable, "-m")


def _stream(home: Path, address: Sequence[str]) -> Stream2Sql:
    database, kind, user, password, host, port = address
    return Stream2Sql("ticks", database, kind, user, password, host, port=port, home=home, durability="process")


def _idle(stream: Stream2Sql, *_: int) -> None:
    """The memory of a process with an empty journal, which has delivered a frame."""
    with stream:
        stream.q.put(tick_frame())
        stream.flush()
        _say(idle_mb=_memory_mb("VmRSS"))
        sys.stdin.read()


def _put(stream: Stream2Sql, rows: int, frame_rows: int) -> None:
    _put_all(stream, rows, [_batch(number, frame_rows) for number in range(min(_DIFFERENT_FRAMES, rows // frame_rows))])


def _put_mixed(stream: Stream2Sql, rows: int, frame_rows: int) -> None:
    """Put whole numbers and numbers with a fraction in turn, which have no common type."""
    batches = [_batch(number, frame_rows) for number in range(_DIFFERENT_FRAMES)]
    batches[1::2] = [_with_fractions(batch, "size") for batch in batches[1::2]]
    _put_all(stream, rows, batches)


def _put_all(stream: Stream2Sql, rows: int, batches: Sequence[pa.RecordBatch]) -> None:
    frame_rows = batches[0].num_rows
    stream.start()
    _forget_peak()
    for number in range(rows // frame_rows):
        stream.q.put(batches[number % len(batches)])
    _say(peak_mb=_memory_mb("VmHWM"))
    sys.stdin.read()


def _deliver(stream: Stream2Sql, rows: int, _: int) -> None:
    _forget_peak()
    began_s = time.perf_counter()
    stream.start()
    stream.flush()
    took_s = time.perf_counter() - began_s
    _say(rows_per_s=rows / took_s, peak_mb=_memory_mb("VmHWM"))
    stream.stop()


def _batch(number: int, rows: int) -> pa.RecordBatch:
    """Rows like those of a tick, as many as are wanted."""
    tick = pa.RecordBatch.from_pandas(tick_frame(number), preserve_index=False)
    return pa.concat_batches([tick] * (rows // tick.num_rows))


def _with_fractions(batch: pa.RecordBatch, column: str) -> pa.RecordBatch:
    place = batch.schema.get_field_index(column)
    return batch.set_column(place, column, pc.add(batch.column(place).cast(pa.float64()), 0.5))


def _say(**figures: float) -> None:
    print(json.dumps(figures), flush=True)


def _forget_peak() -> None:
    if _PROCESS.exists():
        (_PROCESS / "clear_refs").write_text("5")


def _memory_mb(name: str) -> float:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


_STEPS: dict[str, Callable[..., None]] = {
    "_idle": _idle,
    "_put": _put,
    "_put_mixed": _put_mixed,
    "_deliver": _deliver,
}

if __name__ == "__main__":
    step, home, rows, frame_rows, *address = sys.argv[1:]
    _STEPS[step](_stream(Path(home), address), int(rows), int(frame_rows))
