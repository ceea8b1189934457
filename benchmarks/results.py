"""What was measured last: ``benchmarks/results.json``, with the commit, the machine and the versions of each run."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.figure import Figure

PATH: Final = Path(__file__).with_name("results.json")
_GIB: Final = 2**30
_LIBRARIES: Final = ("pandas", "pyarrow", "duckdb", "psycopg", "PyMySQL", "pgpq", "orjson", "httpx2")


@dataclass(frozen=True)
class Run:
    """One run of a benchmark.

    Attributes:
        commit: The commit that was measured, with ``+`` if files differed from it.
        at: The day, as ISO 8601.
        machine: Processors, memory and system.
        versions: Python and the libraries that were used.
        load: The load average when it began: above the number of processors, something else ran too.
        figures: In the order in which they were measured.
    """

    commit: str
    at: str
    machine: str
    versions: str
    load: float
    figures: tuple[Figure, ...]


def read() -> dict[str, Run]:
    """Return the last run of each benchmark; nothing if none was recorded."""
    if not PATH.exists():
        return {}
    return {name: _run_of(said) for name, said in json.loads(PATH.read_text(encoding="utf-8")).items()}


def write(name: str, figures: Sequence[Figure], load: float) -> None:
    """Record a run in place of the last one of the same benchmark."""
    runs = read()
    runs[name] = Run(**facts(), load=round(load, 1), figures=tuple(figures))
    PATH.write_text(json.dumps({each: _as_json(runs[each]) for each in sorted(runs)}, indent=1) + "\n", "utf-8")


def facts() -> dict[str, str]:
    """Return what a record says of this commit, day and machine; see ``Run``."""
    return {"commit": _commit(), "at": time.strftime("%Y-%m-%d"), "machine": _machine(), "versions": _versions()}


def _as_json(run: Run) -> dict[str, Any]:
    figures = [
        {key: _rounded(value) for key, value in asdict(each).items() if value is not None} for each in run.figures
    ]
    return {**asdict(run), "figures": figures}


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _run_of(said: Mapping[str, Any]) -> Run:
    return Run(**{**said, "figures": tuple(Figure(**each) for each in said["figures"])})


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    changed = [
        line for line in git("status", "--porcelain").splitlines() if not line.endswith((PATH.name, "reliability.json"))
    ]
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    return f"{os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def _versions() -> str:
    found = [f"Python {sys.version.split()[0]}"]
    for library in _LIBRARIES:
        try:
            found.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
