"""A store's figures: a small file in the project, for ``status()`` and ``api2db status``."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from api2db.disk.atomic import make_folders, replacing
from api2db.disk.folders import check_name
from api2db.disk.leftovers import sweep
from api2db.shards.shards import locked


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """A store at one moment; sums are since its first round in this home.

    Attributes:
        store: Its target and its folder; never a secret.
        folder: Where its shards are.
        fmt: Their format.
        seconds: The time between two rounds.
        stored_at: When the last round ended that went well, seconds since 1970.
        shards: Composed, loaded and put away.
        rows: Loaded, or in composed files.
        duplicates: Rows dropped because they repeat another of the same round.
        rejected: Rows that the target refused, set aside with the reason; those that were put again count too.
        unreadable: Shards that the last round could not read, and left.
        last_error: Why the last round failed; None where it went well.
        error_at: When that was.
        last_round: The id of the manifest that was counted last.
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
        """Whether its last round succeeded. Rejected rows are found by their files."""
        return not (self.last_error or self.unreadable)


def change_figures(home: Path, first: StoreFigures, change: Callable[[StoreFigures], StoreFigures | None]) -> None:
    """Change the figures, durably; a reader sees the old or the new ones, whole.

    A round that finds its folder busy writes while the round that holds the folder does. They take turns, so that
    neither overwrites the other's change.

    Args:
        home: The project's folder.
        first: The figures of a store that has none yet.
        change: Returns the new figures; None to leave them as they are.
    """
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
