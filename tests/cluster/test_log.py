"""The log of a collector in a cluster: what it promises to those who put, and to those who deliver."""

import os
import threading
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from api2db.cluster import GapError
from api2db.cluster._connection import Message
from api2db.cluster._jetstream import NO_STREAM, JetStream, RefusedError
from api2db.errors import BacklogFullError, ClusterUnavailableError, JournalBusyError
from api2db.journal import Delivered, Position, StreamIdentity
from tests.cluster.journals import ALL_AT_ONCE, SQL, Machines, answers_lost, delivered, ids, rows
from tests.stream.eventually import eventually


def test_rows_and_the_state_that_were_put_on_one_machine_are_delivered_by_another(machines: Machines) -> None:
    here = machines.new()
    journal, reader = here.attached()
    for number in range(5):
        journal.append([rows(number), rows(number + 100)], cursor={"page": number})
    first = reader.read(ALL_AT_ONCE._replace(rows=2), 0)
    reader.acknowledge(first[-1].position, Delivered(frames=2, rows=2))
    here.close()
    journal, reader = machines.new().attached()
    assert journal.cursor() == {"page": 4}
    assert reader.delivered == Delivered(frames=2, rows=2)
    assert ids(first) + delivered(reader) == [each for number in range(5) for each in (number, number + 100)]


def test_a_collector_may_have_any_name_that_it_may_have_on_a_disk(machines: Machines) -> None:
    machine = machines.new()
    names = ["é" * 60, "é" * 59 + "ä"]  # as a stream's name, each is too long for the servers
    readers = []
    for number, name in enumerate(names):
        journal, reader = machine.attached(name)
        journal.append([rows(number)])
        readers.append(reader)
    assert [delivered(reader) for reader in readers] == [[0], [1]]
    assert machine.store.names() == sorted(names)
    assert set(machine.store.claims().owners) == set(names)


def test_a_new_collector_waits_until_enough_servers_are_up(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machines.new()
    connection = machine.cluster.ready().jetstream.connection
    request = connection.request
    refusals = [b'{"error": {"code": 400, "err_code": 10005, "description": "no suitable peers, peer offline"}}'] * 3

    def refusing(subject: str, *args: Any, **kwargs: Any) -> Message:
        if refusals and ".STREAM.CREATE." in subject:
            return Message(subject, refusals.pop())
        return request(subject, *args, **kwargs)

    monkeypatch.setattr(connection, "request", refusing)
    machine.journal().append([rows(1)])
    assert not refusals


def test_a_state_may_be_larger_than_a_message(machines: Machines) -> None:
    states = [{"seen": f"{number}" * size} for number, size in enumerate((3_000_000, 2_500_000, 10))]
    for state in states:
        machine = machines.new()
        journal, reader = machine.attached()
        journal.append([rows(1)], cursor=state)
        assert delivered(reader) == [1]
        journal.housekeeping.save_changes()
        journal.retention.purge()
        machine.close()
        there = machines.new()
        assert there.journal().cursor() == state
        there.close()


def test_a_server_that_does_not_know_a_new_stream_yet_does_not_keep_its_owner_out(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [RefusedError(NO_STREAM, "stream not found")]
    purge = JetStream.purge

    def refused_once(self: JetStream, *arguments: Any, **options: Any) -> None:
        if refusals:
            raise refusals.pop()
        purge(self, *arguments, **options)

    monkeypatch.setattr(JetStream, "purge", refused_once)
    journal, reader = machines.new().attached()
    assert not refusals
    journal.append([rows(1)])
    assert delivered(reader) == [1]


def test_a_publication_whose_answer_is_lost_counts_once(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    for arrives in (True, False):
        machine = machines.new()
        journal, _ = machine.attached(f"arrives-{arrives}")
        with answers_lost(machine, monkeypatch, times=2, arrives=arrives):
            journal.append([rows(1), rows(2)], cursor={"page": 1})
        journal.append([rows(3)])
        machine.close()
        _, reader = machines.new().attached(f"arrives-{arrives}")  # which has nothing but what the servers have
        assert delivered(reader) == [1, 2, 3]


def test_after_a_put_without_an_answer_the_state_and_the_rows_agree(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.cluster._log._WAIT_S", 0.2)
    for arrives in (True, False):
        machine = machines.new()
        journal, reader = machine.attached(f"arrives-{arrives}")
        journal.append([rows(1)], cursor={"page": 1})
        with (
            monkeypatch.context() as patch,
            answers_lost(machine, monkeypatch, times=1 if arrives else 100, arrives=arrives),
        ):
            patch.setattr(machine.cluster.jetstream, "get", _no_answer)
            with pytest.raises(ClusterUnavailableError):
                journal.append([rows(2)], cursor={"page": 2})
        page = journal.cursor()["page"]
        journal.append([rows(3)])
        assert delivered(reader) == ([1, 2, 3] if page == 2 else [1, 3])
        assert page == (2 if arrives else 1)


def _no_answer(*_: Any) -> Any:
    raise ClusterUnavailableError("no answer")


def test_a_second_owner_fences_the_first(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = machines.new(), machines.new()
    journal, reader = here.attached()
    journal.append([rows(1)], cursor={"page": 1})
    with pytest.raises(JournalBusyError, match="belongs to a worker on"):
        there.journal()
    monkeypatch.setattr(there.cluster.session, "_check_gone", lambda *_: None)  # as if the first had been frozen
    journal_there, reader_there = there.attached()
    with pytest.raises(JournalBusyError, match="another process has taken the journal"):
        journal.append([rows(2)], cursor={"page": 2})
    with pytest.raises(JournalBusyError):
        reader.save("plan", {"of": "the first owner"})
    journal_there.append([rows(3)])
    assert journal_there.cursor() == {"page": 1}
    assert reader_there.checkpoint("plan") is None
    assert delivered(reader_there) == [1, 3]


def test_only_one_of_many_owners_at_a_time_is_never_fenced(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever two owners do at once, each put that was acknowledged is there once, and no other."""
    acknowledged: list[int] = []
    first = machines.new()
    first.attached()  # Without a stream, nothing is kept.
    first.close()

    def put(machine: int) -> None:
        cluster = machines.new()
        monkeypatch.setattr(cluster.cluster.session, "_check_gone", lambda *_: None)
        number = machine * 1000
        while number < machine * 1000 + 12:
            try:
                journal = cluster.journal()
                for _ in range(3):
                    journal.append([rows(number), rows(number + 500)])
                    acknowledged.append(number)
                    number += 1
            except JournalBusyError:
                number += 1  # it may not be put again: whether it counts is what is asked

    threads = [threading.Thread(target=put, args=(machine,)) for machine in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = machines.new()
    monkeypatch.setattr(last.cluster.session, "_check_gone", lambda *_: None)
    _, reader = last.attached()
    found = delivered(reader)
    assert sorted(each for each in found if each % 1000 < 500) == sorted(acknowledged)
    assert sorted(each - 500 for each in found if each % 1000 >= 500) == sorted(acknowledged)


def test_rows_larger_than_a_message_are_cut_and_put_together_again(machines: Machines) -> None:
    machine = machines.new()
    journal, reader = machine.attached()
    blobs = [os.urandom(1000), os.urandom(3_000_000), os.urandom(10)]
    journal.append([pa.record_batch({"blob": blobs, "id": [1, 2, 3]}), rows(4)], cursor={"page": 1})
    journal.append([rows(5)])
    part = reader.read(ALL_AT_ONCE._replace(rows=1), 0)
    reader.acknowledge(part[-1].position, Delivered())
    machine.close()
    _, reader = machines.new().attached()
    entries = reader.read(ALL_AT_ONCE, 0)
    assert ids(part) + ids(entries) == [1, 2, 3, 4, 5]
    assert part[0].batch.column("blob").to_pylist() + entries[0].batch.column("blob").to_pylist() == blobs


def test_concurrent_puts_share_a_publication_and_keep_their_order(machines: Machines) -> None:
    journal, reader = machines.new().attached()

    def put(thread: int) -> None:
        for number in range(10):
            journal.append([rows(thread * 100 + number)])

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = delivered(reader)
    assert sorted(found) == sorted(thread * 100 + number for thread in range(8) for number in range(10))
    for number in range(8):
        own = [each for each in found if each // 100 == number]
        assert own == sorted(own)


def test_a_gap_stops_the_delivery(machines: Machines) -> None:
    journal, reader = machines.new().attached()
    for number in range(4):
        journal.append([rows(number)])
    journal.core.log.leave()  # what this process has published is read from the servers
    journal.core.log.purge(journal.core.log.end.number - 1)
    with pytest.raises(GapError, match="rows of flights are missing"):
        reader.read(ALL_AT_ONCE, 0)


def test_what_all_streams_have_delivered_is_removed(machines: Machines) -> None:
    machine = machines.new()
    journal, reader = machine.attached()
    _, other = journal.attach(StreamIdentity("other", "sql.mysql"))
    for number in range(20):
        journal.append([rows(number)], cursor={"page": number})
    stream = machine.cluster.names.log("flights")

    def messages() -> int:
        info = machine.cluster.jetstream.stream(stream)
        assert info is not None
        return int(info["state"]["messages"])

    assert delivered(reader) == list(range(20))
    journal.housekeeping.save_changes()
    journal.retention.purge()
    assert messages() > 20, "the other stream has delivered nothing"
    assert delivered(other) == list(range(20))
    journal.housekeeping.save_changes()
    journal.retention.purge()
    assert messages() <= 3
    journal.append([rows(99)])
    assert delivered(reader) == [99]
    assert journal.cursor() == {"page": 19}


def test_what_is_acknowledged_but_not_saved_is_kept_for_the_next_owner(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines.new(), machines.new()
    journal, reader = here.attached()
    for number in range(5):
        journal.append([rows(number)])
    journal.housekeeping.save_changes()
    monkeypatch.setattr(journal.housekeeping, "save_changes", lambda: None)
    assert delivered(reader) == list(range(5))
    journal.retention.purge()
    here.vanish()
    monkeypatch.setattr(there.cluster.session, "_check_gone", lambda *_: None)
    _, reader = there.attached()
    assert delivered(reader) == list(range(5)), "the target's ledger says that it has them"


def test_rows_of_another_stream_are_removed_although_this_one_never_gets_any(machines: Machines) -> None:
    machine = machines.new()
    journal, _ = machine.attached()
    number, other = journal.attach(StreamIdentity("other", "sql.mysql"))
    for each in range(5):
        journal.append([rows(each)], stream_no=number)
    assert delivered(other) == list(range(5))
    journal.housekeeping.save_changes()
    journal.retention.purge()
    assert journal.retention._purged == journal.core.log.end.rows


def test_a_spent_quota_refuses_and_a_delivery_makes_room(machines: Machines) -> None:
    journal, reader = machines.new().attached(identity=replace(SQL, quota_bytes=5000))
    large = rows(*range(300))
    journal.append([large])
    with pytest.raises(BacklogFullError, match="max_backlog_bytes"):
        journal.append([large, large], block=False)
    assert reader.is_full
    threading.Timer(0.1, lambda: delivered(reader)).start()
    journal.append([large, large], timeout_s=10)
    assert eventually(lambda: journal.overview()[0].frames_waiting == 2)


def test_the_state_of_a_stream_outlives_its_machine(machines: Machines) -> None:
    here = machines.new()
    journal, reader = here.attached()
    journal.append([rows(1)])
    reader.save("plan", {"step": 1})
    reader.set_error("the target is down")
    journal.housekeeping.save_changes()
    key = reader.key
    here.close()
    seen = machines.new().store.overview("flights").streams[0]
    assert (seen.frames_waiting, seen.rows_waiting, seen.last_error) == (1, 1, "the target is down")
    _, reader = machines.new().attached()
    assert (reader.key, reader.checkpoint("plan")) == (key, {"step": 1})


def test_a_ledger_ahead_of_the_log_is_believed_and_told(machines: Machines) -> None:
    journal, reader = machines.new().attached()
    journal.append([rows(1)])
    reader.seek(Position(journal.core.log.end.sequence + 5))
    assert "the cluster has lost messages" in str(reader.state.error)
    assert not reader.read(ALL_AT_ONCE, 0)
