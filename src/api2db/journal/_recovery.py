"""Progress of the recovery of a journal, for other processes.

An owner that finds a damaged state file reads all segments again, which takes a while if gigabytes wait.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from api2db.disk.atomic import read_json, write_json
from api2db.journal.port import Recovery

_NAME: Final = "recovery.json"
_SHORTEST_S: Final = 0.5  # a shorter recovery is told to nobody
_PUBLISH_S: Final = 0.25


class RecoveryProgress:
    """Publishes how many bytes have been read, while the block runs.

    Args:
        folder: The journal's folder.
        sizes: The sizes in bytes of the segments that are read, by their numbers.
    """

    def __init__(self, folder: Path, sizes: Mapping[int, int]) -> None:
        self._path = folder / _NAME
        self._ends = dict(zip(sorted(sizes), accumulate(sizes[number] for number in sorted(sizes)), strict=True))
        self._sizes = sizes
        self._begun_at = time.time()
        self._next_s = time.monotonic() + _SHORTEST_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        withdraw_recovery(self._path.parent)

    def reached(self, segment: int, offset: int) -> None:
        """Note that a segment has been read up to an offset."""
        if time.monotonic() < self._next_s or segment not in self._sizes:
            return
        self._next_s = time.monotonic() + _PUBLISH_S
        done = self._ends[segment] - self._sizes[segment] + offset
        with suppress(OSError):
            write_json(self._path, asdict(Recovery(done, max(self._ends.values()), self._begun_at)))


def recovery_of(folder: Path) -> Recovery | None:
    """Return how far the recovery of a journal is; None if its owner tells nothing."""
    try:
        return Recovery(**(read_json(folder / _NAME) or {}))
    except TypeError:
        return None


def withdraw_recovery(folder: Path) -> None:
    """Remove what the recovery of this or of an earlier owner has published."""
    with suppress(OSError):
        (folder / _NAME).unlink(missing_ok=True)
