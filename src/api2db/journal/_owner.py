"""Who may write a journal: one process, and none of its forked children."""

import fcntl
import os
import struct
import sys
from pathlib import Path

from api2db.errors import JournalBusyError, JournalError

LOCK_NAME = "owner.lock"
_File = tuple[int, int]
_HELD: dict[_File, int] = {}
_FLOCK = struct.Struct("hhqqi4x") if sys.platform == "linux" else None


class Owner:
    """The lock of a journal, held by this process until ``release``.

    A POSIX record lock (``fcntl.lockf``) belongs to the process, so a forked child does not inherit it as it would
    a ``flock``; the child is told by its process id.

    Raises:
        JournalBusyError: Another process has the lock; its id is named.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = os.getpid()
        self._held = True
        path = folder / LOCK_NAME
        if _holds(path):
            raise _busy(folder, str(self._pid))
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
        except BaseException:
            os.close(self._fd)
            raise
        self._file = _identify(os.fstat(self._fd))
        _HELD[self._file] = self._pid

    def _lock(self) -> None:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _busy(self._folder, os.pread(self._fd, 64, 0).decode(errors="replace").strip()) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{self._pid}\n".encode(), 0)

    def check(self) -> None:
        """Raise where this process is not the one that took the lock.

        Raises:
            JournalBusyError: This is a forked child.
            JournalError: The journal has been closed.
        """
        if not self._held:
            raise JournalError(f"the journal {self._folder} has been closed; start the stream again")
        if os.getpid() != self._pid:
            message = (
                f"the journal {self._folder} belongs to process {self._pid}, which forked this one; "
                "make and start streams in the process that puts into them"
            )
            raise JournalBusyError(message)

    @property
    def is_held(self) -> bool:
        """Whether the lock has not been given back."""
        return self._held

    def release(self) -> None:
        """Give the lock back; a forked child leaves it alone."""
        if os.getpid() == self._pid and self._held:
            self._held = False
            _HELD.pop(self._file, None)
            os.close(self._fd)


def is_owned(folder: Path) -> bool:
    """Whether a living process owns a journal; looks only, and takes nothing."""
    path = folder / LOCK_NAME
    if _holds(path):
        return True
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _is_locked(fd)
    finally:
        os.close(fd)


def _holds(path: Path) -> bool:
    """Whether this process has the lock; to open and close the file, by whatever name, would then drop it."""
    try:
        return _HELD.get(_identify(path.stat())) == os.getpid()
    except FileNotFoundError:
        return False


def _identify(found: os.stat_result) -> _File:
    return found.st_dev, found.st_ino


def _busy(folder: Path, holder: str) -> JournalBusyError:
    return JournalBusyError(
        f"the journal {folder} belongs to a running process (pid {holder or 'unknown'}); "
        "stop that process, or give this one another home"
    )


def _is_locked(fd: int) -> bool:
    if _FLOCK is None:
        return _pid_is_alive(os.pread(fd, 64, 0))
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question))
    return bool(answer[0] != fcntl.F_UNLCK)


def _pid_is_alive(text: bytes) -> bool:
    try:
        os.kill(int(text), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
