"""The figures of a store: a small file in the project, for ``status()`` and ``api2db status``."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from api2db.disk.atomic import make_folders, replacing, sweep
from api2db.disk.folders import check_name


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """The figures of a store at one moment; sums are since its first round in this home.

    Attributes:
        store: The target and the folder; contains no secret.
        folder: The folder of the shards.
        fmt: The format of the shards.
        seconds: The time between two rounds.
        stored_at: When the last successful round ended, in seconds since 1970.
        shards: The number of shards composed or loaded, and removed.
        rows: The number of rows loaded, or in composed files.
        duplicates: The number of rows dropped because they repeat another row of the same round.
        rejected: The number of rows that the target refused and that were set aside with the reason; rows that were
            put again count too.
        unreadable: The number of shards that the last round could not read; they stay.
        last_error: Why the last round failed; None if it succeeded.
        error_at: When the last round failed, in seconds since 1970.
        last_round: The id of the round that was counted last.
    """

    collector: str
    store: str
    folder: str
    fmt: str
    seconds: float
    stored_at: float | None = None
    shards: int = 0
    rows: int = 0
    duplicates: int = 0
    rejected: int = 0
    unreadable: int = 0
    last_error: str | None = None
    error_at: float | None = None
    last_round: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether the last round succeeded. Rejected rows are seen by their files."""
        return not (self.last_error or self.unreadable)


def change_figures(home: Path, first: StoreFigures, change: Callable[[StoreFigures], StoreFigures | None]) -> None:
    """Change the figures, durably; a reader sees the old or the new ones, never a part.

    A round that finds its folder busy writes at the same time as the round that holds the folder. They take turns, so
    that neither overwrites the other's change.

    Args:
        home: The project's folder.
        first: The figures to start with if the store has none.
        change: Returns the new figures; None to leave them as they are.
    """
    from api2db.shards.shards import locked  # not for those who only read

    path = _place(home, first.collector, first.store)
    make_folders(path.parent)
    with locked(path.parent, waiting=True):
        changed = change(_read(path) or first)
        if changed is not None:
            sweep(path.parent, path.name)
            with replacing(path) as file:
                file.write(json.dumps(asdict(changed)).encode())


def read_figures(home: Path, collector: str, store: str) -> StoreFigures | None:
    """Return a store's figures, or None."""
    return _read(_place(home, collector, store))


def store_figures(home: Path) -> list[StoreFigures]:
    """Return the figures of all stores of a project, without writing or locking."""
    found = (_read(path) for path in sorted(_folder(home).glob("*/*.json")))
    return [figures for figures in found if figures is not None]


def _folder(home: Path) -> Path:
    return home / "STORE" / "stores"


def _place(home: Path, collector: str, store: str) -> Path:
    return _folder(home) / check_name(collector) / f"{hashlib.sha256(store.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> StoreFigures | None:
    try:
        return StoreFigures(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
