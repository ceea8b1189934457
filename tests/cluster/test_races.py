"""What threads of one owner do at the same time: puts, deliveries, and the housekeeping of the journal."""

import threading
from typing import Any

import pytest

from api2db.cluster._documents import Document
from api2db.cluster._message import LogEnd
from api2db.cluster._reader import ClusterReader
from api2db.journal import Delivered, StreamIdentity
from tests.cluster.journals import ALL_AT_ONCE, Machines, delivered, ids, rows


class GrowingLog:
    """A log that other threads append to: each look finds the next end, and at last the true one."""

    def __init__(self, log: Any, ends: list[LogEnd]) -> None:
        self._log = log
        self._ends = ends

    @property
    def end(self) -> LogEnd:
        return self._ends.pop(0) if self._ends else self._log.end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def growing(reader: ClusterReader, patch: pytest.MonkeyPatch, *ends: LogEnd) -> None:
    log = GrowingLog(reader._core.log, [*ends])
    for part in (reader.quota, reader._places):
        patch.setattr(part, "_log", log)
    patch.setattr(reader._core, "log", log)


LOOKS = pytest.mark.parametrize("looks", range(1, 4))


@LOOKS
def test_rows_that_are_stored_while_others_are_acknowledged_are_not_passed_over(
    looks: int, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, reader = machines.new().attached()
    journal.append([rows(1)])
    last, end = reader.read(ALL_AT_ONCE, 0)[-1], journal.core.log.end
    journal.append([rows(2)])
    with monkeypatch.context() as patch:
        growing(reader, patch, *[end] * looks)
        reader.acknowledge(last.position, Delivered(frames=1))
    journal.append([rows(3)])
    assert delivered(reader) == [2, 3]


@LOOKS
def test_rows_that_are_stored_while_a_state_is_saved_are_not_passed_over(
    looks: int, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, reader = machines.new().attached()
    other, _ = journal.attach(StreamIdentity("other", "sql.mysql"))
    journal.append([rows(1)], stream_no=other)  # so the stream has a reason to read on further behind
    end = journal.core.log.end
    journal.append([rows(2)])
    with monkeypatch.context() as patch:
        growing(reader, patch, *[end] * looks)
        reader.save_if_changed()
    journal.append([rows(3)])
    assert delivered(reader) == [2, 3]


@LOOKS
def test_rows_that_are_stored_while_the_newest_are_read_are_counted(
    looks: int, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, reader = machines.new().attached()
    journal.append([rows(1)])
    journal.append([rows(2)])
    end = journal.core.log.end
    journal.append([rows(3)])
    with monkeypatch.context() as patch:
        growing(reader, patch, *[end] * looks)
        entries, superseded = reader.newest()
    reader.acknowledge(entries[-1].position, Delivered(frames=1))
    left = [2, 3].index(ids(entries)[0])
    assert superseded.rows == 1 + left
    assert delivered(reader) == [3][left:]
    assert reader.waiting_bytes == 0


def test_a_plan_that_was_saved_is_not_replaced_by_an_older_state(machines: Machines) -> None:
    """The housekeeper saves whatever has changed, at any moment."""
    machine = machines.new()
    journal, reader = machine.attached()
    saving, begun = reader._saved._saving, threading.Event()

    class ThenTheHousekeeper:
        """A lock that the housekeeper gets next."""

        def __enter__(self) -> None:
            saving.acquire()

        def __exit__(self, *_: object) -> None:
            saving.release()
            if not begun.is_set():
                begun.set()
                thread = threading.Thread(target=reader.save_if_changed)
                thread.start()
                thread.join()

    reader.set_error("the target is slow")  # so there is something to save
    reader._saved._saving = ThenTheHousekeeper()  # type: ignore[assignment]
    reader.save("plan", {"of": 1})
    assert begun.is_set()
    kept = journal.core.stream_document(reader.state.stream_no).load()
    assert kept is not None
    assert (kept["checkpoints"], kept["error"]) == ({"plan": {"of": 1}}, "the target is slow")


def test_what_is_saved_together_with_a_checkpoint_is_not_saved_again(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reader = machines.new().attached()
    reader.save_if_changed()
    reader.save("plan", {"of": 1})

    def never(*_: Any) -> None:
        raise AssertionError("it was saved twice")

    monkeypatch.setattr(Document, "save", never)
    reader.save_if_changed()
    assert reader.checkpoint("plan") == {"of": 1}


def test_of_two_threads_each_keeps_what_the_other_changes_of_a_journal(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = machines.new().journal().core
    real = core.document.save
    other = threading.Thread(target=core.keep, kwargs={"removed_until": 5})

    def meanwhile(kept: dict[str, Any]) -> None:
        if not other.ident:
            other.start()
            other.join(0.2)
        real(kept)

    monkeypatch.setattr(core.document, "save", meanwhile)
    core.keep(last_stream_no=7)
    other.join()
    for kept in (core.kept, core.document.load() or {}):
        assert (kept["removed_until"], kept["last_stream_no"]) == (5, 7)
