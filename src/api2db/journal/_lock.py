"""The journal's lock: one process may write, and none of its forked children."""

import errno
import fcntl
import os
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from api2db.errors import JournalBusyError
from api2db.journal.port import NotAttachedError

LOCK_NAME = "owner.lock"
_File = tuple[int, int]
_FLOCK = struct.Struct("hhqqi4x")
_LATELY_S = 0.001
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})


class _Descriptors:
    """The descriptors that hold this process's locks. A forked child closes its copies, which leaves the locks alone.

    A fork waits while a lock is being taken, so that no child has a copy that is not listed yet.
    """

    def __init__(self) -> None:
        self.opening = threading.RLock()
        self.held: set[int] = set()
        self.pid = os.getpid()  # known without a system call, of which a put makes few

    def before_fork(self) -> None:
        self.opening.acquire()

    def after_fork(self) -> None:
        self.opening.release()

    def in_child(self) -> None:
        self.pid = os.getpid()
        self.opening = threading.RLock()
        for descriptor in self.held:
            with suppress(OSError):
                os.close(descriptor)
        self.held = set()


_descriptors = _Descriptors()
os.register_at_fork(
    before=_descriptors.before_fork,
    after_in_parent=_descriptors.after_fork,
    after_in_child=_descriptors.in_child,
)


class JournalLock:
    """The lock of a journal, held by this process until ``release``.

    The lock belongs to the open file (on Linux an "open file description lock"), not to the process: a POSIX record
    lock would be lost as soon as any code of this process opens and closes the file, as copying the folder does.

    Raises:
        JournalBusyError: Another process, or another journal object of this process, holds the lock.
        OSError: The file can't be locked or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = os.getpid()
        self._held = True
        with _descriptors.opening:
            self._fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lock()
            except BaseException:
                os.close(self._fd)
                raise
            _descriptors.held.add(self._fd)
        self._file = _identify(os.fstat(self._fd))
        self._seen_s = 0.0

    def _lock(self) -> None:
        try:
            _lock(self._fd)
        except OSError as error:
            if error.errno in _TAKEN:
                raise _busy(self._folder, os.pread(self._fd, 64, 0).decode(errors="replace").strip()) from error
            raise
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{self._pid}\n".encode(), 0)

    def check(self) -> None:
        """Raise unless this process may write.

        Raises:
            JournalBusyError: This is a forked child, or other code has removed or closed the lock file.
            NotAttachedError: The journal has been closed.
        """
        self.check_open()
        self.check_not_lost()

    def check_lately(self) -> None:
        """Like ``check``, but do not look at the lock file if it was there less than a millisecond ago.

        No look is safe for long: another process may take the lock before the next write. A write that comes too late
        is therefore not acknowledged, for which the caller looks at the file once more after it.
        """
        self.check_open()
        if time.monotonic() - self._seen_s > _LATELY_S:
            self.check_not_lost()

    def check_not_lost(self) -> None:
        """Raise if the lock was lost; do nothing if it was released.

        Raises:
            JournalBusyError: Other code has removed or closed the lock file.
        """
        if self.is_lost:
            message = (
                f"the lock of the journal {self._folder} is lost: {LOCK_NAME} was removed, or closed by other "
                "code of this process, so another process may own it by now; stop the stream and start it again"
            )
            raise JournalBusyError(message)

    def check_open(self) -> None:
        """Like ``check``, but do not look at the lock file."""
        if not self._held:
            raise self.closed()
        self.check_process()

    def closed(self) -> NotAttachedError:
        """The error of those who use a closed journal."""
        return NotAttachedError(f"the journal {self._folder} has been closed; stop the stream and start it again")

    def check_process(self) -> None:
        """Raise in a forked child.

        Raises:
            JournalBusyError: This is a forked child.
        """
        check_process(self._folder, self._pid)

    @property
    def is_lost(self) -> bool:
        """Whether the lock was taken and has been lost since."""
        return self._held and _descriptors.pid == self._pid and not self._is_there()

    @property
    def is_held(self) -> bool:
        """Whether the lock has not been released."""
        return self._held

    def release(self) -> None:
        """Release the lock; a forked child leaves it alone."""
        if os.getpid() == self._pid and self._held:
            self._held = False
            with _descriptors.opening:
                _descriptors.held.discard(self._fd)
                if self._has_descriptor():
                    os.close(self._fd)

    def _is_there(self) -> bool:
        """Whether the file is still the one that another process would lock."""
        try:
            found = os.fstat(self._fd)
        except OSError:
            return False
        is_there = found.st_nlink > 0 and (found.st_dev, found.st_ino) == self._file
        if is_there:
            self._seen_s = time.monotonic()
        return is_there

    def _has_descriptor(self) -> bool:
        """Whether the descriptor is still ours: other code may have closed it, and its number may be reused."""
        try:
            return _identify(os.fstat(self._fd)) == self._file
        except OSError:
            return False


def check_process(journal: Path | str, owner: int) -> None:
    """Raise if another process opened the journal, given by its folder or name; takes no lock.

    Raises:
        JournalBusyError: This is a forked child.
    """
    if _descriptors.pid != owner:
        message = (
            f"the journal {journal} belongs to process {owner}, which forked this one; "
            "make and start streams in the process that puts into them"
        )
        raise JournalBusyError(message)


def is_owned(folder: Path) -> bool:
    """Whether a living process owns a journal; takes no lock."""
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _is_locked(fd)
    finally:
        os.close(fd)


def check_free(folder: Path) -> None:
    """Raise if a living process owns a journal; takes no lock.

    Raises:
        JournalBusyError: One does.
    """
    if is_owned(folder):
        raise _busy(folder, (folder / LOCK_NAME).read_text(errors="replace").strip())


def _identify(found: os.stat_result) -> _File:
    return found.st_dev, found.st_ino


def _busy(folder: Path, holder: str) -> JournalBusyError:
    return JournalBusyError(
        f"the journal {folder} belongs to a running process (pid {holder or 'unknown'}); "
        "stop that process, or give this one another home"
    )


def _lock(fd: int) -> None:
    if sys.platform == "linux":
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_locked(fd: int) -> bool:
    if sys.platform != "linux":
        return _pid_is_alive(os.pread(fd, 64, 0))
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question))
    return bool(answer[0] != fcntl.F_UNLCK)


def _pid_is_alive(text: bytes) -> bool:
    try:
        os.kill(int(text), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
