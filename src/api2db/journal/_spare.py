"""A little space that is held back, so that on a full disk what matters can still be said."""

from contextlib import suppress
from pathlib import Path

from api2db.formats.atomic import replacing

_NAME = "spare"
_SPARE_BYTES = 128 << 10


def hold_spare(folder: Path) -> None:
    """Hold the space, if there is any."""
    path = folder / _NAME
    if path.exists() and path.stat().st_size == _SPARE_BYTES:
        return
    with suppress(OSError), replacing(path) as file:
        file.write(b"\0" * _SPARE_BYTES)


def give_spare(folder: Path) -> None:
    """Let it go, for as long as it takes to say what matters."""
    with suppress(OSError):
        (folder / _NAME).unlink(missing_ok=True)
