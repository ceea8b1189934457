"""Composing shards: many small ones beside the way of 2021, large ones beside the memory that the result takes."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.figure import Figure
from benchmarks.frames import tick_frame

_SMALL_SHARDS = 10_000
_LARGE_SHARDS = int(os.environ.get("API2DB_BENCH_LARGE_SHARDS", "20"))
_LARGE_ROWS = 1_000_000
_FASTER, _MOST_MEMORY = 20, 1.5


def measure(folder: Path) -> Iterator[Figure]:
    """Rows a second for small shards; the peak of a process of its own for large ones."""
    yield _small(folder)
    yield from _large(folder)


def _small(folder: Path) -> Figure:
    from api2db import FileConverter

    shards = folder / "small"
    shards.mkdir()
    FileConverter.parquet_store(str(shards / "00000.parquet"), tick_frame())
    content = (shards / "00000.parquet").read_bytes()
    for number in range(1, _SMALL_SHARDS):
        (shards / f"{number:05}.parquet").write_bytes(content)
    began_s = time.perf_counter()
    wanted = _as_in_2021(shards)
    theirs_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    found = FileConverter.static_compose_df_from_dir(str(shards), "parquet")
    ours_s = time.perf_counter() - began_s
    if found is None or len(found) != len(wanted):
        raise AssertionError("the two ways do not give the same rows")
    rows = len(wanted)
    return Figure("composing 10,000 shards of 5 rows", rows / ours_s, "rows/s", rows / theirs_s, _FASTER)


def _as_in_2021(folder: Path) -> pd.DataFrame:
    """One file after the other, each appended to all before it; deleting them is left out."""
    frame = pd.DataFrame()
    for path in sorted(folder.iterdir()):
        frame = pd.concat([frame, pd.read_parquet(path)]) if len(frame) else pd.read_parquet(path)
    return frame


def _large(folder: Path) -> Iterator[Figure]:
    """API2DB_BENCH_LARGE_SHARDS says how many; 100 take 5 GB of memory."""
    subprocess.run([sys.executable, "-m", "benchmarks.compose", "_write_large", str(folder)], check=True)
    subprocess.run([sys.executable, "-m", "benchmarks.compose", "_compose_large", str(folder)], check=True)
    result_mb, peak_mb = map(float, (folder / "figures").read_text().split())
    name = f"memory for {_LARGE_SHARDS} shards of 1,000,000 rows"
    yield Figure(name, peak_mb, "MB", result_mb, 1 / _MOST_MEMORY, less_is_better=True)


def _write_large(folder: Path) -> None:
    from api2db import FileConverter

    dice = np.random.default_rng(0)
    for number in range(_LARGE_SHARDS):
        frame = pd.DataFrame({f"c{column}": dice.random(_LARGE_ROWS) for column in range(4)})
        frame["n"] = np.arange(_LARGE_ROWS)
        frame["at"] = pd.date_range("2026-01-01", periods=_LARGE_ROWS, freq="s")
        FileConverter.parquet_store(str(folder / "large" / f"{number:03}.parquet"), frame)


def _compose_large(folder: Path) -> None:
    from api2db import FileConverter

    idle_mb = _peak_mb()
    frame = FileConverter.static_compose_df_from_dir(str(folder / "large"), "parquet")
    if frame is None or len(frame) != _LARGE_SHARDS * _LARGE_ROWS:
        raise AssertionError("rows are missing")
    result_mb = float(frame.memory_usage(deep=True).sum()) / 2**20
    (folder / "figures").write_text(f"{result_mb} {_peak_mb() - idle_mb}")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    {"_write_large": _write_large, "_compose_large": _compose_large}[sys.argv[1]](Path(sys.argv[2]))
