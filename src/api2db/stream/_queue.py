"""A stream's journal as a ``queue.Queue``, which is the public type of ``stream.q``."""

import queue
from collections.abc import Callable
from typing import Any, NoReturn

from api2db.errors import JournalError


class JournalQueue(queue.Queue[Any]):
    """A queue whose ``put`` journals, whose ``join`` waits for delivery, and whose ``qsize`` counts waiting frames.

    Args:
        put: Journals one frame: the frame, whether to wait for room, and for how many seconds.
        waiting: Returns the number of waiting frames.
        join: Returns when no frame waits.
        has_room: Whether a ``put`` would not have to wait.
    """

    def __init__(
        self,
        put: Callable[[Any, bool, float | None], None],
        waiting: Callable[[], int],
        join: Callable[[], object],
        has_room: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._journal = put
        self._waiting = waiting
        self._join = join
        self._has_room = has_room

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Return when the frame is on disk.

        After an interrupt (KeyboardInterrupt, or what another signal handler raises) it may or may not be stored.

        Raises:
            FrameError: It is not a frame; nothing was stored.
            queue.Full: The stream's quota is spent, and ``block`` is false or the timeout has passed.
            JournalWriteError: The disk refused the write; the frame may or may not be stored.
            StreamDiedError: The stream's worker has stopped with an error; nothing was stored.
        """
        self._journal(item, block, timeout)

    def put_nowait(self, item: Any) -> None:
        """Put without waiting for room."""
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> NoReturn:
        """Raise: only the stream's own worker takes frames out.

        Raises:
            JournalError: Always.
        """
        raise JournalError("frames are taken out by the stream's own worker; read them from its target")

    def get_nowait(self) -> NoReturn:
        """Raise as ``get`` does."""
        self.get()

    def task_done(self) -> None:
        """Do nothing: the worker records what is delivered."""

    def join(self) -> None:
        """Return when everything that was put is in the target."""
        self._join()

    def qsize(self) -> int:
        """Return the number of waiting frames."""
        return self._waiting()

    def empty(self) -> bool:
        """Whether no frame waits."""
        return not self._waiting()

    def full(self) -> bool:
        """Whether a ``put`` as large as the last one that was refused would have to wait for room."""
        return not self._has_room()
