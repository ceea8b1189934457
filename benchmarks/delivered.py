"""How long frames take from the first put until the last of them is in the target."""

import time
from collections.abc import Sequence

import pandas as pd

from api2db.stream import Stream


def connected(stream: Stream, frame: pd.DataFrame) -> None:
    """Have it connect and make the table, by one row of a frame: the floor that it stands beside has done so, too."""
    stream.q.put(frame.iloc[:1])
    stream.flush()


def delivered_in_s(stream: Stream, frames: Sequence[pd.DataFrame]) -> float:
    """Put frames into a stream that runs, and wait for all of them."""
    began_s = time.perf_counter()
    for frame in frames:
        stream.q.put(frame)
    stream.flush()
    return time.perf_counter() - began_s
