"""Disk space held in reserve, so that essential writes succeed on a full disk."""

from contextlib import suppress
from pathlib import Path

from api2db.disk.atomic import replacing

_NAME = "reserve"
_RESERVE_BYTES = (128 << 10, 64 << 10)


def hold_reserve(folder: Path) -> None:
    """Reserve the space, or half of it."""
    path = folder / _NAME
    held_bytes = path.stat().st_size if path.exists() else 0
    for size_bytes in _RESERVE_BYTES:
        if held_bytes >= size_bytes:
            return
        with suppress(OSError):
            with replacing(path) as file:
                file.write(b"\0" * size_bytes)
            return


def release_reserve(folder: Path) -> None:
    """Release the reserve for an essential write."""
    with suppress(OSError):
        (folder / _NAME).unlink(missing_ok=True)
