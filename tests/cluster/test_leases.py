"""Sessions and claims: what a worker keeps when its session has ended, and what it lets go of."""

import json
import threading
import time
from typing import Any

import pytest

from api2db import Collector
from api2db.app._cluster import Scale
from api2db.cluster import Session
from api2db.cluster._connection import Message
from api2db.cpu_time import Stretch, counted_for, spent_s, thread_times_s
from api2db.errors import ClusterUnavailableError
from tests.cluster.journals import Machine, Machines, delivered, rows


def expire(machine: Machine) -> None:
    """End the session in the cluster, as a missed renewal does."""
    worker = machine.cluster.session.start()
    machine.cluster.jetstream.purge(machine.cluster.names.leases, machine.cluster.names.worker(worker.worker))


def keep_up(session: Session) -> None:
    worker = session.start()
    session._keep_up(worker)


def test_a_worker_whose_session_has_ended_keeps_what_nobody_has_taken(machines: Machines) -> None:
    here, there = machines.new(), machines.new()
    journal, reader = here.attached("kept")
    taken, _ = here.attached("taken")
    expire(here)
    assert there.store.claims().orphans == {"kept", "taken"}
    there_journal, there_reader = there.attached("taken")
    keep_up(here.cluster.session)
    assert (journal.core.is_lost, taken.core.is_lost) == (False, True)
    journal.append([rows(1)])
    there_journal.append([rows(2)])
    assert (delivered(reader), delivered(there_reader)) == ([1], [2])
    claims = there.store.claims()
    assert claims.orphans == set()
    assert {claims.owners["kept"], claims.owners["taken"]} == set(claims.workers)


def test_a_worker_looks_at_all_its_claims_at_once(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, a thousand claims take longer than a session lasts without a renewal."""
    here, there = machines.new(), machines.new()
    journals = {name: here.journal(name) for name in ("kept", "given", "taken")}
    expire(here)
    there.journal("taken")
    calls, real = list[int](), here.cluster.connection._call

    def call(*arguments: Any) -> Any:
        calls.append(threading.get_ident())
        return real(*arguments)

    monkeypatch.setattr(here.cluster.connection, "_call", call)
    here.cluster.session._verify()
    assert {name for name, journal in journals.items() if journal.core.is_lost} == {"taken"}
    assert calls.count(threading.get_ident()) == 1


def test_a_journal_that_was_lost_and_opened_again_is_lost_to_those_who_use_it(machines: Machines) -> None:
    machine = machines.new()
    first = machine.store.open("flights")
    first.journal.core.lose("another process has taken it")
    second = machine.store.open("flights")
    assert machine.store.is_lost("flights")
    first.release()
    assert not machine.store.is_lost("flights")
    assert not second.journal.core.is_closed
    second.release()


def test_an_ended_session_is_not_begun_again(machines: Machines) -> None:
    machine = machines.new()
    worker = machine.store.take_part()
    machine.cluster.session.end()
    machine.cluster.session._keep_up(worker)
    assert machines.new().store.claims().workers == {}


def test_a_claim_that_could_not_be_given_up_is_given_up_later(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.cluster._leases._LAST_S", 0.0)
    machine = machines.new()
    first, second = machine.journal("first"), machine.journal("second")

    def unanswered(*_: object, **__: object) -> None:
        raise ClusterUnavailableError("an election")

    with monkeypatch.context() as patch:
        patch.setattr(machine.cluster.jetstream, "publish", unanswered)
        machine.cluster.session.release("first")
        machine.cluster.session.release("second")
    machine.cluster.session.claim("second", second.core.lose)
    keep_up(machine.cluster.session)
    assert set(machines.new().store.claims().owners) == {"second"}
    first.close()


def test_the_weight_of_a_collector_outlives_its_owner(machines: Machines) -> None:
    machine = machines.new()
    journal = machine.journal("heavy")
    machine.store.weigh("heavy", 7.5)
    machine.store.weigh("heavy", 7.6)  # too small a change to be published
    machine.store.weigh("never opened", 3.0)
    assert machines.new().store.claims().weights == {"heavy": 7.5}
    journal.close()
    claims = machines.new().store.claims()
    assert (claims.owners, claims.weights) == ({}, {"heavy": 7.5})
    other = machines.new()
    other.journal("heavy")
    assert other.store.claims().weights == {"heavy": 7.5}


def test_all_claims_are_read_however_many_there_are(machines: Machines) -> None:
    machine = machines.new()
    worker, names = machine.store.take_part(), machine.cluster.names
    claim = json.dumps({"worker": worker.worker, "weight": 1.0}).encode()
    count = 1100  # servers refuse to find the last messages of more than 1024 subjects at once
    claims = [Message(names.claim(f"c{number}"), claim) for number in range(count)]
    machine.cluster.connection.request_all(claims, timeout_s=60)
    found = machine.store.claims()
    assert len(found.owners) == count
    assert set(found.owners.values()) == set(found.workers) == {worker.worker}


def test_a_collector_weighs_what_its_threads_compute() -> None:
    def work(seconds: float) -> None:
        with counted_for("busy"), counted_for("busy"):
            begin_s = time.thread_time()
            while time.thread_time() - begin_s < seconds:
                pass

    before = spent_s("busy")
    scale, idle = Scale("busy", every_s=0.0), Scale("idle", every_s=0.0)
    thread = threading.Thread(target=work, args=(0.05,))
    thread.start()
    thread.join()
    assert 0.05 <= spent_s("busy") - before < 0.5
    assert (scale.weight() or 0) > 1
    assert idle.weight() == 1
    assert Scale("busy").weight() is None, "it is weighed once in some seconds"


def test_a_collector_whose_threads_wait_for_a_core_weighs_what_they_would_compute() -> None:
    readings = iter(
        [
            {"1": (10.0, 5.0), "2": (7.0, 0.0)},
            {"1": (11.0, 8.0), "2": (1.0, 9.0), "3": (1.0, 1.0)},  # 2 is another thread than before, 3 is new
            {},  # The system does not say it.
        ]
    )
    stretch = Stretch(lambda: next(readings))
    assert [stretch.since_last(), stretch.since_last()] == [3.0, 1.0]
    scale = Scale("waiting", every_s=0.0)
    with counted_for("waiting"):
        begin_s = time.thread_time()
        while time.thread_time() - begin_s < 0.02:
            pass
    spent, before = spent_s("waiting"), scale._begin[0]
    weight = scale.weight(3.0)
    assert weight is not None
    assert weight == pytest.approx(1 + 300 * spent / (scale._begin[0] - before))
    times = thread_times_s()
    assert not times or times[str(threading.get_native_id())][0] > 0


def test_shards_may_be_on_a_disk_that_all_machines_share() -> None:
    def polled() -> None: ...

    assert Collector("shared", 1, polled, [], pin="*").machine is None
    assert Collector("pinned", 1, polled, [], pin="m1").machine == "m1"
