import queue
import threading

import pyarrow as pa
import pytest

from api2db.errors import BacklogFullError
from api2db.journal import Delivered, StreamIdentity, split
from tests.journal.conftest import Opener
from tests.journal.tools import LIMIT, OTHER, drain, frame, take

SMALL = StreamIdentity("small", "sql.duckdb", quota_bytes=2000)


def test_at_the_quota_a_put_raises_as_a_queue_does_when_it_may_not_wait(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(SMALL)
    put = 0
    while log.stream.has_room(400):
        journal.append([frame(put)], block=False)
        put += 1
    with pytest.raises(BacklogFullError, match="max_backlog_bytes") as raised:
        journal.append([frame(put, size_bytes=400)], block=False)
    assert isinstance(raised.value, queue.Full)
    assert log.backlog().size_bytes <= 2000
    with pytest.raises(BacklogFullError):
        journal.append([frame(put, size_bytes=400)], timeout_s=0.01)
    assert drain(log) == list(range(put)), "a put that was refused is not there"
    journal.append([frame(put)], block=False)


def test_at_the_quota_a_put_waits_until_there_is_room(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(SMALL)
    journal.append([frame(0, size_bytes=1700)])
    done = threading.Event()

    def put() -> None:
        journal.append([frame(1, size_bytes=1700)])
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not done.wait(0.05)
    assert len(take(log)) == 1
    thread.join(30)
    assert done.is_set()
    assert drain(log) == [1]


def test_a_frame_larger_than_the_quota_goes_in_alone(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(SMALL)
    journal.append([frame(0, size_bytes=5000)], block=False)
    with pytest.raises(BacklogFullError):
        journal.append([frame(1)], block=False)
    assert drain(log) == [0]


def test_parked_and_rejected_bytes_count(opened: Opener) -> None:
    journal = opened()
    stream_no, log = journal.attach(SMALL)
    journal.append([frame(0)])
    journal.append([frame(1)])
    log.save("parked", {"size_bytes": 1900})
    with pytest.raises(BacklogFullError):
        journal.append([frame(2)], block=False)
    first = next(split(log.read(LIMIT, 0)))
    log.acknowledge(first.position, Delivered(rejected=1, rejected_bytes=1900), clear=["parked"])
    with pytest.raises(BacklogFullError):
        journal.append([frame(2)], block=False)
    journal.detach(stream_no)
    journal.attach(StreamIdentity(SMALL.name, SMALL.stream_type, quota_bytes=4000))
    journal.append([frame(2)], block=False)


def test_what_is_parked_leaves_less_room_for_what_is_not_compressed(opened: Opener) -> None:
    journal = opened()
    stream_no, log = journal.attach(StreamIdentity("parked", "sql.duckdb", quota_bytes=8 << 20))
    log.save("parked", {"size_bytes": 6 << 20})
    batch = pa.record_batch({"zero": pa.array([0.0] * (1 << 17))})
    for _ in range(10):
        journal.append([batch], stream_no=stream_no, block=False)
    assert log.backlog().size_bytes < batch.nbytes


def test_a_quota_holds_up_those_who_put_for_that_stream_only(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(SMALL)
    other, other_log = journal.attach(OTHER)
    journal.append([frame(0, size_bytes=3000)])
    journal.append([frame(1)], stream_no=other, block=False)
    assert drain(other_log) == [0, 1]
    assert log.backlog().frames == 1


def test_a_put_that_waits_ends_when_the_journal_is_closed(opened: Opener) -> None:
    journal = opened()
    journal.attach(SMALL)
    journal.append([frame(0, size_bytes=3000)])
    errors: list[Exception] = []

    def put() -> None:
        try:
            journal.append([frame(1)])
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    journal.close()
    thread.join(30)
    assert "closed" in str(errors[0])
