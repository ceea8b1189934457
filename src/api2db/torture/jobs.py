"""What the children of a torture do: each puts numbered frames, and its stream delivers them.

The fork server calls ``run``. A child that puts without end is killed by the torture, or ends when the torture has.
"""

import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from api2db.errors import JournalError
from api2db.stream.stream import Stream
from api2db.stream.stream2local import Stream2Local
from api2db.stream.stream2sql import Stream2Sql
from api2db.torture.rows import frame

COLLECTOR: Final = "torture"
STREAM_NO: Final = "torture"
_QUOTA_BYTES: Final = 4 << 20
_PAUSE_S: Final = 0.01
_FLUSH_S: Final = 60.0
_INPUT: Final = 0
_LAST_BYTES: Final = 64

for _library in ("duckdb", "psycopg", "pgpq", "pymysql"):  # once, instead of in each child
    with suppress(ImportError):
        import_module(_library)


@dataclass(frozen=True)
class Project:
    """Where a child works.

    Attributes:
        home: The project's folder.
        logs: The folder of the logs ``put`` and ``acknowledged``.
        kind: ``"shards"``, or a dialect of Stream2Sql.
        target: The target's own arguments for the stream.
    """

    home: str
    logs: str
    kind: str
    target: dict[str, Any]

    def stream(self) -> Stream:
        """Make the stream."""
        if self.kind == "shards":
            return Stream2Local(COLLECTOR, home=self.home, max_backlog_bytes=_QUOTA_BYTES, **self.target)
        return Stream2Sql(
            COLLECTOR,
            dialect=self.kind,
            home=self.home,
            max_backlog_bytes=_QUOTA_BYTES,
            stream_id="torture",  # the same one with and without a proxy
            **self.target,
        )


class Log:
    """A file of numbers, one a line. A number counts once its line is complete."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        ends = os.pread(self._fd, _LAST_BYTES, max(0, size - _LAST_BYTES))
        if ends and not ends.endswith(b"\n"):
            self._write(b"\n")
        lines = [line for line in ends.splitlines() if line]
        self.last = int(lines[-1]) if lines else 0

    def add(self, number: int) -> None:
        """Add a number. A full disk is waited for."""
        self._write(b"%d\n" % number)

    def _write(self, left: bytes) -> None:
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except OSError:
                time.sleep(_PAUSE_S)  # no call waits for room on a disk


def produce(project: Project, frames: int = 0) -> None:
    """Put frames, without end or so many, while the stream delivers them; with an end, deliver all."""
    logs = Path(project.logs)
    put, acknowledged = Log(logs / "put"), Log(logs / "acknowledged")
    stream = project.stream()
    stream.start()
    for n in _numbers(put.last, frames):
        put.add(n)
        batch = frame(STREAM_NO, n)
        try:
            stream.q.put(batch if n % 2 else batch.to_pandas())
        except JournalError:  # a full disk: nothing is acknowledged
            time.sleep(_PAUSE_S)
        else:
            acknowledged.add(n)
    _drain(stream)
    stream.stop()


def _numbers(last: int, frames: int) -> Iterator[int]:
    """Yield the next numbers, until there are enough, or the torture has ended."""
    poll = select.poll()
    poll.register(_INPUT, select.POLLHUP)
    n = last
    while not frames or n < last + frames:
        if any(events & select.POLLHUP for _, events in poll.poll(0)):
            raise SystemExit
        n += 1
        yield n


def _drain(stream: Stream) -> None:
    """Deliver all that waits, as long as there is progress."""
    delivered = -1
    while not stream.flush(_FLUSH_S):
        status = stream.status()
        if status.rows_delivered == delivered:
            raise TimeoutError(f"{status.rows_waiting} rows wait: {status.last_error}")
        delivered = status.rows_delivered


def run(line: str) -> None:
    """Do a job as the fork server was asked to."""
    asked: dict[str, Any] = json.loads(line)
    if asked.pop("job") != "produce":
        raise AssertionError(line)
    produce(Project(**asked.pop("project")), **asked)
