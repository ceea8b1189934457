"""A load into files is acknowledged once a power cut can't take the files' names back."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api2db.delivery import LIMIT, FileLoader, Parking, Rejects
from api2db.delivery.batch import batch_of
from api2db.disk.atomic import is_temporary
from api2db.disk.file_folder import LocalFolder
from api2db.journal import ALL, StreamIdentity, journal_store
from api2db.targets.files import ShardTarget, SingleFileTarget
from api2db.targets.port import PlannedTarget

Names = set[tuple[str, int]]
TARGETS: dict[str, Callable[[Path], PlannedTarget]] = {
    "shards": lambda folder: ShardTarget(LocalFolder(folder), "parquet", None),
    "update": lambda folder: SingleFileTarget(LocalFolder(folder), "one.parquet", "parquet", None, replace=False),
    "replace": lambda folder: SingleFileTarget(LocalFolder(folder), "one.parquet", "parquet", None, replace=True),
}


def names(folder: Path) -> Names:
    """What is to be seen in a folder: names, and which file each is of."""
    return {(path.name, path.stat().st_ino) for path in folder.iterdir() if not is_temporary(path)}


pytestmark = pytest.mark.every_journal(nats=["test_names_are_durable_before_the_load_is_acknowledged"])


class Deliveries:
    """A loader into one folder; how the folder was, and what of it was durable, at each acknowledgement."""

    def __init__(self, home: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = home / "target"
        self.handle = journal_store(home).open("flights")
        self.journal = self.handle.journal
        self.log = self.journal.attach(StreamIdentity("flights to files", "local.parquet"))[1]
        self.target = TARGETS[kind](self.folder)
        self.loader = FileLoader(
            self.log, self.target, Rejects(self.log, home / "rejected"), Parking(self.log, home / "parked")
        )
        self.loader.recover()
        self.durable: Names = set()
        self.acknowledged: list[tuple[Names, Names]] = []
        monkeypatch.setattr(os, "fsync", self._noting(os.fsync))
        reader: Any = type(self.log)
        monkeypatch.setattr(reader, "acknowledge", self._looking(reader.acknowledge))

    def deliver(self, number: int) -> None:
        self.journal.append((pa.record_batch({"n": [number]}),), stream_no=ALL)
        entries = self.log.read(LIMIT, 0)
        self.loader.deliver(batch_of(entries, self.log.position, whole_frames=True))

    def _noting(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            real(descriptor)
            if os.path.samestat(os.fstat(descriptor), self.folder.stat()):
                self.durable = names(self.folder)

        return fsync

    def _looking(self, real: Callable[..., None]) -> Callable[..., None]:
        def acknowledge(*arguments: Any, **options: Any) -> None:
            self.acknowledged.append((names(self.folder), self.durable))
            real(*arguments, **options)

        return acknowledge


@pytest.fixture(params=TARGETS)
def deliveries(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deliveries]:
    found = Deliveries(tmp_path, request.param, monkeypatch)
    yield found
    found.handle.release()


def test_names_are_durable_before_the_load_is_acknowledged(deliveries: Deliveries) -> None:
    for number in range(2):
        deliveries.deliver(number)
    assert len(deliveries.acknowledged) == 2
    for there, durable in deliveries.acknowledged:
        assert there
        assert durable == there


def test_names_that_a_crash_left_between_rename_and_fsync_are_durable_before_the_load_is_acknowledged(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_folder: Path) -> None:
        raise OSError("planted")

    with monkeypatch.context() as patched:
        patched.setattr("api2db.disk.file_folder.sync_folder", crash)
        with pytest.raises(OSError, match="planted"):
            deliveries.deliver(1)
    assert deliveries.acknowledged == []
    deliveries.loader.recover()
    [(there, durable)] = deliveries.acknowledged
    assert there
    assert durable == there
