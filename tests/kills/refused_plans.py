"""A loader whose plan the disk refuses: python -m tests.kills.refused_plans HOME GO.

It puts a frame, delivers it, waits at each step until GO (a pipe) says go on: before the plan is kept, once that
has failed, and once it has settled again.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api2db.delivery import LIMIT, FileLoader, Parking, Rejects
from api2db.delivery.batch import batch_of
from api2db.disk.file_folder import LocalFolder
from api2db.errors import JournalWriteError
from api2db.journal import ALL, StreamIdentity, StreamReader
from api2db.journal._journal import SegmentedJournal
from api2db.journal._reader import SegmentedReader
from api2db.targets.files import ShardTarget
from api2db.torture.fork_server import say
from tests.kills.planted import make_all_calls_here
from tests.kills.rows import frame


@dataclass(frozen=True)
class OpenedLoader:
    """A stream into shards that a test delivers itself."""

    journal: SegmentedJournal
    log: StreamReader
    loader: FileLoader

    def deliver(self) -> None:
        """All that waits."""
        while entries := self.log.read(LIMIT, 0):
            self.loader.deliver(batch_of(entries, self.log.position, whole_frames=True))


def shards_of(home: Path) -> Path:
    return home / "shards"


@contextmanager
def opened_loader(home: Path) -> Iterator[OpenedLoader]:
    journal = SegmentedJournal(home, "flights")
    try:
        log = journal.attach(StreamIdentity("flights to shards", "local.parquet"))[1]
        target = ShardTarget(LocalFolder(shards_of(home)), "parquet", None)
        loader = FileLoader(log, target, Rejects(log, home / "rejected"), Parking(log, home / "parked"))
        yield OpenedLoader(journal, log, loader)
    finally:
        journal.close()


def wait_before_the_next_note(go: Path) -> None:
    real = SegmentedReader.save

    def keep(log: SegmentedReader, kind: Any, note: Any) -> None:
        SegmentedReader.save = real  # type: ignore[method-assign]
        say("ready")
        go.read_text()
        real(log, kind, note)

    SegmentedReader.save = keep  # type: ignore[method-assign, assignment]


def main(home: str, go: str) -> None:
    make_all_calls_here()
    with opened_loader(Path(home)) as found:
        found.loader.recover()
        found.journal.append((frame("own", 1),), stream_no=ALL)
        wait_before_the_next_note(Path(go))
        try:
            found.deliver()
        except JournalWriteError:
            say("refused")
        Path(go).read_text()
        found.loader.recover()
        say("settled")
        Path(go).read_text()


if __name__ == "__main__":
    main(*sys.argv[1:])
