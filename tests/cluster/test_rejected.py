"""Rejected rows and parked batches of a cluster: any machine sees them, and none that dies loses or doubles them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from api2db.app._rejects import rejected_files
from api2db.cluster._aside import AsideFiles, ClusterFolder
from api2db.cluster._reader import ClusterReader
from api2db.delivery import Parking, Rejects
from api2db.delivery.batch import Batch, batch_of
from api2db.disk.folders import rejected_folder, upload_failed_folder
from api2db.errors import ClusterUnavailableError, ConfigurationError, JournalBusyError
from api2db.journal import Delivered
from tests.cluster.journals import ALL_AT_ONCE, Machine, Machines, StreamNo, delivered, rows

STREAM_NO = StreamNo(1)


def no_answer(*_: Any) -> Any:
    raise ClusterUnavailableError("no answer")


class KilledError(Exception):
    """The process ends here."""


def rejects(reader: ClusterReader, home: Path) -> Rejects:
    return Rejects(reader, rejected_folder(home, "flights", "sql.postgresql"))


def waiting(reader: ClusterReader) -> Batch:
    return batch_of(reader.read(ALL_AT_ONCE, 0), reader.position)


def reject(reader: ClusterReader, home: Path) -> None:
    """Reject row 2 of what waits, and load the rest."""
    batch = waiting(reader)
    at = rejects(reader, home)
    at.set_aside(batch, {1: "2 is too much"})
    commit(reader, home, batch)


def commit(reader: ClusterReader, home: Path, batch: Batch) -> None:
    """What a loader does once the target has committed a batch."""
    pending = rejects(reader, home).resolve(batch.end)
    rejected = {"rejected": pending["rows"], "rejected_bytes": pending["size_bytes"]}
    reader.acknowledge(batch.end, Delivered(rows=2, **rejected), clear=["pending"])


def listed(machine: Machine) -> list[list[int]]:
    """The rows of each file, as a machine sees them that may own nothing."""
    contents = [machine.store.read_rejected(each.file) for each in machine.store.rejected_files()]
    return [pq.read_table(BytesIO(content)).column("id").to_pylist() for content in contents if content is not None]


def counted(machine: Machine) -> tuple[int, int]:
    """Rows that are rejected, and that wait, by the status."""
    [stream] = machine.store.overview("flights").streams
    return stream.rows_rejected, stream.rows_waiting


@pytest.fixture
def taken_over(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], Machine]:
    """Has another machine go on with the work of one that is killed."""

    def take_over(dead: Machine) -> Machine:
        dead.vanish()
        machine = machines.new()
        monkeypatch.setattr(machine.cluster.session, "_check_gone", lambda *_: None)
        return machine

    return take_over


def test_any_machine_sees_what_one_has_rejected_and_can_put_it_again(machines: Machines, tmp_path: Path) -> None:
    here, other = machines.new(), machines.new()
    journal, reader = here.attached()
    journal.append([rows(1, 2, 3)])
    reject(reader, tmp_path)
    journal.housekeeping.save_changes()
    [file] = other.store.rejected_files()
    assert file.file.startswith("STORE/rejected/flights/sql.postgresql/")
    assert file.said is not None
    assert (file.said["rows"], file.said["reason"]) == (1, "2 is too much")
    assert listed(other) == [[2]]
    assert counted(other) == (1, 0)
    assert not (tmp_path / "STORE").exists(), "nothing is on the machine that has rejected them"
    journal.append([rows(2)], stream_no=STREAM_NO, removes=file.file)
    with pytest.raises(ConfigurationError, match="there is no file"):
        journal.append([rows(2)], stream_no=STREAM_NO, removes=file.file)
    assert delivered(reader) == [2]
    journal.housekeeping.save_changes()
    assert (listed(other), counted(other)) == ([], (0, 0))


def test_the_rejected_rows_of_all_collectors_are_listed_at_once(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other = machines.new(), machines.new()
    for name in ("flights", "trains", "ships", "nothing"):
        _, reader = here.attached(name)
        files = reader.files(rejected_folder(tmp_path, name, "sql.postgresql"))
        for number in range(0 if name == "nothing" else 2):
            content = files.write(lambda file: file.write(b"rows"))
            files.publish(content.name, f"{number}.parquet", {"rows": 1, "size_bytes": 4})
    assert other.store.names() == ["flights", "nothing", "ships", "trains"]
    calls = []
    real = other.cluster.connection._call

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(other.cluster.connection, "_call", call)
    found = sorted((Path(each.file).parts[2], Path(each.file).stem) for each in other.store.rejected_files())
    assert found == [(name, number) for name in ("flights", "ships", "trains") for number in ("0", "1")]
    assert len(calls) == 3, "the names, all streams at once, all files at once"


def test_a_file_whose_removal_is_under_way_is_not_listed_without_its_rows(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = machines.new()
    journal, reader = machine.attached()
    files = reader.files(rejected_folder(tmp_path, "flights", "sql.postgresql"))
    files.publish(files.write(lambda file: file.write(b"rows")).name, "1.parquet", {"size_bytes": 4})  # as imports do
    [entry] = journal.files.entries
    journal.core.log.purge_kind(entry.content)
    assert [each.file for each in machine.store.rejected_files()] == [entry.file]
    monkeypatch.setattr("api2db.app._rejects.journal_store", lambda _: machine.store)
    assert rejected_files(tmp_path) == []


@pytest.mark.parametrize(
    ("step", "is_committed"),
    [("write", False), ("save", False), ("save", True), ("publish", True), ("acknowledge", True)],
)
def test_rows_that_a_killed_machine_was_rejecting_are_listed_once(
    taken_over: Callable[[Machine], Machine],
    machines: Machines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: str,
    is_committed: bool,
) -> None:
    here = machines.new()
    journal, reader = here.attached()
    journal.append([rows(1, 2, 3)])
    where: Any = {"write": ClusterFolder, "publish": ClusterFolder}.get(step, ClusterReader)
    real = getattr(where, step)

    def cut(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(where, step, cut)
        with pytest.raises(KilledError):
            reject(reader, tmp_path)
    there = taken_over(here)
    _, reader = there.attached()
    batch = waiting(reader) if reader.waiting_bytes else None
    if batch is not None and is_committed:
        commit(reader, tmp_path, batch)
    elif batch is not None:
        assert rejects(reader, tmp_path).resolve(reader.position) == {}
        reject(reader, tmp_path)
    assert listed(there) == [[2]]
    assert counted(there) == (1, 0)


def test_rows_put_again_by_a_killed_machine_are_not_put_twice(
    taken_over: Callable[[Machine], Machine], machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machines.new()
    journal, reader = here.attached()
    journal.append([rows(1, 2, 3)])
    reject(reader, tmp_path)
    journal.housekeeping.save_changes()
    [file] = here.store.rejected_files()
    for killed_in in ("remove", "nothing"):

        def cut(*_: Any) -> None:
            raise KilledError

        with monkeypatch.context() as patched:
            if killed_in == "remove":
                patched.setattr(AsideFiles, "remove", cut)
                with pytest.raises(KilledError):
                    journal.append([rows(2)], stream_no=STREAM_NO, removes=file.file)
                with pytest.raises(ConfigurationError, match="put again or dropped before"):
                    journal.append([rows(2)], stream_no=STREAM_NO, removes=file.file)
        here = taken_over(here)
        journal, reader = here.attached()
        assert listed(here) == []
        assert counted(here)[0] == 0
    assert delivered(reader) == [2]


def test_a_removal_whose_answer_is_lost_counts_once(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.cluster._log._WAIT_S", 0.2)
    machine = machines.new()
    journal, reader = machine.attached()
    journal.append([rows(1, 2, 3)])
    reject(reader, tmp_path)
    [file] = machine.store.rejected_files()
    jetstream = machine.cluster.jetstream
    publish = jetstream.publish_together

    def lost(*arguments: Any, **options: Any) -> int:
        publish(*arguments, **options)
        raise ClusterUnavailableError("this answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(jetstream, "publish_together", lost)
        patched.setattr(jetstream, "get", no_answer)
        with pytest.raises(ClusterUnavailableError):
            journal.append([rows(2)], stream_no=STREAM_NO, removes=file.file)
    with pytest.raises(ConfigurationError, match="put again or dropped before"):
        journal.append([rows(2)], stream_no=STREAM_NO, removes=file.file)
    journal.housekeeping.keep()
    assert delivered(reader) == [2]
    assert (listed(machine), reader.delivered.rejected) == ([], 0)


def test_a_removal_whose_caller_has_given_up_counts_once_all_the_same(machines: Machines, tmp_path: Path) -> None:
    journal, reader = machines.new().attached()
    journal.append([rows(1, 2, 3)])
    reject(reader, tmp_path)
    removals, [entry] = journal._removals, journal.files.entries
    removal = removals.begin(entry.file, STREAM_NO, 1)
    removals.cancel(removal)  # the caller was interrupted while another thread published it
    removals.note(journal.core.log.end.number, removal)
    with pytest.raises(ConfigurationError, match="put again or dropped before"):
        journal.append([rows(2)], stream_no=STREAM_NO, removes=entry.file)


def test_an_owner_that_was_replaced_can_not_list_rows(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines.new(), machines.new()
    monkeypatch.setattr(there.cluster.session, "_check_gone", lambda *_: None)
    journal, reader = here.attached()
    journal.append([rows(1, 2, 3)])
    batch = waiting(reader)
    rejects(reader, tmp_path).set_aside(batch, {1: "2 is too much"})
    journal_there, reader_there = there.attached()
    with pytest.raises(JournalBusyError):
        rejects(reader, tmp_path).resolve(batch.end)
    assert listed(there) == []
    commit(reader_there, tmp_path, batch)
    [file] = there.store.rejected_files()
    journal_there.drop_rejected(STREAM_NO, file.file, 1)
    assert (listed(there), reader_there.delivered.rejected) == ([], 0)


def test_content_that_no_checkpoint_names_is_swept(machines: Machines, tmp_path: Path) -> None:
    machine = machines.new()
    journal, reader = machine.attached()
    files = reader.files(rejected_folder(tmp_path, "flights", "sql.postgresql"))
    large = b"x" * 3_000_000
    kept = files.write(lambda file: file.write(large))
    files.publish(kept.name, "1.parquet", {"rows": 1, "size_bytes": kept.size_bytes})
    left = files.write(lambda file: file.write(large))
    files.sweep()
    files.publish(left.name, "2.parquet", {"rows": 1, "size_bytes": left.size_bytes})
    [found] = machine.store.rejected_files()
    assert machine.store.read_rejected(found.file) == large
    other = files.write(lambda file: file.write(b"y"))
    files.publish(other.name, "1.parquet", {"rows": 1, "size_bytes": 1})
    assert sorted(Path(each.file).name for each in machine.store.rejected_files()) == ["1.parquet", "2.parquet"]
    journal.append([rows(1)])  # the log's end is still known
    assert delivered(reader) == [1]


def test_a_parked_batch_leaves_no_file_and_any_machine_can_deliver_it(machines: Machines, tmp_path: Path) -> None:
    here = machines.new()
    journal, reader = here.attached()
    journal.append([rows(1, 2)])
    parking = Parking(reader, upload_failed_folder(tmp_path, "flights", "sql.postgresql"))
    parking.park(waiting(reader))
    assert parking.occupied
    assert not (tmp_path / "STORE").exists()
    journal.housekeeping.save_changes()
    assert machines.new().store.overview("flights").streams[0].rows_parked == 2
    here.close()
    _, reader = machines.new().attached()
    parking = Parking(reader, upload_failed_folder(tmp_path, "flights", "sql.postgresql"))
    assert parking.occupied
    batch = waiting(reader)
    assert parking.leave(batch.end)
    reader.acknowledge(batch.end, Delivered(rows=2), clear=["parked"])
    assert not parking.occupied
