"""Rows of which nobody can tell whether they are in are set aside once, however often that is cut short."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest

from api2db.delivery import LIMIT, Parking, Rejects, ResumableLoader
from api2db.delivery import _resumable_loader as resumable_loader
from api2db.delivery.batch import Batch, batch_of
from api2db.disk.folders import rejected_folder
from api2db.errors import TargetUnavailableError
from api2db.journal import ALL, Entry, Position, StreamIdentity, StreamReader, journal_store
from api2db.targets.port import ChangeOrigins, Column, LoadPlan, SteppedTarget, unknown_origin
from api2db.targets.types import ValueLimit
from tests.journals.rejected import rejected_tables

pytestmark = pytest.mark.every_journal(
    nats=["test_a_batch_whose_rows_are_all_rejected_is_set_aside_once_though_its_acknowledgement_is_cut_short"]
)


class Forgetful(SteppedTarget):
    """A target in memory that takes all, breaks off before it answers, and forgets what it has taken.

    Attributes:
        taken: The rows, as often as they came.
        landing: What it says of a plan when it is asked.
    """

    limits: Sequence[ValueLimit] = ()
    unplaced: Mapping[str, str] = MappingProxyType({})

    def __init__(self, landing: int | None) -> None:
        self.taken: list[int] = []
        self.landing = landing

    def connect(self) -> None:
        return

    def close(self) -> None:
        return

    def fold(self, name: str) -> str:
        return name

    def columns(self) -> Sequence[Column] | None:
        return [Column("n", pa.int64(), "INTEGER")]

    def prepare(self, schema: pa.Schema, causes: ChangeOrigins = unknown_origin) -> Sequence[Column]:
        return [Column("n", pa.int64(), "INTEGER")]

    def widen(self, column: Column, to: pa.DataType, causes: ChangeOrigins = unknown_origin) -> Column | None:
        return None

    def plan(self, rows: pa.Table, columns: Sequence[Column]) -> LoadPlan:
        return LoadPlan(list(range(2, rows.num_rows + 1, 2)), {})

    def append(self, plan: LoadPlan, rows: pa.Table, columns: Sequence[Column]) -> None:
        self.taken += rows.column("n").to_pylist()
        raise TargetUnavailableError("planted: no answer")

    def rows_committed(self, plan: LoadPlan) -> int | None:
        return self.landing


class Home:
    """A journal of six frames, and loaders that take turns on it, as processes that die do."""

    def __init__(self, folder: Path, target: Forgetful) -> None:
        self._folder = folder
        self._target = target
        self.handle = journal_store(folder).open("flights")
        self.journal = self.handle.journal
        self.log: StreamReader = self.journal.attach(StreamIdentity("flights", "memory"))[1]
        for number in range(6):
            self.journal.append((pa.record_batch({"n": [number]}),), stream_no=ALL)

    def loader(self) -> ResumableLoader:
        rejects = Rejects(self.log, rejected_folder(self._folder, "flights", "memory"))
        return ResumableLoader(self.log, self._target, rejects, Parking(self.log, self._folder / "parked"))

    def settle_and_deliver(self) -> None:
        loader = self.loader()
        loader.recover()
        if entries := self.log.read(LIMIT, 0):
            loader.deliver(batch_of(entries, self.log.position))

    def set_aside(self) -> list[int]:
        return [number for table in rejected_tables(self._folder) for number in table.column("n").to_pylist()]


@pytest.fixture(params=[None, 3], ids=["it knows nothing", "it says what can't be"])
def target(request: pytest.FixtureRequest) -> Forgetful:
    return Forgetful(request.param)


@pytest.fixture
def home(tmp_path: Path, target: Forgetful) -> Iterator[Home]:
    found = Home(tmp_path, target)
    yield found
    found.handle.release()


def _frame_by_frame(entries: Sequence[Entry], start: Position) -> Batch:
    """As for frames that have no common schema."""
    return batch_of(entries[:1], start)


@pytest.mark.parametrize("times", range(4))
def test_rows_of_an_unknown_fate_are_never_sent_again_though_setting_them_aside_is_cut_short(
    home: Home, target: Forgetful, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    with pytest.raises(TargetUnavailableError):
        home.settle_and_deliver()
    monkeypatch.setattr(resumable_loader, "batch_of", _frame_by_frame)
    with monkeypatch.context() as patched:
        patched.setattr(Rejects, "set_aside", _cut_short_after(times))
        with pytest.raises(OSError, match="planted"):
            home.settle_and_deliver()
    home.settle_and_deliver()
    assert target.taken == list(range(6))
    assert home.set_aside() == list(range(2 if target.landing else 0, 6))
    assert home.log.waiting_bytes == 0


@pytest.mark.parametrize("is_acknowledged", [False, True])
def test_a_batch_whose_rows_are_all_rejected_is_set_aside_once_though_its_acknowledgement_is_cut_short(
    home: Home, monkeypatch: pytest.MonkeyPatch, *, is_acknowledged: bool
) -> None:
    reader = type(home.log)
    real = reader.acknowledge

    def acknowledge(log: StreamReader, *arguments: Any, **options: Any) -> None:
        if is_acknowledged:
            real(log, *arguments, **options)
        raise OSError("planted")

    loader = home.loader()
    loader.recover()
    batch = batch_of(home.log.read(LIMIT, 0), home.log.position)
    with monkeypatch.context() as patched:
        patched.setattr(reader, "acknowledge", acknowledge)
        with pytest.raises(OSError, match="planted"):
            loader.reject(batch, "none of them fits")
    home.settle_and_deliver()
    assert home.set_aside() == list(range(6))
    assert home.log.waiting_bytes == 0
    assert (home.log.delivered.frames, home.log.delivered.rejected) == (6, 6)


def _cut_short_after(times: int) -> Any:
    real, left = Rejects.set_aside, iter(range(times))

    def set_aside(self: Rejects, batch: Batch, reasons: Mapping[int, str], *, alone: bool = False) -> None:
        if next(left, None) is None:
            raise OSError("planted")
        real(self, batch, reasons, alone=alone)

    return set_aside
