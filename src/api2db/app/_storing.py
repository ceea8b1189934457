"""The commands ``compose`` and ``store``."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from api2db.app._progress import progress_bar
from api2db.app._stopping import Stop, stopped_by_signals
from api2db.app.logs import log_to_console, log_to_file
from api2db.app.project import collector_in
from api2db.app.screen import ConsoleHandler
from api2db.errors import ConfigurationError, FormatError
from api2db.ingest.runner import resolved
from api2db.ingest.stores import StoreRounds
from api2db.shards.compose import compose
from api2db.shards.shards import Shards
from api2db.texts import counted, describe_error

_STOP_S = 8.0
_GLANCE_S = 1.0


def compose_folder(folder: Path, fmt: str, out: Path, shards_to: Path | None) -> bool:
    """Compose a folder and print the outcome; return False if a shard was left.

    Raises:
        Api2dbError: As ``compose`` does.
    """
    try:
        with progress_bar():
            composition = compose(folder, fmt, _rows, shards_to=shards_to, composed_to=out)
    except OSError as error:
        raise FormatError(f"composing the shards in {folder}: {error}; no row is lost") from error
    if composition.finished is not None:
        print(f"completed: {composition.finished}, from an interrupted call")
    if composition.composed is None:
        print(f"There are no {'other ' * bool(composition.finished)}{fmt} shards to compose in {folder}.")
    else:
        shards, rows = counted(len(composition.shards), "shard"), counted(composition.result or 0, "row")
        print(f"{shards}, {rows} → {composition.composed}")
    for problem in composition.problems:
        print(f"left where it is: {problem}")
    return not composition.problems


def run_stores(main_file: Path, home: Path, name: str, *, once: bool) -> bool:
    """Run the stores of one collector in this process; return False if a requested round failed or left a shard.

    Raises:
        ConfigurationError: There is no such collector, or it has no stores.
    """
    log_to_console(logging.INFO, ConsoleHandler(Console(stderr=True)))
    stores = _stores_of(main_file, name)
    if once:
        went_well = [_one_round(store) for store in stores]
        return all(went_well)
    log_to_file(home, "store")
    with stopped_by_signals(stop := Stop()):
        _run(name, stores, stop)
    return True


def _rows(shards: Shards) -> int:
    return sum(batch.num_rows for batch in shards.batches)


def _stores_of(main_file: Path, name: str) -> list[Any]:
    given = collector_in(main_file, name).stores
    stores = [] if given is None else resolved(name, "stores", given)
    if not stores:
        raise ConfigurationError(f"the collector {name} has no stores; give it some: Collector(…, stores=[…])")
    return stores


def _one_round(store: Any) -> bool:
    before = _done(store)
    try:
        with progress_bar():
            store.store()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - each store is given its round, whatever became of the others
        print(f"{store!r}: {describe_error(error)}")
        return False
    shards, rows, refused = (now - then for now, then in zip(_done(store), before, strict=True))
    unreadable: int = getattr(store, "unreadable", 0)
    left = f"; {counted(unreadable, 'shard')} left that can't be read" if unreadable else ""
    aside = f"; {counted(refused, 'row')} set aside: see api2db rejected list" if refused else ""
    print(f"{store!r}: {counted(shards, 'shard')}, {counted(rows, 'row')}{aside}{left}")
    return not unreadable


def _done(store: Any) -> tuple[int, int, int]:
    """Return the shards, rows and rejected rows so far, if the store counts them."""
    status = store.status() if hasattr(store, "status") else None
    told_of = ("frames_delivered", "rows_delivered", "rows_rejected")
    frames, rows, refused = (getattr(status, name, 0) for name in told_of)
    return frames, rows, refused


def _run(name: str, stores: Sequence[Any], stop: Stop) -> None:
    stopping = threading.Event()
    rounds = [StoreRounds(name, store, stopping, lambda: None) for store in stores]
    while not stop.wait(_GLANCE_S):
        pass
    stopping.set()
    for each in rounds:
        each.stop(_STOP_S)
