"""Rows that a user's own method made have no position in the journal: none is lost when a load ends in part."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db.delivery import LIMIT, OverrideLoader, Parking, Rejects, ResumableLoader
from api2db.delivery.batch import batch_of
from api2db.disk.folders import rejected_folder
from api2db.errors import BatchRefusedError, RowsRefusedError, TargetUnavailableError
from api2db.frames import to_batch
from api2db.journal import ALL, StreamIdentity, StreamReader, journal_store
from api2db.targets.port import ChangeOrigins, Column, LoadPlan, unknown_origin
from tests.delivery.test_resumable_loader import Forgetful
from tests.journals.rejected import rejected_tables

pytestmark = pytest.mark.every_journal

Method = Callable[[pd.DataFrame], list[pd.DataFrame]]


class Stepped(Forgetful):
    """Loads two rows in a step, and fails once after some steps.

    Attributes:
        fails_after: How many steps it takes before it fails; None if it does not fail.
        error: What it raises then.
        knows: Whether it can tell how many rows it has taken.
        refuses: A row that it refuses before it takes any.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.fails_after: int | None = None
        self.error: Exception = TargetUnavailableError("planted: unavailable")
        self.knows = True
        self.refuses: int | None = None

    def prepare(self, schema: pa.Schema, causes: ChangeOrigins = unknown_origin) -> list[Column]:
        if "other" in schema.names and len(schema) > 1:
            raise BatchRefusedError("planted: the table can't have both columns")
        return [Column(name, pa.int64(), "INTEGER") for name in schema.names]

    def plan(self, rows: pa.Table, columns: Any) -> LoadPlan:
        found = rows.column(0).to_pylist()
        if self.refuses in found:
            raise RowsRefusedError({found.index(self.refuses): "planted: refused"})
        return LoadPlan([*range(2, rows.num_rows, 2), rows.num_rows], {})

    def append(self, plan: LoadPlan, rows: pa.Table, columns: Any) -> None:
        found = rows.column(0).to_pylist()
        if self.fails_after is None:
            self.taken += found
            return
        steps, self.fails_after = self.fails_after, None
        self.landing = plan.ends[steps - 1] if steps else 0
        self.taken += found[: self.landing]
        raise self.error

    def rows_committed(self, plan: LoadPlan) -> int | None:
        return self.landing if self.knows else None


class Stream:
    """A stream with a method of a user's own, whose process may be started again.

    Attributes:
        calls: What the method was called with.
    """

    def __init__(self, folder: Path, method: Method) -> None:
        self._folder = folder
        self._method = method
        self.calls: list[list[int]] = []
        self.target = Stepped()
        self.handle = journal_store(folder).open("flights")
        self.journal = self.handle.journal
        self.log: StreamReader = self.journal.attach(StreamIdentity("flights", "memory"))[1]
        self.restart()

    def put(self, *numbers: int) -> None:
        self.journal.append((pa.record_batch({"n": pa.array(numbers, pa.int64())}),), stream_no=ALL)

    def restart(self) -> None:
        rejects = Rejects(self.log, rejected_folder(self._folder, "flights", "memory"))
        parking = Parking(self.log, self._folder / "parked")
        onward = ResumableLoader(self.log, self.target, rejects, parking)
        self._loader = OverrideLoader(self.log, self._call, parking, rejects, onward)

    def deliver(self) -> None:
        self._loader.recover()
        while entries := self.log.read(LIMIT._replace(whole_frames=True), 0):
            self._loader.deliver(batch_of(entries, self.log.position, whole_frames=True))

    def deliver_in_vain(self) -> None:
        with pytest.raises(TargetUnavailableError, match="planted"):
            self.deliver()

    def set_aside(self) -> list[list[int]]:
        return [table.column(0).to_pylist() for table in rejected_tables(self._folder)]

    def _call(self, data: pd.DataFrame) -> list[pa.RecordBatch]:
        self.calls.append(data["n"].tolist())
        return [to_batch(frame) for frame in self._method(data)]


def sorting(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [data.sort_values("n", ascending=False)]


def exploding(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [data.loc[data.index.repeat(3)]]


def adding_up(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [pd.DataFrame({"n": [data["n"].sum()]})]


def of_two_kinds(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [data, pd.DataFrame({"other": -data["n"]})]


def making_up(_: pd.DataFrame) -> list[pd.DataFrame]:
    return [pd.DataFrame({"n": [7, 8]})]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[Method], Stream]]:
    made: list[Stream] = []

    def make(method: Method) -> Stream:
        made.append(Stream(tmp_path, method))
        return made[-1]

    yield make
    for stream in made:
        stream.handle.release()


METHODS = [sorting, exploding, of_two_kinds]
Make = Callable[[Method], Stream]


def expected(method: Method, *numbers: int) -> list[int]:
    return [n for made in method(pd.DataFrame({"n": numbers})) for n in made.iloc[:, 0]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_rows_are_in_once_though_a_load_ended_between_two_steps(make: Make, method: Method, steps: int) -> None:
    stream = make(method)
    stream.put(1, 2, 3, 4, 5, 6)
    stream.put(7)
    stream.target.fails_after = steps
    stream.deliver_in_vain()
    stream.deliver()
    assert stream.target.taken == [*expected(method, 1, 2, 3, 4, 5, 6), *expected(method, 7)]
    assert stream.calls == [[1, 2, 3, 4, 5, 6], [7]]
    assert (stream.log.delivered.frames, stream.log.delivered.rows) == (2, len(stream.target.taken))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 2])
def test_after_a_restart_the_whole_frame_comes_again(make: Make, method: Method, steps: int) -> None:
    stream = make(method)
    stream.put(1, 2, 3, 4, 5, 6)
    stream.target.fails_after = steps
    stream.deliver_in_vain()
    stream.restart()
    stream.deliver()
    whole = expected(method, 1, 2, 3, 4, 5, 6)
    assert stream.target.taken == [*whole[: 2 * steps], *whole]
    assert stream.calls == [[1, 2, 3, 4, 5, 6]] * 2
    assert stream.log.waiting_bytes == 0


def test_a_load_that_a_killed_run_has_ended_is_not_repeated(make: Make) -> None:
    stream = make(exploding)
    stream.put(1, 2)
    stream.target.fails_after = 3
    stream.deliver_in_vain()
    stream.restart()
    stream.deliver()
    assert stream.target.taken == [1, 1, 1, 2, 2, 2]
    assert stream.calls == [[1, 2]]


@pytest.mark.parametrize("method", [exploding, adding_up, of_two_kinds])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_frame_whose_rows_may_be_in_is_set_aside_once_as_it_was_put(
    make: Make, method: Method, *, restarts: bool
) -> None:
    stream = make(method)
    stream.put(*range(100))
    stream.put(100)
    stream.target.fails_after, stream.target.knows = 0, False
    stream.deliver_in_vain()
    if restarts:
        stream.restart()
    stream.deliver()
    assert stream.set_aside() == [list(range(100))]
    assert stream.target.taken == expected(method, 100)
    assert (stream.log.delivered.frames, stream.log.delivered.rejected) == (2, 100)


def test_a_frame_without_rows_of_which_rows_were_made_comes_again_if_these_may_be_in(make: Make) -> None:
    stream = make(making_up)
    stream.put()
    stream.target.fails_after, stream.target.knows = 1, False
    stream.deliver_in_vain()
    stream.deliver()
    assert stream.target.taken[-2:] == [7, 8]
    assert stream.set_aside() == []


def test_a_refusal_between_two_steps_costs_no_row(make: Make) -> None:
    stream = make(sorting)
    stream.put(1, 2, 3, 4, 5, 6)
    stream.target.fails_after, stream.target.error = 1, BatchRefusedError("planted: refused")
    stream.deliver()
    assert stream.target.taken == [6, 5, 4, 3, 2, 1]


def test_a_refused_row_is_set_aside_once_and_the_rows_behind_it_are_loaded_once(make: Make) -> None:
    stream = make(exploding)
    stream.target.refuses = 2
    stream.put(1, 3, 4, 5)
    stream.put(1, 2, 3)
    stream.deliver()
    assert stream.target.taken == [*expected(exploding, 1, 3, 4, 5), *expected(exploding, 1, 3)]
    assert sorted(n for file in stream.set_aside() for n in file) == [2, 2, 2]
    assert (stream.log.delivered.rows, stream.log.delivered.rejected) == (18, 3)


def test_a_load_that_is_too_large_is_made_in_several(make: Make) -> None:
    stream = make(exploding)
    stream.target.largest_bytes = 50
    stream.put(*range(20))
    stream.deliver()
    assert stream.target.taken == expected(exploding, *range(20))
    assert stream.calls == [list(range(20))]


def test_a_plan_that_was_saved_before_plans_had_unknown_rows_is_settled(make: Make) -> None:
    stream = make(sorting)
    stream.put(1, 2, 3)
    stream.target.fails_after = 2
    stream.deliver_in_vain()
    plan = dict(stream.log.checkpoint("plan") or {})
    del plan["unknown"], plan["source"]
    stream.log.save("plan", plan)
    stream.restart()
    stream.deliver()
    assert stream.target.taken == [3, 2, 1]
    assert stream.calls == [[1, 2, 3]]
    assert stream.log.waiting_bytes == 0
