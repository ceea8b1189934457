"""Bugs to plant in a child: each takes one thing away that exactly once rests on. Never part of the product."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from api2db import interrupts
from api2db.delivery import _batches, _prefetch
from api2db.journal import Position
from api2db.journal._reader import SegmentedReader
from api2db.journal._segment import SegmentWriter
from api2db.objects import ObjectFolder
from api2db.shards.manifest import Manifest
from api2db.store import _steps
from api2db.store._round import Round
from api2db.targets.sql import SqlTarget
from api2db.targets.sql._ledger import Ledger


def take_away(what: str) -> None:
    """Plant one bug; nothing for an empty name."""
    if what:
        BUGS[what]()


def _ledger() -> None:
    """Rows are committed alone; after a restart the journal's own position must do."""
    replace(SqlTarget, "read_position", lambda target, stream: None)
    replace(Ledger, "step", lambda ledger, session, claim: None)


def _fsync() -> None:
    """A put is acknowledged once the kernel has it."""
    replace(SegmentWriter, "sync", lambda writer: None)


def _plan() -> None:
    """Nothing says what a load was about to do."""
    real = SegmentedReader.save

    def keep(log: SegmentedReader, kind: Any, note: Any) -> None:
        if kind != "plan":
            real(log, kind, note)

    replace(SegmentedReader, "save", keep)


def _epoch() -> None:
    """Whoever wrote the ledger, it is believed."""
    replace(SegmentedReader, "knows_epoch", lambda log, epoch: True)


def _store_manifest() -> None:
    """A round does not see what an earlier one was about to do."""
    replace(_steps, "read_manifest", lambda folder: None)


def _store_position() -> None:
    """A round does not see how far an earlier one has come within its manifest."""
    real: Callable[[Path, Manifest], Round] = vars(_steps)["round_of"]

    def decoded(folder: Path, manifest: Manifest) -> Round:
        return dataclasses.replace(real(folder, manifest), position=Position(0))

    replace(_steps, "round_of", decoded)


def _announcement() -> None:
    """Nobody is told which shards are being published."""
    replace(ObjectFolder, "begin", lambda folder, plan, names: None)


def replace(owner: Any, name: str, by: Callable[..., Any]) -> None:
    """Put something else in the place of what is there."""
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, by)


BUGS: Mapping[str, Callable[[], None]] = {
    "ledger": _ledger,
    "fsync": _fsync,
    "plan": _plan,
    "epoch": _epoch,
    "store manifest": _store_manifest,
    "store position": _store_position,
    "announcement": _announcement,
}


def begin_early() -> None:
    """Have loads of any size begin ahead of their turn."""
    vars(_batches)["_LEAST_BEGUN_BYTES"] = vars(_prefetch)["_LEAST_BYTES"] = 1


def make_all_calls_here() -> None:
    """Have the main thread make its journal's calls itself: strace follows one thread only."""
    vars(interrupts._threads)["make"] = lambda function: function()
