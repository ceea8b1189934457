"""``make packages``: builds the wheel and the sdist, and tries both in empty environments.

    python -m tests.packages [VERSION…]

For each version of Python that is on this machine (3.11 to 3.14 without arguments), the wheel is installed with pandas
2.2, with the newest pandas, and with the lowest versions that pyproject.toml declares. In each environment the program
below polls the sample API into DuckDB, SQLite and Parquet. It prints import time and size of each environment, and
exits with 1 if something failed. Builds and environments are in ``build/packages``.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "build" / "packages"
VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
EXTRAS: Final = "duckdb,rest,web,postgresql,mysql"
LOWEST: Final = "lowest"
VARIANTS: Final = {"pandas 2.2": ["pandas==2.2.*"], "newest": [], LOWEST: ["--no-deps"]}
SHOWN: Final = ("pandas", "pyarrow", "duckdb")
WITHOUT_WHEELS: Final = {"pandas 2.2": {"3.14"}, LOWEST: {"3.13", "3.14"}}  # of those versions of pandas and numpy
PROGRAM: Final = """
import duckdb, pandas, sqlite3
from api2db import Collector, Run, Stream2Local, Stream2Sql
from api2db.demo import sample_api
from api2db.rest import Cursor, LastId, RestApi

pages = LastId("id", param="after", has_more="has_more")
types = {"created_at": "timestamp", "total": "decimal(18,2)"}
orders = RestApi(sample_api()).get("/orders", pagination=pages, cursor=Cursor("created_at", param="since"), types=types)
streams = [Stream2Sql("orders", "orders.duckdb", "duckdb"), Stream2Sql("orders", "orders.sqlite", "sqlite")]
streams += [Stream2Local("orders"), Stream2Local("orders", fmt="csv"), Stream2Local("orders", fmt="json")]
if __name__ == "__main__":
    Run([Collector("orders", 5, orders, streams)]).run(once=True, timeout=60)
    count = "SELECT count(*) FROM orders"
    assert duckdb.connect("orders.duckdb").execute(count).fetchone()[0] >= 250
    assert sqlite3.connect("orders.sqlite").execute(count).fetchone()[0] >= 250
    assert len(pandas.read_parquet("STORE/orders/parquet")) >= 250
    assert len(streams[0].head(3)) == 3
"""
IMPORT: Final = "import time; t = time.perf_counter(); from api2db import {}; print(time.perf_counter() - t)"


@dataclass(frozen=True)
class Trial:
    """One environment: which Python, and which versions of the dependencies."""

    python: str
    variant: str

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.python}-{self.variant.replace(' ', '-')}"

    def run(self, package: Path) -> str:
        """Install a package, try it, and return what was measured."""
        python = self.folder / "bin" / "python"
        _run("uv", "venv", "--quiet", "--clear", "--python", self.python, "--no-python-downloads", str(self.folder))
        install = ("uv", "pip", "install", "--quiet", "--python", str(python))
        began = time.monotonic()
        if self.variant == LOWEST:
            extras = [part for extra in EXTRAS.split(",") for part in ("--extra", extra)]
            _run(*install, "--resolution", "lowest-direct", "--requirement", "pyproject.toml", *extras)
        _run(*install, f"api2db[{EXTRAS}] @ {package.as_uri()}", *VARIANTS[self.variant])
        seconds = time.monotonic() - began
        _run("uv", "pip", "check", "--quiet", "--python", str(python))
        project = self.folder / "project"
        project.mkdir()
        (project / "main.py").write_text(PROGRAM, encoding="utf-8")
        _run(str(python), "-W", "error::DeprecationWarning:api2db", "main.py", folder=project)
        _run(str(self.folder / "bin" / "api2db"), "status", folder=project)
        collector, stream = (_import_s(python, name) for name in ("Collector", "Stream2Sql"))
        megabytes = _size(self.folder) / 1e6
        imports = f"import of Collector {collector:.2f} s, of Stream2Sql {stream:.2f} s"
        frozen = _run("uv", "pip", "freeze", "--quiet", "--python", str(python)).splitlines()
        versions = " ".join(line for line in frozen if line.partition("==")[0] in SHOWN)
        return f"{megabytes:.0f} MB, installed in {seconds:.0f} s; {imports}; {versions}"


def main(versions: Sequence[str]) -> int:
    """Return 0 if all that could be tried works."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _run("uv", "build", "--quiet", "--out-dir", str(FOLDER), str(ROOT))
    [wheel], [sdist] = FOLDER.glob("*.whl"), FOLDER.glob("*.tar.gz")
    _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    print(f"{wheel.name}: {wheel.stat().st_size / 1e3:.0f} kB; {sdist.name}: {sdist.stat().st_size / 1e3:.0f} kB")
    failed = [trial for trial in _trials(versions) if not _succeeds(trial, wheel)]
    first = next(iter(_trials(versions)))
    failed += [trial for trial in [Trial(first.python, "newest")] if not _succeeds(trial, sdist)]
    return 1 if failed else 0


def _trials(versions: Sequence[str]) -> Iterator[Trial]:
    for version in versions:
        found = subprocess.run(
            ["uv", "python", "find", "--no-python-downloads", version], capture_output=True, check=False
        )
        if found.returncode:
            print(f"Python {version}: not on this machine, not tried")
            continue
        yield from (Trial(version, each) for each in VARIANTS if version not in WITHOUT_WHEELS.get(each, ()))


def _succeeds(trial: Trial, package: Path) -> bool:
    try:
        print(f"Python {trial.python}, {trial.variant}, {package.suffix}: {trial.run(package)}", flush=True)
    except subprocess.CalledProcessError as error:
        print(
            f"Python {trial.python}, {trial.variant}, {package.suffix}: FAILED\n{error.stdout}{error.stderr}",
            flush=True,
        )
        return False
    return True


def _run(*command: str, folder: Path = ROOT) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "API2DB_HOME"}}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return ended.stdout


def _import_s(python: Path, name: str) -> float:
    """The median seconds of three imports, each in a new interpreter."""
    return sorted(float(_run(str(python), "-c", IMPORT.format(name))) for _ in range(3))[1]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or VERSIONS))
