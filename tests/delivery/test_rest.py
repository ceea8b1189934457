"""The worker rests after a batch of frames that came fast, so that the next one has more of them."""

import pyarrow as pa
import pytest

from api2db.delivery._worker import _came_fast
from api2db.delivery.batch import batch_of
from api2db.journal import Entry, Position


@pytest.mark.parametrize(
    ("frames", "every_ms", "fast"),
    [(1, 0, False), (2, 0, False), (3, 0, True), (3, 0.2, True), (3, 10, False), (500, 1, True), (500, 10, False)],
)
def test_frames_that_came_fast_make_the_worker_rest(frames: int, every_ms: float, *, fast: bool) -> None:
    entries = [
        Entry(Position(number), 10**18 + int(number * every_ms * 1e6), pa.record_batch({"n": [number]}), frame_end=True)
        for number in range(1, frames + 1)
    ]
    assert _came_fast(batch_of(entries, Position(0))) == fast
