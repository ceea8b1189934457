"""A stream whose quota is spent makes put wait, while the others of its collector drain."""

import queue
import threading
from pathlib import Path

import pytest

from api2db import Stream2Local, Stream2Sql
from api2db.journal._store import open_shared
from api2db.targets import sqlite
from tests.kills.checker import Verdict, in_shards, in_sqlite, judge
from tests.kills.databases import held_here
from tests.kills.here import running, wait_until
from tests.kills.rows import EVERYONE, frame

QUOTA_BYTES = 20_000


def test_at_the_quota_of_a_held_target_put_waits_while_the_other_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MS", 100)
    slow = Stream2Sql("flights", "held.sqlite", "sqlite", home=tmp_path, max_backlog_bytes=QUOTA_BYTES)
    quick = Stream2Local("flights", home=tmp_path)
    put: list[int] = []
    with running(slow, quick):
        slow.q.put(frame("own", 1).to_pandas())
        assert slow.flush(30)
        handle = open_shared(tmp_path, "flights")

        def produce() -> None:
            for n in range(2, 200):
                handle.journal.append((frame(EVERYONE, n),))
                put.append(n)

        with held_here(tmp_path / "held.sqlite"):
            producer = threading.Thread(target=produce)
            producer.start()
            wait_until(slow.q.full)
            assert quick.flush(30)
            assert producer.is_alive()
            until_then = list(put)
            assert judge(in_shards(tmp_path / "STORE" / "flights" / "parquet"), until_then) == Verdict()
            with pytest.raises(queue.Full, match="max_backlog_bytes"):
                slow.q.put(frame("own", 200, rows=200).to_pandas(), timeout=0.01)
            with pytest.raises(queue.Full):
                slow.q.put_nowait(frame("own", 200, rows=200).to_pandas())
            assert len(put) <= len(until_then) + 1
        slow.check_failures()
        producer.join(120)
        assert not producer.is_alive()
        assert slow.flush(60)
        assert quick.flush(60)
        handle.release()
    assert put == list(range(2, 200))
    assert judge(in_sqlite(tmp_path / "held.sqlite"), [1, *put]) == Verdict()
    assert judge(in_shards(tmp_path / "STORE" / "flights" / "parquet"), put) == Verdict()
