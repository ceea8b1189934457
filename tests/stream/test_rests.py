"""The pause between two loads: small batches become larger ones, and nobody who waits for rows waits for the pause."""

import random
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable

from api2db import Stream
from api2db.errors import ConfigurationError
from tests.stream.cases import frame
from tests.stream.eventually import eventually
from tests.stream.lakes import DELTA, delta_rows, stream_into_delta


def is_delivered(stream: Stream, rows: int) -> bool:
    return stream.status().rows_delivered == rows


def versions(home: Path) -> int:
    return int(DeltaTable(home / DELTA).version())


def test_frames_that_come_during_the_pause_are_one_commit(tmp_path: Path) -> None:
    with stream_into_delta(tmp_path, commit_every_s=3600) as stream:
        stream.q.put(frame(0))
        eventually(partial(is_delivered, stream, 1))
        before = versions(tmp_path)
        for number in range(1, 9):
            stream.q.put(frame(number))
        assert stream.status().rows_delivered == 1
        assert stream.flush(30)
        assert versions(tmp_path) == before + 1
    assert [row["id"] for row in delta_rows(tmp_path)] == list(range(9))


@pytest.mark.parametrize("chunk_size", [4, 0], ids=["by rows", "by bytes"])
def test_a_pause_that_has_begun_ends_once_a_full_batch_waits(tmp_path: Path, chunk_size: int) -> None:
    text = "" if chunk_size else random.Random(1).randbytes(4 << 20).hex()
    with stream_into_delta(tmp_path, commit_every_s=3600, chunk_size=chunk_size) as stream:
        stream.q.put(frame(0))
        eventually(partial(is_delivered, stream, 1))
        stream.q.put(frame(1))
        assert is_delivered(stream, 1)
        for number in range(2, 9):
            stream.q.put(frame(number).assign(text=text))
        eventually(lambda: stream.status().rows_delivered > 1)
    assert [row["id"] for row in delta_rows(tmp_path)] == list(range(9))


def test_who_waits_for_a_frame_and_who_stops_wait_for_no_pause(tmp_path: Path) -> None:
    stream = stream_into_delta(tmp_path, commit_every_s=3600)
    stream.start()
    for number in range(3):
        stream.stream(frame(number))
    stream.stop()
    assert [row["id"] for row in delta_rows(tmp_path)] == [0, 1, 2]


def test_a_pause_of_nothing_is_none(tmp_path: Path) -> None:
    with stream_into_delta(tmp_path, commit_every_s=0) as stream:
        for number in range(3):
            stream.q.put(frame(number))
            eventually(partial(is_delivered, stream, number + 1))


@pytest.mark.parametrize("said", [-1, "1", True, float("nan")])
def test_a_pause_is_a_number_of_seconds(tmp_path: Path, said: object) -> None:
    with pytest.raises(ConfigurationError, match="commit_every_s"):
        stream_into_delta(tmp_path, commit_every_s=said)
