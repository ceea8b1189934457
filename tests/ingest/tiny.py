"""A stream in a few lines over the real journal: its rows and how far it is land in one SQLite transaction."""

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from api2db.frames import to_pandas
from api2db.journal import Delivered, Durability, Entry, Position, ReadLimit, StreamIdentity, journal_store

LIMIT = ReadLimit(rows=1000, size_bytes=1 << 20)


class TinyStream:
    """The surface of a stream that collectors use."""

    def __init__(
        self, name: str, *, home: Path, durability: Durability = "process", quota_bytes: int | None = None
    ) -> None:
        self.name = name
        self.home = home
        self.durability: Durability = durability
        self.embedded_file: Path | None = None
        self.q: queue.Queue[Any] = queue.Queue()
        self.lock = threading.Lock()
        self.open_gate = threading.Event()
        self.open_gate.set()
        self._identity = StreamIdentity(f"{name}/tiny", "tiny", quota_bytes)
        self._stopping = threading.Event()
        self._dead = False

    @property
    def file(self) -> Path:
        return self.home / f"{self.name}.sqlite"

    def die(self) -> None:
        """End the worker as a fault of its own would."""
        self._stopping.set()
        self.log.wake()
        self._thread.join()
        self.lock.release()
        self._dead = True

    def start(self) -> None:
        self._stopping.clear()
        self.home.mkdir(exist_ok=True)
        self.handle = journal_store(self.home).open(self.name, self.durability)
        self.stream_no, self.log = self.handle.journal.attach(self._identity)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self.lock.acquire()

    def flush(self, timeout: float | None = None) -> bool:
        return self.log.wait_for(self.log.mark(), timeout)

    def stop(self, timeout: float | None = None) -> None:
        if not self.lock.locked() and not self._dead:
            return
        self._stopping.set()
        self.open_gate.set()
        self.log.wake()
        self._thread.join(timeout)
        self.handle.journal.detach(self.stream_no)
        self.handle.release()
        if not self._dead:
            self.lock.release()
        self._dead = False

    def _work(self) -> None:
        with closing(sqlite3.connect(self.file)) as target:
            target.execute("CREATE TABLE IF NOT EXISTS rows (frame INTEGER, at REAL, body TEXT)")
            target.execute("CREATE TABLE IF NOT EXISTS ledger (sequence INTEGER, skip INTEGER)")
            target.commit()
            self._take_up(target)
            while not self._stopping.is_set():
                self.open_gate.wait()
                if entries := self.log.read(LIMIT, 0.5):
                    self._deliver(target, entries)

    def _take_up(self, target: sqlite3.Connection) -> None:
        found = target.execute("SELECT max(sequence), skip FROM ledger").fetchone()
        if found[0] is not None and Position(*found) > self.log.position:
            self.log.seek(Position(*found))

    def _deliver(self, target: sqlite3.Connection, entries: list[Entry]) -> None:
        for entry in entries:
            rows = to_pandas(entry.batch).to_dict("records")
            bodies = [(entry.timestamp_ns, time.time(), json.dumps(row, default=str)) for row in rows]
            target.executemany("INSERT INTO rows VALUES (?, ?, ?)", bodies)
        target.execute("INSERT INTO ledger VALUES (?, ?)", entries[-1].position)
        target.commit()
        self.log.acknowledge(
            entries[-1].position, Delivered(frames=len(entries), rows=sum(entry.batch.num_rows for entry in entries))
        )


def rows_in(home: Path, name: str) -> list[dict[str, Any]]:
    """What has been delivered, in order."""
    with closing(sqlite3.connect(home / f"{name}.sqlite")) as target:
        try:
            return [json.loads(body) for (body,) in target.execute("SELECT body FROM rows ORDER BY rowid")]
        except sqlite3.OperationalError:
            return []


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Give what a condition gives once that is true; fail where it never is."""
    deadline_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "what the test waits for never came"
        pause.wait(0.01)
    return found


@contextmanager
def stopping(runner: Any) -> Iterator[Any]:
    """Stop a runner whatever becomes of the test."""
    try:
        yield runner
    finally:
        runner.stop(10)
