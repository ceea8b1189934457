"""A stream's end of the journal: a put and a stop at the same moment."""

import threading
from pathlib import Path

import pytest

from api2db import Stream2Local
from api2db.errors import Api2dbError
from api2db.stream._attachment import Attachment
from tests.stream.cases import frame

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
    assert stream.status().frames_waiting == 1
    stream.stop()
