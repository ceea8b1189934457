"""How much memory a process takes that starts with 1 GB waiting in its journal."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.frames import flights_frame

_BACKLOG_BYTES = 1_000_000_000
_FRAME_ROWS = 5_000
_AIM_MB = 400


def measure(folder: Path) -> Iterator[Figure]:
    """Put in one process, delivered into DuckDB by another, whose peak is the figure."""
    for step in (_put, _deliver):
        subprocess.run([sys.executable, "-m", "benchmarks.memory", step.__name__, str(folder)], check=True)
    idle_mb, peak_mb = map(float, (folder / "figures").read_text().split())
    yield Figure("memory of the process before it starts", idle_mb, "MB")
    yield Figure("peak memory with a 1 GB backlog", peak_mb, "MB", aim=_AIM_MB, less_is_better=True)


def _put(folder: Path) -> None:
    from api2db import Stream2Sql

    frame = flights_frame()
    stream = Stream2Sql("flights", "f.duckdb", "duckdb", home=folder, durability="process")
    at = 0
    while sum(path.stat().st_size for path in (folder / "STORE").rglob("*.segment")) < _BACKLOG_BYTES:
        for _ in range(20):
            stream.q.put(frame.iloc[at : at + _FRAME_ROWS])
            at = (at + _FRAME_ROWS) % len(frame)
    stream.stop()


def _deliver(folder: Path) -> None:
    import duckdb

    from api2db import Stream2Sql

    idle_mb = _peak_mb()
    with Stream2Sql("flights", "f.duckdb", "duckdb", home=folder, durability="process") as stream:
        stream.flush()
    peak_mb = _peak_mb()
    with duckdb.connect(str(folder / "f.duckdb"), read_only=True) as connection:
        rows = connection.execute("SELECT count(*) FROM flights").fetchone()
    print(f"delivered {rows[0] if rows else 0:,} rows")
    (folder / "figures").write_text(f"{idle_mb} {peak_mb}")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    {"_put": _put, "_deliver": _deliver}[sys.argv[1]](Path(sys.argv[2]))
