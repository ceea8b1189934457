"""The journals of a project on this machine's disk, each opened once in a process and shared by its streams."""

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api2db.disk.atomic import is_temporary, read_json, write_json
from api2db.errors import ConfigurationError
from api2db.interrupts import uninterrupted
from api2db.journal._aside import read_rejected_on_disk, rejected_on_disk
from api2db.journal._control import ask
from api2db.journal._lock import check_free, is_owned
from api2db.journal._overview import details, journal_folder, journals_in, published
from api2db.journal._recovery import recovery_of
from api2db.journal.port import Durability, JournalOverview, JournalStore, RejectedFile, StreamOverview

if TYPE_CHECKING:  # Whoever only looks does not import what writes.
    from api2db.journal._housekeeping import House
    from api2db.journal._journal import SegmentedJournal

_FIGURES_NAME = "collector.json"


@dataclass(slots=True)
class _Shared:
    journal: "SegmentedJournal"
    house: "House"
    users: int = 0

    def leave(self) -> None:
        from api2db.journal._housekeeping import housekeeper

        housekeeper().leave(self.house)

    def close(self) -> None:
        self.leave()
        self.journal.close()


class _Registry:
    """The open journals of this process; a forked child has none of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: dict[tuple[int, Path, str], _Shared] = {}

    def after_fork(self) -> None:
        """Another thread may have held the lock when the process was forked."""
        self.lock = threading.Lock()


_registry = _Registry()
os.register_at_fork(after_in_child=_registry.after_fork)


class _Handle:
    def __init__(self, shared: _Shared, key: tuple[int, Path, str]) -> None:
        self.journal = shared.journal
        self._shared = shared
        self._key: tuple[int, Path, str] | None = key

    def release(self) -> None:
        if self._key is not None and self._key[0] == os.getpid():
            self._release()

    @uninterrupted
    def _release(self) -> None:
        with _registry.lock:
            key, self._key = self._key, None
            if key is None:
                return
            self._shared.users -= 1
            if not self._shared.users:
                if _registry.open[key] is self._shared:
                    del _registry.open[key]
                self._shared.close()


class DiskJournalStore:
    """See ``JournalStore`` in ``port``.

    Args:
        home: The project's folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def open(self, name: str, durability: Durability = "full") -> "_Handle":
        return open_shared(self._home, name, durability)

    def names(self) -> list[str]:
        return names_on_disk(self._home)

    def check_free(self, name: str) -> None:
        check_free(journal_folder(self._home, name))

    def overview(self, name: str) -> JournalOverview:
        folder = journal_folder(self._home, name)
        recovering = recovery_of(folder) if is_owned(folder) else None
        if recovering is not None:
            return JournalOverview(running=True, recovering=recovering)
        try:
            streams, error = tuple(overview(folder)) if folder.exists() else (), None
        except (sqlite3.DatabaseError, OSError) as problem:
            streams, error = (), f"its journal can't be read: {problem}"
        damaged = folder / "damaged"
        count = sum(not is_temporary(path) for path in damaged.iterdir()) if damaged.exists() else 0
        return JournalOverview(is_owned(folder), streams, error, count, str(damaged.relative_to(self._home)))

    def details(self, name: str) -> dict[str, dict[str, Any]]:
        return details(journal_folder(self._home, name))

    def request(self, name: str, verb: str, arguments: Mapping[str, Any]) -> Any:
        return ask(journal_folder(self._home, name), verb, arguments)

    def rejected_files(self) -> list[RejectedFile]:
        return rejected_on_disk(self._home)

    def read_rejected(self, file: str) -> bytes | None:
        return read_rejected_on_disk(self._home, file)

    def publish(self, name: str, figures: Mapping[str, Any]) -> None:
        write_json(journal_folder(self._home, name) / _FIGURES_NAME, figures)

    def published(self, name: str) -> dict[str, Any] | None:
        return read_json(journal_folder(self._home, name) / _FIGURES_NAME)


def overview(folder: Path) -> list[StreamOverview]:
    """Return the streams of a journal: as its owner published them if one lives, else counted from the files."""
    if is_owned(folder) and (streams := published(folder)) is not None:
        return streams
    from api2db.journal._counting import counted  # only now: it imports numpy

    return counted(folder)


@uninterrupted
def open_shared(home: Path, name: str, durability: Durability = "full") -> _Handle:
    """The journal of a collector, opened by the first who asks in this process.

    Raises:
        ConfigurationError: It is open with another durability.
        JournalBusyError: Another process owns it.
        JournalError: A disk error stands in the way, or a newer version has written here.
    """
    key = (os.getpid(), home.resolve(), name)
    with _registry.lock:
        shared = _registry.open.get(key)
        if shared is not None and not shared.journal.core.lock.is_held:
            # An unexpected error has closed it. Its users still have to release their handles.
            shared.leave()
            shared = None
        if shared is None:
            shared = _registry.open[key] = _open(key[1], name, durability)
        elif shared.journal.core.durability != durability:
            message = (
                f"the journal of {name} is open with durability={shared.journal.core.durability!r}; "
                "give all streams of one collector the same"
            )
            raise ConfigurationError(message)
        shared.users += 1
        return _Handle(shared, key)


def _open(home: Path, name: str, durability: Durability) -> _Shared:
    from api2db.journal._housekeeping import housekeeper
    from api2db.journal._journal import SegmentedJournal

    journal = SegmentedJournal(home, name, durability)
    try:
        return _Shared(journal, housekeeper().look_after(journal.core))
    except BaseException:
        journal.close()
        raise


def names_on_disk(home: Path) -> list[str]:
    """The collectors that have a journal on this disk, or had one that was moved, sorted."""
    return [folder.name for folder in journals_in(home)]


new_store: Callable[[Path], JournalStore] = DiskJournalStore


def use_store(store: Callable[[Path], JournalStore]) -> None:
    """Have ``journal_store`` return another kind from now on, in this process."""
    global new_store  # noqa: PLW0603 - the one place that chooses the kind
    new_store = store


def journal_store(home: Path) -> JournalStore:
    """The journals of a project; ``new_store`` says of which kind they are."""
    return new_store(home)
