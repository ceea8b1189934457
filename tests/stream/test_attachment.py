"""A stream's end of the journal: a put and a stop at the same moment."""

import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from api2db import Stream2Local
from api2db.errors import Api2dbError
from api2db.journal._journal import SegmentedJournal
from api2db.stream._attachment import Attachment
from api2db.stream.commands import forget
from tests.stream.cases import frame
from tests.stream.eventually import eventually

_LONG_ENOUGH_S = 0.2  # for a release that nothing holds up


def test_a_put_while_another_thread_releases_the_journal_stores_the_frame_or_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream2Local("flights", home=tmp_path)
    real, releasing = Attachment.attach, threading.Event()

    def release(attachment: Attachment) -> None:
        with attachment.lock:
            attachment.release()
        releasing.set()

    def attach(attachment: Attachment) -> object:
        reader = real(attachment)
        threading.Thread(target=release, args=(attachment,)).start()
        releasing.wait(_LONG_ENOUGH_S)
        return reader

    with monkeypatch.context() as patched:
        patched.setattr(Attachment, "attach", attach)
        try:
            stream.q.put(frame(1))
        except Api2dbError:
            return
    assert releasing.wait(20)
    # While a release is under way, the status is what the journal's owner has published last.
    eventually(lambda: stream.status().frames_waiting == 1)
    stream.stop()


def test_a_look_while_another_thread_releases_the_journal_finds_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is gone right after the first look at it."""

    class Released(Attachment):
        readers: ClassVar[list[object]] = []

        @property
        def reader(self) -> Any:
            return self.readers.pop(0) if self.readers else None

        @reader.setter
        def reader(self, reader: object) -> None:
            """Keep it for the looks of the test alone."""

    stream = Stream2Local("flights", home=tmp_path)
    attachment = Released(tmp_path, "flights", "full", stream._stream_identity)
    with stream:
        attachment.readers.append(stream._attachment.reader)
        assert attachment.has_room
        assert attachment.has_room


def test_a_put_that_waits_for_room_while_its_stream_is_forgotten_is_stored_for_the_stream_as_it_starts_again(
    tmp_path: Path,
) -> None:
    stream = Stream2Local("flights", home=tmp_path, stream_id="small", max_backlog_bytes=1)
    other = Stream2Local("flights", home=tmp_path, stream_id="other")
    other.q.put(frame(0))  # it keeps the journal open
    stream.q.put(frame(1))
    waiting = threading.Thread(target=stream.q.put, args=(frame(2),), daemon=True)
    waiting.start()
    attached = stream._attachment.handle
    assert attached is not None
    eventually(lambda: attached.journal.core.changed._waiters)  # type: ignore[attr-defined]
    stream.stop()
    forget(tmp_path, "flights", stream.identity)
    waiting.join(20)
    assert not waiting.is_alive()
    assert stream.status().rows_waiting == 1, "the row of the put that has returned"
    stream.stop()
    other.stop()


def test_a_put_into_a_journal_that_another_thread_closes_opens_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream2Local("flights", home=tmp_path)
    stream.q.put(frame(1))
    real = SegmentedJournal.append

    def append(journal: SegmentedJournal, *arguments: Any, **options: Any) -> int:
        monkeypatch.undo()
        stopping = threading.Thread(target=stream.stop)
        stopping.start()
        stopping.join(20)
        return real(journal, *arguments, **options)

    monkeypatch.setattr(SegmentedJournal, "append", append)
    stream.q.put(frame(2))
    assert stream.status().rows_waiting == 2
    stream.stop()
