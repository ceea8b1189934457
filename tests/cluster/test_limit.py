"""The servers' limit of a collector's stream: it refuses what the owner would have let in, and loses nothing."""

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api2db.cluster._jetstream import FullError
from api2db.cluster._quota import Quota
from api2db.delivery import Rejects
from api2db.delivery.batch import batch_of
from api2db.disk.folders import rejected_folder
from api2db.errors import BacklogFullError, ClusterUnavailableError
from api2db.journal import Delivered
from tests.cluster.journals import ALL_AT_ONCE, SQL, Machine, Machines, delivered

LIMITED = replace(SQL, quota_bytes=100_000)


def block(number: int, size_bytes: int = 50_000) -> pa.RecordBatch:
    """A row of random bytes."""
    return pa.record_batch({"id": [number], "bytes": [os.urandom(size_bytes)]})


@pytest.fixture
def machine(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One on which the owner's own quota lets everything in, and the servers have little more than the quota."""
    monkeypatch.setattr("api2db.cluster._retention._RESERVE_BYTES", 100_000)
    monkeypatch.setattr(Quota, "has_room", lambda *_: True)
    return machines.new()


def stored_bytes(machine: Machine) -> tuple[int, int]:
    """What the stream has, and its limit."""
    info: Any = machine.cluster.jetstream.stream(machine.cluster.names.log("flights"))
    return info["state"]["bytes"], info["config"]["max_bytes"]


def fill(journal: Any) -> int:
    """Put until the servers refuse; return how many rows they have taken."""
    for number in range(100):
        try:
            journal.append([block(number)], block=False)
        except BacklogFullError:
            return number
    raise AssertionError("the servers never refused")


def test_a_group_that_would_exceed_the_limit_is_refused_whole_and_nothing_is_lost(machine: Machine) -> None:
    journal, reader = machine.attached(identity=LIMITED)
    taken = fill(journal)
    end = journal.core.log.end
    with pytest.raises(BacklogFullError, match="the cluster has no space"):
        journal.append([block(number) for number in range(1000, 1020)], block=False)  # only the first would fit, if any
    assert journal.core.log.messages.end() == end
    held, limit = stored_bytes(machine)
    assert held <= limit == 300_000
    assert delivered(reader) == list(range(taken))


def test_a_put_waits_until_a_delivery_has_made_room(machine: Machine) -> None:
    journal, reader = machine.attached(identity=LIMITED)
    taken = fill(journal)
    threading.Timer(0.1, lambda: delivered(reader)).start()
    journal.append([block(number) for number in range(taken, taken + 3)], timeout_s=30)
    assert delivered(reader) == list(range(taken, taken + 3))


def test_a_full_log_can_be_opened_and_its_rows_can_be_rejected(
    machine: Machine, machines: Machines, tmp_path: Path
) -> None:
    journal, _ = machine.attached(identity=LIMITED)
    taken = fill(journal)
    held, _ = stored_bytes(machine)
    stream: Any = machine.cluster.jetstream.stream(journal.core.log.messages.stream)
    config = {**stream["config"], "max_bytes": held}  # not a byte is left
    machine.cluster.jetstream.api(f"STREAM.UPDATE.{config['name']}", config)
    machine.close()
    there = machines.new()
    journal, reader = there.attached(identity=LIMITED)
    batch = batch_of(reader.read(ALL_AT_ONCE, 0), reader.position)
    rejects = Rejects(reader, rejected_folder(tmp_path, "flights", "sql.postgresql"))
    rejects.set_aside(batch, dict.fromkeys(range(taken), "planted"))
    reader.acknowledge(batch.end, Delivered(rejected=rejects.resolve(batch.end)["rows"]), clear=["pending"])
    [file] = there.store.rejected_files()
    assert file.said is not None
    assert file.said["rows"] == taken
    journal.housekeeping.save_changes()
    journal.retention.purge()
    journal.append([block(1)])
    assert delivered(reader) == [1]


def test_a_single_group_for_which_nothing_waits_may_exceed_the_limit(machine: Machine) -> None:
    journal, reader = machine.attached(identity=LIMITED)
    for number, size_bytes in enumerate((2_000_000, 1000)):  # the last message of a log always stays
        journal.append([block(number, size_bytes)])
        assert delivered(reader) == [number]
    journal.housekeeping.save_changes()
    journal.retention.purge()
    assert stored_bytes(machine)[1] == 300_000, "the limit is by quotas again"


def test_without_a_quota_there_is_no_limit(machine: Machine) -> None:
    journal, _ = machine.attached(identity=LIMITED)
    assert stored_bytes(machine)[1] == 300_000
    journal.attach(replace(SQL, name="other"))
    assert stored_bytes(machine)[1] == -1


def test_the_limit_of_a_stream_that_was_forgotten_does_not_stay(machine: Machine, machines: Machines) -> None:
    journal, reader = machine.attached(identity=LIMITED)
    journal.detach(reader.state.stream_no)
    assert journal.forget(LIMITED.name)
    machine.close()
    there = machines.new()
    there.attached()
    assert stored_bytes(there)[1] == -1


def test_a_state_without_rows_is_stored_however_full_the_log_is(machine: Machine) -> None:
    journal, _ = machine.attached(identity=LIMITED)
    fill(journal)
    held, _ = stored_bytes(machine)
    stream: Any = machine.cluster.jetstream.stream(journal.core.log.messages.stream)
    config = {**stream["config"], "max_bytes": held}  # not a byte is left
    machine.cluster.jetstream.api(f"STREAM.UPDATE.{config['name']}", config)
    journal.append([], cursor={"page": 1}, block=False)
    assert journal.cursor() == {"page": 1}


def test_a_group_whose_answer_is_lost_in_the_moment_in_which_it_fills_the_log_counts_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, reader = machine.attached()
    real = machine.cluster.jetstream.publish_together
    answers: list[Exception] = [ClusterUnavailableError("this answer was lost"), FullError(10077, "it is full now")]

    def publish(*arguments: Any, **options: Any) -> int:
        if len(answers) == 1:
            raise answers.pop()
        number = real(*arguments, **options)
        if answers:
            raise answers.pop(0)
        return number

    monkeypatch.setattr(machine.cluster.jetstream, "publish_together", publish)
    journal.append([block(1)], block=False)
    assert delivered(reader) == [1]


def test_servers_without_space_are_a_spent_quota(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, reader = machine.attached()
    real = machine.cluster.jetstream.publish_together
    left = [2]

    def full(*arguments: Any, **options: Any) -> int:
        if left[0]:
            left[0] -= 1
            raise FullError(10047, "insufficient resources")
        return real(*arguments, **options)

    monkeypatch.setattr(machine.cluster.jetstream, "publish_together", full)
    with pytest.raises(BacklogFullError):
        journal.append([block(1)], block=False)
    journal.append([block(2)])
    assert delivered(reader) == [2]
