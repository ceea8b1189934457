"""What a user would pick instead, into PostgreSQL: each in an environment of its own, all in turn.

No peer has a journal, so none can load a row exactly once. Each program has its rows in memory before its clock runs,
and stops it when they are committed. A new process runs it each time; the most memory that it took is measured too.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pandas as pd
import pyarrow as pa

from benchmarks.engines import running
from benchmarks.environments import interpreter_of
from benchmarks.figure import Figure
from benchmarks.frames import PIECE_ROWS, flights_frame, tick_frame
from benchmarks.servers import binary_copy
from tests.servers.server import Server

_RUNS: Final = 3
_MB: Final = 1_000_000
_PANDAS: Final = ("pandas==3.1.1", "pyarrow==26.0.1", "sqlalchemy==2.1.9", "psycopg[binary]==3.3.9")
_ADBC: Final = (*_PANDAS, "adbc-driver-postgresql==1.13.0")
_POLARS: Final = (*_ADBC, "polars==2.1.0")
_DLT: Final = (
    "dlt[postgres,parquet]==1.31.0",
    "adbc-driver-postgresql==1.13.0",
    "adbc-driver-manager==1.13.0",
    "pandas==3.1.1",
)
_SLING: Final = ("sling-linux-amd64==1.4.11",)
_FOLDERS: Final = {_PANDAS: "pandas", _ADBC: "adbc", _POLARS: "polars", _DLT: "dlt-postgresql", _SLING: "sling"}

_TIMED: Final = r"""
import json, os, re, resource, time
URL, ROWS, HOME = {url!r}, {rows!r}, {home!r}
os.chdir(HOME)
{before}
began_s = time.perf_counter()
{load}
took_s = time.perf_counter() - began_s
if {in_child}:
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
else:
    peak_kib = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
print("took", json.dumps([took_s, 1024 * peak_kib]))
"""


@dataclass(frozen=True)
class _Peer:
    """A program that loads the rows of a Parquet file into the table of the same name.

    Attributes:
        requirements: What is installed for it; nothing for api2db, which runs in this environment.
        before: What it does before its clock runs; it can use URL, ROWS and HOME.
        load: What is measured.
        share: The share of the workload's rows that it is given, for those that would take minutes.
        in_child: Whether a process that it starts does the work.
    """

    requirements: tuple[str, ...]
    before: str
    load: str
    share: float = 1.0
    in_child: bool = False


_OURS: Final = """
from urllib.parse import unquote, urlsplit
from api2db import Stream2Sql
place = urlsplit(URL)
stream = Stream2Sql(
    "loaded", place.path[1:], "postgresql", unquote(place.username), unquote(place.password), place.hostname,
    port=str(place.port), home=HOME,
)
stream.start()
"""
_READ: Final = "import pandas as pd\nframe = pd.read_parquet(ROWS)"
_PIECES: Final = f"{_READ}\npieces = [frame.iloc[at : at + {PIECE_ROWS}] for at in range(0, len(frame), {PIECE_ROWS})]"
_TICKS: Final = f"{_READ}\npieces = [frame.iloc[at : at + 5].reset_index(drop=True) for at in range(0, len(frame), 5)]"
_DICTS: Final = (
    f"{_READ}\nrows = frame.to_dict('records')\npieces = [rows[at : at + 1000] for at in range(0, len(rows), 1000)]"
)
_ENGINE: Final = """
from sqlalchemy import create_engine
engine = create_engine(URL.replace("postgresql:", "postgresql+psycopg:"))
"""
_CONNECTED: Final = """
import adbc_driver_postgresql.dbapi, pyarrow as pa
connection = adbc_driver_postgresql.dbapi.connect(URL)
"""
_PIPELINE: Final = """
import dlt
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
pipeline = dlt.pipeline("loaded", pipelines_dir=HOME, destination=dlt.destinations.postgres(URL), dataset_name="public")
"""
_PUT_ALL: Final = "for piece in pieces:\n    stream.q.put(piece)\nstream.flush()\n"
_SLING_RUN: Final = """
import subprocess, sling_linux_amd64
from pathlib import Path
binary = next(path for path in Path(sling_linux_amd64.__file__).parent.rglob("sling*") if os.access(path, os.X_OK)
              and path.is_file() and path.suffix != ".py")
os.environ.update(SLING_HOME_DIR=HOME, TARGET=URL + "?sslmode=disable")
command = [str(binary), "run", "--src-stream", "file://" + ROWS.replace(".parquet", ".csv"), "--tgt-conn", "TARGET"]
command += ["--tgt-object", "public.loaded"]
"""

_OURS_BY_PIECES: Final = "api2db, frames of 20,000 rows"
_OURS_AT_ONCE: Final = "api2db, one frame"
FLIGHTS: Final[Mapping[str, _Peer]] = {
    _OURS_BY_PIECES: _Peer((), _OURS + _PIECES, _PUT_ALL),
    _OURS_AT_ONCE: _Peer((), _OURS + _READ, "stream.q.put(frame)\nstream.flush()"),
    "ADBC": _Peer(
        _ADBC,
        _CONNECTED + _READ,
        "with connection.cursor() as cursor:\n"
        "    cursor.adbc_ingest('loaded', pa.Table.from_pandas(frame, preserve_index=False), mode='create')\n"
        "connection.commit()",
    ),
    "polars, write_database by ADBC": _Peer(
        _POLARS,
        f"import polars as pl, adbc_driver_postgresql\n{_READ}",
        "pl.from_pandas(frame).write_database('loaded', URL, engine='adbc')",
    ),
    "dlt, Parquet by ADBC": _Peer(
        _DLT,
        f"{_PIPELINE}\nimport pyarrow as pa\n{_READ}",
        "pipeline.run(pa.Table.from_pandas(frame, preserve_index=False), table_name='loaded',"
        " loader_file_format='parquet').raise_on_failed_jobs()",
    ),
    "dlt, its default": _Peer(
        _DLT, _PIPELINE + _READ, "pipeline.run(frame, table_name='loaded').raise_on_failed_jobs()"
    ),
    "sling, from CSV": _Peer(
        _SLING,
        _SLING_RUN,
        "done = subprocess.run(command, check=False, capture_output=True, text=True)\n"
        "if done.returncode:\n"
        "    raise SystemExit(done.stdout[-1000:] + done.stderr[-1000:])",
        in_child=True,
    ),
    "pandas.to_sql": _Peer(_PANDAS, _ENGINE + _READ, "frame.to_sql('loaded', engine, index=False)", share=0.2),
    "pandas.to_sql, method='multi' (the 2021 way)": _Peer(
        _PANDAS,
        _ENGINE + _READ,
        "frame.to_sql('loaded', engine, index=False, if_exists='append', method='multi', chunksize=1000)",
        share=0.1,
    ),
}
TICKS: Final[Mapping[str, _Peer]] = {
    "api2db, one put a frame": _Peer((), _OURS + _TICKS, _PUT_ALL),
    "api2db, lists of 1,000 dicts": _Peer((), _OURS + _DICTS, _PUT_ALL),
    "ADBC, one commit a frame": _Peer(
        _ADBC,
        _CONNECTED + _TICKS,
        "for piece in pieces:\n"
        "    with connection.cursor() as cursor:\n"
        "        table = pa.Table.from_pandas(piece, preserve_index=False)\n"
        "        cursor.adbc_ingest('loaded', table, mode='create_append')\n"
        "    connection.commit()",
        share=0.05,
    ),
    "dlt, one run over all frames": _Peer(
        _DLT,
        _PIPELINE + _TICKS,
        "pipeline.run(iter(pieces), table_name='loaded').raise_on_failed_jobs()",
        share=0.2,
    ),
    "pandas.to_sql a frame (the 2021 way)": _Peer(
        _PANDAS,
        _ENGINE + _TICKS,
        "for piece in pieces:\n    piece.to_sql('loaded', engine, index=False, if_exists='append')",
        share=0.02,
    ),
}
_TICK_FRAMES: Final = 20_000
_WORKLOADS: Final[Mapping[str, Mapping[str, _Peer]]] = {
    "flights into postgresql": FLIGHTS,
    "ticks into postgresql": TICKS,
}


def share_of(figure: str) -> float:
    """Return the share of its workload's rows that a program was given, by the name of its figure."""
    workload, _, name = figure.partition(": ")
    return _WORKLOADS[workload][name].share


def measure(folder: Path) -> Iterator[Figure]:
    """The flights, and 20,000 frames of five rows."""
    ticks = pd.concat([tick_frame(number % 100) for number in range(_TICK_FRAMES)], ignore_index=True)
    with running("postgresql") as server:
        if server is None:
            return
        for workload, frame in zip(_WORKLOADS, (flights_frame(), ticks), strict=True):
            yield from _beside(workload, frame, server, folder)


def _beside(workload: str, frame: pd.DataFrame, server: Server, folder: Path) -> Iterator[Figure]:
    peers = _WORKLOADS[workload]
    floor = binary_copy(server, pa.Table.from_pandas(frame, preserve_index=False))
    files = {share: _file(folder, frame, share) for share in {peer.share for peer in peers.values()}}
    floors: list[float] = []
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(_RUNS):
        floors.append(len(frame) / floor())
        for name, peer in peers.items():
            path, rows = files[peer.share]
            seconds, peak_bytes = _run(name, peer, path, rows, server)
            took[name].append((rows / seconds, peak_bytes))
    for name, runs in took.items():
        rate, peak = (statistics.median(column) for column in zip(*runs, strict=True))
        yield Figure(f"{workload}: {name}", rate, "rows/s", floor=statistics.median(floors), peak_mb=peak / _MB)


def _file(folder: Path, frame: pd.DataFrame, share: float) -> tuple[Path, int]:
    part = frame.iloc[: round(len(frame) * share)]
    path = folder / f"rows-{share}-{len(frame)}.parquet"
    part.to_parquet(path, index=False)
    if share == 1.0:
        part.to_csv(path.with_suffix(".csv"), index=False)
    return path, len(part)


def _run(name: str, peer: _Peer, path: Path, rows: int, server: Server) -> tuple[float, float]:
    python = interpreter_of(_FOLDERS[peer.requirements], *peer.requirements) if peer.requirements else sys.executable
    database = server.new_database()
    user, password = quote(server.user, safe=""), quote(server.password, safe="")
    url = f"postgresql://{user}:{password}@{server.host}:{server.port}/{database}"
    with tempfile.TemporaryDirectory(dir=path.parent) as home:
        program = _TIMED.format(
            url=url, rows=str(path), home=home, before=peer.before, load=peer.load, in_child=peer.in_child
        )
        done = subprocess.run([python, "-"], input=program, check=False, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{name} failed: {done.stderr[-2000:]}")
    with closing(server.client(database)) as client:
        [(found,)] = client.execute("SELECT count(*) FROM loaded").fetchall()
    if found != rows:
        raise AssertionError(f"{name} loaded {found} rows of {rows}")
    server.execute(f"DROP DATABASE {database}")
    seconds, peak_bytes = json.loads(done.stdout.rsplit("took", 1)[1])
    return float(seconds), float(peak_bytes)
