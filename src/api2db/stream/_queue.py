"""The face of a stream's journal as a ``queue.Queue``, which the spec names."""

import queue
from collections.abc import Callable
from typing import Any, NoReturn

from api2db.errors import JournalError


class JournalQueue(queue.Queue[Any]):
    """``put`` journals; ``join`` waits until everything is delivered; ``qsize`` counts the frames that wait.

    Args:
        put: Journals one frame: the frame, whether to wait for room, and for how long, seconds.
        waiting: How many frames wait.
        join: Returns when none does.
        has_room: Whether a ``put`` would not have to wait.
    """

    def __init__(
        self,
        put: Callable[[Any, bool, float | None], None],
        waiting: Callable[[], int],
        join: Callable[[], None],
        has_room: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._journal = put
        self._waiting = waiting
        self._join = join
        self._has_room = has_room

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Return when the frame is on disk.

        Raises:
            FrameError: It is no frame; nothing was stored.
            queue.Full: The stream's quota is spent, and it was not to wait, or not longer.
            JournalWriteError: The disk refused; whether the frame counts is unknown.
            StreamDiedError: The stream's worker has ended by an error; nothing was stored.
        """
        self._journal(item, block, timeout)

    def put_nowait(self, item: Any) -> None:
        """As ``put``, without waiting for room."""
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> NoReturn:
        """Raise: only the stream's own worker takes frames out.

        Raises:
            JournalError: Always.
        """
        raise JournalError("frames are taken out by the stream's own worker; read them from its target")

    def get_nowait(self) -> NoReturn:
        """As ``get``."""
        self.get()

    def task_done(self) -> None:
        """Do nothing: the worker says itself what is done."""

    def join(self) -> None:
        """Return when everything that was put is in the target."""
        self._join()

    def qsize(self) -> int:
        """How many frames wait."""
        return self._waiting()

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._waiting()

    def full(self) -> bool:
        """Whether a ``put`` would have to wait for room, one like that which was refused last."""
        return not self._has_room()
