"""The steps of one round of a store, and the end of an interrupted one; the package's docstring describes them."""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import ConfigurationError, DataError
from api2db.formats import Format
from api2db.frames import duplicate_rows
from api2db.journal import Delivered
from api2db.objects import is_stand_in
from api2db.shards.compose import check_folders, clear_away, finish_composing
from api2db.shards.composed import Composed
from api2db.shards.manifest import MANIFEST_NAME, Manifest, discarded_on_failure, finish, read_manifest
from api2db.shards.moving import check_they_can_go
from api2db.shards.shards import NOWHERE, Elsewhere, Shards, join_shards, locked, owner_of, shards_in, shards_of
from api2db.store._loading import Load
from api2db.store._reader import ManifestReader, ShardRows
from api2db.store._round import Round, round_of, saved
from api2db.store.rejected import without_reasons

logger = logging.getLogger(__name__)
_FIRST_NS, _LAST_NS = 10**18, 2**63 - 1
"""The years 2001 to 2262. Other numbers are no times: people who name shards by hand count from one."""


class Written(NamedTuple):
    """Composed files that are durable under their temporary names.

    Attributes:
        duplicates: The number of rows dropped before they were written.
    """

    files: Sequence[Composed]
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a store does with the shards of its folder.

    Attributes:
        store: The store's name, which names its target.
        folder: The folder of the shards, or the one that stands for it.
        fmt: The format of the shards.
        excluded: The columns that are ignored when rows are compared.
        shards_to: The folder to move shards to; None to delete them.
        composed_to: The folder of composed files; None for none.
        write: Writes composed files under temporary names; it may drop rows.
        load: Loads the rows; None if only composed files are wanted.
        stored: Called before a finished manifest is removed; called again after a crash at that point.
        elsewhere: Those of the folders that are in object stores.
    """

    store: str
    folder: Path
    fmt: Format
    excluded: tuple[str, ...]
    shards_to: Path | None
    composed_to: Path | None
    write: Callable[[Shards], Written]
    load: Load | None
    stored: Callable[[Round], None]
    elsewhere: Elsewhere = field(default_factory=lambda: NOWHERE)


def store_round(rules: Rules) -> int:
    """Finish an interrupted round, then take the shards that are there now.

    Returns:
        How many shards could not be read; they stay.

    Raises:
        ConfigurationError: The folders can't be used together, or another store's round was interrupted here.
        DataError: A shard that a manifest names is gone or damaged; nothing was deleted.
        FolderBusyError: Another process or thread composes or stores this folder.
        TargetUnavailableError: Not all rows could be loaded; nothing was deleted.
        OSError: A folder or the disk refuses; nothing was deleted that is not loaded.
    """
    _reach(rules)
    if not rules.folder.exists():
        return 0
    with locked(rules.folder):
        _check_folders(rules)
        pending = read_manifest(rules.folder)
        if pending is not None and pending.store is None:
            _, problems = finish_composing(rules.folder, pending)
            _raise_first(problems)
        elif pending is not None:
            _finish(rules, _checked(round_of(rules.folder, pending), rules), None)
        clear_away(rules.folder, rules.shards_to, rules.composed_to)
        if rules.composed_to is not None and rules.composed_to in rules.elsewhere:
            rules.elsewhere[rules.composed_to].sweep(owner_of(rules.folder))
        source = rules.elsewhere.get(rules.folder)
        paths = shards_of(rules.folder, rules.fmt) if source is None else shards_in(source, rules.fmt)
        shards = _read(rules, paths, rules.fmt)
        for problem in shards.problems:
            logger.error("%s: a shard stays where it is: %s", rules.store, problem)
        if shards.paths:
            _finish(rules, _begin(rules, shards), shards)
    return len(shards.problems)


def without_repeats(shards: Shards, excluded: Sequence[str]) -> int:
    """Drop rows that repeat an earlier row of these shards, ignoring some columns; return how many."""
    keys = [name for name in shards.schema.names if name not in excluded] if shards.schema is not None else []
    if not keys:
        return 0
    repeated = duplicate_rows(shards.table, keys)
    dropped, start = int(pc.sum(repeated).as_py() or 0), 0
    for place, batch in enumerate(shards.batches):
        repeats = repeated.slice(start, batch.num_rows)
        start += batch.num_rows
        if dropped and pc.any(repeats).as_py():
            shards.batches[place] = batch.filter(pc.invert(repeats))
    return dropped


def _reach(rules: Rules) -> None:
    """Reach the object stores; a folder of shards there is for one project's stores."""
    for folder in rules.elsewhere.values():
        folder.reach()
    if rules.folder in rules.elsewhere:
        rules.elsewhere[rules.folder].claim()


def _check_folders(rules: Rules) -> None:
    check_folders(rules.folder, rules.shards_to, rules.composed_to, make_missing=True)
    if rules.composed_to is not None and rules.composed_to.samefile(rules.folder):
        raise ConfigurationError(
            f"composed files in {rules.folder} would be shards again; give move_composed_path another folder"
        )


def _checked(pending: Round, rules: Rules) -> Round:
    if pending.owner != rules.store:
        raise ConfigurationError(
            f"{rules.folder / MANIFEST_NAME} was left by {pending.owner}, not by {rules.store}: run that store again "
            "so that it can finish, or remove the file if none of its rows were loaded"
        )
    return pending


def _read(rules: Rules, paths: Sequence[Path], fmt: Format, types: pa.Schema | None = None) -> Shards:
    return join_shards(paths, fmt, without_reasons, types, rules.elsewhere.get(rules.folder))


def _begin(rules: Rules, shards: Shards) -> Round:
    taken = shards.taken
    check_they_can_go(rules.folder, taken, rules.shards_to, rules.elsewhere)
    written = rules.write(shards)
    rows = sum(batch.num_rows for batch in shards.batches)
    shards_to = None if rules.shards_to is None else rules.shards_to.absolute()
    begun = Round(
        manifest=Manifest(taken, tuple(written.files), shards_to),
        id=f"store-{secrets.token_hex(16)}",
        owner=rules.store,
        fmt=rules.fmt,
        excluded=rules.excluded,
        types=shards.types,
        loaded=rules.load is None,
        delivered=Delivered() if rules.load else Delivered(len(taken), rows, duplicates=written.duplicates),
    )
    with discarded_on_failure(rules.folder, written.files):
        return saved(rules.folder, begun)


def _finish(rules: Rules, begun: Round, shards: Shards | None) -> None:
    """Finish the remaining steps of a round; its shards are read again unless they are given."""
    if not begun.loaded and rules.load is not None:
        begun = _load(rules, begun, shards or _again(rules, begun), rules.load)
    _raise_first(finish(rules.folder, begun.manifest, lambda: rules.stored(begun), rules.elsewhere))


def _load(rules: Rules, begun: Round, shards: Shards, load: Load) -> Round:
    repeats = without_repeats(shards, begun.excluded)
    named = zip(shards.paths, shards.batches, shards.cleaned, strict=True)
    rows = [ShardRows(_timestamp_ns(path), batch, retried) for path, batch, retried in named]
    reader = ManifestReader(rules.folder, begun, rows, shards.schema)
    load(reader)
    delivered = replace(reader.delivered, duplicates=reader.delivered.duplicates + repeats)
    return saved(rules.folder, replace(reader.round, loaded=True, checkpoints={}, delivered=delivered))


def _again(rules: Rules, begun: Round) -> Shards:
    folder, named = rules.folder, begun.manifest.shards
    shards = _read(rules, [folder / shard.name for shard in named], begun.fmt, begun.types)
    place = rules.elsewhere.get(folder, folder)
    wrong = [str(problem) for problem in shards.problems] or [
        f"{place}/{shard.name} is another file than it was"
        for shard, found in zip(named, shards.taken, strict=True)
        if shard != found
    ]
    if wrong:
        raise DataError(
            f"{wrong[0]}; a round was interrupted while it loaded this shard, perhaps in part: restore the file "
            f"with its time; or, if its rows are lost, remove {folder / MANIFEST_NAME} and check the rows of the target"
        )
    return shards


def _timestamp_ns(path: Path) -> int:
    """Return the time in the name that Stream2Local gave; for other shards, the time when the file was written."""
    named_ns = int(path.stem) if path.stem.isdecimal() else 0
    if _FIRST_NS <= named_ns <= _LAST_NS:
        return named_ns
    return _FIRST_NS if is_stand_in(path) else path.stat().st_mtime_ns


def _raise_first(problems: Sequence[Exception]) -> None:
    if problems:
        raise problems[0]
