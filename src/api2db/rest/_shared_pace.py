"""The pace of a host in files, which all processes of one user on this machine share.

    <temporary folder>/api2db-<user id>/<host>             how long the host has asked to pause
                                       /<host>-<rate>      the calls of one rate

The folder belongs to the user, and nobody else may use it. A process locks the host's file while it reads or changes
any of them, which takes some microseconds; it never waits for a call or sleeps meanwhile. Nobody waits for the lock
itself, since the process that has it may be stopped: BlockingIOError says that it is locked.

The file of a rate has a slot for each process, with the number of its calls that are under way, and a ring of the times
when the last calls ended. A process keeps a byte of the file locked as long as it lives, one for its slot. The kernel
frees this lock however the process ends; others then see that its calls are over.

Times are those of the monotonic clock, which all processes share. Times of another boot, or in the future, don't count.
"""

import fcntl
import os
import stat
import struct
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from api2db.rest._arguments import Rate

_LONGEST_PAUSE_S: Final = 86_400.0
"""A longer pause holds for the process that was asked for it only, so that a restart ends it."""

_SLOTS: Final = 500
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PAUSE: Final = struct.Struct("=16sd")
_HEAD: Final = struct.Struct("=16sIII")
_SLOT: Final = struct.Struct("=I")
_TIME: Final = struct.Struct("=d")
_TIMES_AT: Final = _HEAD.size + _SLOTS * _SLOT.size


class SharedPace:
    """The pause and the windows of a host. Every method raises OSError if the files can't be used.

    The other methods are called inside ``locked``, by one thread at a time.

    Args:
        host: The name of the host; any text.
    """

    def __init__(self, host: str) -> None:
        self._name = blake2b(host.encode(), digest_size=12).hexdigest()
        self._file: _File | None = None
        self._boot = b""
        self._windows: dict[Rate, SharedWindow] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes out during the block.

        Raises:
            BlockingIOError: Another process has the files locked.
        """
        file = self._locked_file()
        try:
            yield
        finally:
            file.unlock()

    def window(self, rate: Rate) -> "SharedWindow":
        """Return the window of a rate."""
        window = self._windows.get(rate)
        if window is None or window.is_gone:
            path = shared_folder() / f"{self._name}-{rate.calls}-{rate.period_s:g}"
            window = self._windows[rate] = SharedWindow(path, rate, self._boot)
        return window

    def paused_until_s(self, now_s: float) -> float:
        """Return until when calls are paused, or a time before now."""
        found = b"" if self._file is None else self._file.read(_PAUSE.size, 0)
        boot, until_s = _PAUSE.unpack(found) if len(found) == _PAUSE.size else (b"", 0.0)
        return until_s if boot == self._boot and until_s <= now_s + _LONGEST_PAUSE_S else 0.0

    def pause(self, now_s: float, seconds: float) -> None:
        """Let no process begin a call for so long, but at most a day."""
        until_s = max(self.paused_until_s(now_s), now_s + min(seconds, _LONGEST_PAUSE_S))
        if self._file is not None:
            self._file.write(_PAUSE.pack(self._boot, until_s), 0)

    def close(self) -> None:
        """Close the files; calls that are under way count no more."""
        for window in self._windows.values():
            window.close()
        self._windows.clear()
        if self._file is not None:
            self._file.close()

    def _locked_file(self) -> "_File":
        while True:
            if self._file is None or self._file.is_closed:
                self._boot = _boot()
                self._file = _File(shared_folder() / self._name)
            self._file.lock()
            if not self._file.is_removed:
                return self._file
            self.close()  # somebody has removed it: other processes use a new one


class SharedWindow:
    """The calls that count for one rate; see ``Window``.

    Args:
        path: The file; created if it is missing.
        rate: The rate.
        boot: The id of this boot of the machine.

    Raises:
        OSError: The file can't be used.
    """

    def __init__(self, path: Path, rate: Rate, boot: bytes) -> None:
        self._rate = rate
        self._boot = boot
        self._file = _File(path)
        self._slot = -1
        try:
            self._slot = self._taken_slot()
        except BaseException:
            self._file.close()
            raise

    @property
    def is_gone(self) -> bool:
        """Whether other processes don't see this file, since it was removed or closed."""
        return self._file.is_closed or self._file.is_removed

    def free_in_s(self, now_s: float) -> float | None:
        calls, seen = self._rate.calls, self._read()
        first, count = seen.first, seen.count
        while seen.count and not self._is_recent(seen.first, now_s):
            seen.first, seen.count = (seen.first + 1) % calls, seen.count - 1
        if seen.under_way and seen.under_way + seen.count >= calls:
            self._end_calls_of_dead(seen, now_s)
        if (first, count) != (seen.first, seen.count):
            self._write(seen)
        if seen.under_way + seen.count < calls:
            return 0.0
        return self._time(seen.first) + self._rate.period_s - now_s if seen.count else None

    def begin(self) -> None:
        seen = self._read()
        seen.add(self._slot, 1)
        self._write(seen)

    def end(self, now_s: float) -> None:
        if self._file.is_closed:
            return
        seen = self._read()
        if seen.of(self._slot):
            seen.add(self._slot, -1)
            self._add_times(seen, 1, now_s)
            self._write(seen)

    def close(self) -> None:
        """Close the file, which frees the slot."""
        self._file.close()

    def _is_recent(self, place: int, now_s: float) -> bool:
        ended_s = self._time(place)
        return ended_s <= now_s < ended_s + self._rate.period_s

    def _read(self) -> "_Calls":
        found = self._file.read(_TIMES_AT, 0)
        if len(found) == _TIMES_AT:
            boot, first, count, under_way = _HEAD.unpack_from(found)
            if boot == self._boot and first < self._rate.calls and under_way + count <= self._rate.calls:
                return _Calls(first, count, under_way, bytearray(found[_HEAD.size :]))
        return _Calls(0, 0, 0, bytearray(_SLOTS * _SLOT.size))

    def _write(self, calls: "_Calls") -> None:
        """Write all in one call: a process that is killed leaves the old or the new content."""
        self._file.write(_HEAD.pack(self._boot, calls.first, calls.count, calls.under_way) + calls.slots, 0)

    def _time(self, place: int) -> float:
        found = self._file.read(_TIME.size, _TIMES_AT + place * _TIME.size)
        return float(_TIME.unpack(found)[0]) if len(found) == _TIME.size else 0.0

    def _add_times(self, calls: "_Calls", more: int, now_s: float) -> None:
        """Write times behind the last one; they count once the head says so."""
        for _ in range(more):
            place = (calls.first + calls.count) % self._rate.calls
            self._file.write(_TIME.pack(now_s), _TIMES_AT + place * _TIME.size)
            calls.count += 1

    def _end_calls_of_dead(self, calls: "_Calls", now_s: float) -> None:
        """Empty the slots of processes that no longer run; their calls count as ended now."""
        for slot in range(_SLOTS):
            left = calls.of(slot)
            if left and slot != self._slot and self._file.locks_byte(slot):
                self._file.unlock_byte(slot)
                calls.add(slot, -left)
                self._add_times(calls, left, now_s)

    def _taken_slot(self) -> int:
        calls = self._read()
        self._end_calls_of_dead(calls, time.monotonic())
        self._write(calls)
        for slot in range(_SLOTS):
            if not calls.of(slot) and self._file.locks_byte(slot):
                return slot
        raise OSError(f"more than {_SLOTS} processes call one host")


@dataclass(slots=True)
class _Calls:
    """The calls of a window, as they stand before the times in its file.

    Attributes:
        first: The place of the oldest time in the ring.
        count: How many times there are.
        under_way: The calls that have not ended.
        slots: These by process.
    """

    first: int
    count: int
    under_way: int
    slots: bytearray

    def of(self, slot: int) -> int:
        """Return how many calls of a slot are under way."""
        return int(_SLOT.unpack_from(self.slots, slot * _SLOT.size)[0])

    def add(self, slot: int, more: int) -> None:
        """Change the number of a slot's calls."""
        _SLOT.pack_into(self.slots, slot * _SLOT.size, self.of(slot) + more)
        self.under_way += more


class _File:
    """An open file of this process. A forked child finds it closed: it would keep its parent's locks."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        _open_files.add(self)

    @property
    def is_closed(self) -> bool:
        return self._fd < 0

    @property
    def is_removed(self) -> bool:
        return os.fstat(self._fd).st_nlink == 0

    def read(self, size_bytes: int, at: int) -> bytes:
        return os.pread(self._fd, size_bytes, at)

    def write(self, content: bytes, at: int) -> None:
        os.pwrite(self._fd, content, at)

    def lock(self) -> None:
        """Lock the file, or raise BlockingIOError if another process has it locked."""
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(self) -> None:
        if not self.is_closed:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def locks_byte(self, at: int) -> bool:
        """Lock a byte, unless another process has it locked; return whether this process has the lock."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock_byte(self, at: int) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, at)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_open_files: "weakref.WeakSet[_File]" = weakref.WeakSet()


def _close_all() -> None:
    for file in list(_open_files):
        file.close()


os.register_at_fork(after_in_child=_close_all)


def shared_folder() -> Path:
    """Return the folder of this user, and create it if it is missing.

    Raises:
        OSError: It can't be created, or others can use it, too.
    """
    folder = Path(tempfile.gettempdir()) / f"api2db-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user's alone (mode 0700)")
    return folder


def _boot() -> bytes:
    """Return the id of this boot, if the system has one."""
    try:
        return blake2b(_BOOT_ID.read_bytes(), digest_size=16).digest()
    except OSError:
        return bytes(16)
