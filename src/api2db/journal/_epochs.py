"""The opens of a journal: a rising counter and a random epoch for each."""

import errno
import os
import secrets
import zlib
from pathlib import Path

from api2db.disk.atomic import sync_folder

EPOCHS_NAME = "epochs"


def read_epochs(folder: Path) -> dict[str, int]:
    """Return epochs and their counters from the intact lines of the file."""
    path = folder / EPOCHS_NAME
    lines = path.read_bytes().splitlines() if path.exists() else []
    return dict(entry for line in lines if (entry := _entry(line)))


def add_epoch(folder: Path, at_least: int) -> tuple[int, str, dict[str, int]]:
    """Record an open; durable on return.

    Args:
        folder: The journal's folder.
        at_least: The highest counter seen elsewhere.

    Returns:
        The new counter, the new epoch, and all opens so far.
    """
    known_epochs = read_epochs(folder)
    counter = max([at_least, *known_epochs.values()]) + 1
    epoch = secrets.token_hex(8)
    text = f"{counter} {epoch}"
    fd = os.open(folder / EPOCHS_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        line = f"\n{text} {zlib.crc32(text.encode()):08x}\n".encode()
        if os.write(fd, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / EPOCHS_NAME))
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(folder)
    return counter, epoch, {**known_epochs, epoch: counter}


def _entry(line: bytes) -> tuple[str, int] | None:
    text, _, checksum = line.rpartition(b" ")
    counter, _, epoch = text.partition(b" ")
    if not epoch or checksum != f"{zlib.crc32(text):08x}".encode() or not counter.isdigit():
        return None
    return epoch.decode(), int(counter)
