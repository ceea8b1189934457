"""The steps of one round of a store, and how a round that was cut short is finished; the package tells them."""

import glob
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from api2db.errors import ConfigurationError, DataError
from api2db.formats import Format
from api2db.formats.atomic import is_temporary, make_folders, publish, sync_folder
from api2db.formats.compose import Composed, check_folders, finish_composing
from api2db.formats.putting_away import put_away
from api2db.formats.shards import Shards, join_shards, locked, shards_of
from api2db.frames import duplicate_rows
from api2db.journal import Delivered
from api2db.store._loading import Load
from api2db.store._log import ManifestLog, ShardRows
from api2db.store.manifest import STORE_MANIFEST, Manifest, drop_manifest, keep_manifest, read_manifest
from api2db.store.rejected import without_reasons

__all__ = ["Round", "Rules", "Written", "store_round", "without_repeats"]

_log = logging.getLogger(__name__)


class Written(NamedTuple):
    """Composed files that are durable under their temporary names.

    Attributes:
        duplicates: Rows that were dropped before that.
    """

    files: Sequence[Composed]
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a store does with the shards of its folder.

    Attributes:
        store: Whose they are; names the target.
        folder: Where the shards are.
        fmt: Their format.
        excluded: The columns that do not count when rows repeat.
        shards_to: The folder to move shards to; None to delete them.
        composed_to: The folder of composed files; None for none.
        write: Writes composed files under temporary names; it may drop rows.
        load: Loads the rows; None where the composed files are all that is wanted.
    """

    store: str
    folder: Path
    fmt: Format
    excluded: tuple[str, ...]
    shards_to: Path | None
    composed_to: Path | None
    write: Callable[[Shards], Written]
    load: Load | None


@dataclass(slots=True)
class Round:
    """What a round has done, sums over the manifests that it finished.

    Attributes:
        unreadable: Shards that could not be read, and stay.
    """

    shards: int = 0
    rows: int = 0
    duplicates: int = 0
    rejected: int = 0
    unreadable: int = 0


def store_round(rules: Rules, done: Round) -> None:
    """Finish what an earlier round has left, then take the shards that are there now.

    Args:
        rules: What is to be done.
        done: Told of each manifest that is finished, also where a later one is not.

    Raises:
        ConfigurationError: The folders can't be used together, or another store's round was cut short in this one.
        DataError: Shards have no common type, or one that a manifest names is gone or damaged; nothing was deleted.
        FolderBusyError: Somebody else composes or stores this folder.
        TargetUnavailableError: Not all rows could be loaded; nothing was deleted.
        OSError: A folder or the disk refuses; nothing was deleted that is not loaded.
    """
    if not rules.folder.exists():
        return
    with locked(rules.folder):
        _check_folders(rules)
        _raise_first(finish_composing(rules.folder))
        _sweep(rules.folder, STORE_MANIFEST)
        pending = read_manifest(rules.folder)
        if pending is not None:
            _finish(rules, _checked(pending, rules), None, done)
        shards = _read(shards_of(rules.folder, rules.fmt), rules.fmt)
        done.unreadable = len(shards.problems)
        for problem in shards.problems:
            _log.error("%s: a shard stays where it is: %s", rules.store, problem)
        if shards.paths:
            _finish(rules, _begin(rules, shards, done), shards, done)


def without_repeats(shards: Shards, excluded: Sequence[str]) -> int:
    """Drop the rows that repeat an earlier one of these shards, and say how many; some columns do not count."""
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


def _check_folders(rules: Rules) -> None:
    check_folders(rules.folder, (rules.shards_to, rules.composed_to), make_missing=True)
    if rules.composed_to is not None and rules.composed_to.samefile(rules.folder):
        raise ConfigurationError(
            f"composed files in {rules.folder} would be shards again; give move_composed_path another folder"
        )


def _checked(manifest: Manifest, rules: Rules) -> Manifest:
    if manifest.store != rules.store:
        raise ConfigurationError(
            f"{rules.folder / STORE_MANIFEST} was left by {manifest.store}, not by {rules.store}: run that store again "
            "so that it can finish, or remove the file if none of its rows were loaded"
        )
    return manifest


def _read(paths: Sequence[Path], fmt: Format) -> Shards:
    shards = join_shards(paths, fmt)
    without_reasons(shards)
    return shards


def _begin(rules: Rules, shards: Shards, done: Round) -> Manifest:
    if rules.composed_to is not None:
        _sweep(rules.composed_to, f"{shards.paths[0].stem}_")
    written = rules.write(shards)
    manifest = Manifest(
        id=f"store-{secrets.token_hex(16)}",
        store=rules.store,
        fmt=rules.fmt,
        shards=tuple(path.name for path in shards.paths),
        excluded=rules.excluded,
        files=tuple(written.files),
        shards_to=None if rules.shards_to is None else rules.shards_to.absolute(),
        loaded=rules.load is None,
    )
    keep_manifest(rules.folder, manifest)
    done.duplicates += written.duplicates
    if rules.load is None:
        done.rows += sum(batch.num_rows for batch in shards.batches)
    return manifest


def _finish(rules: Rules, manifest: Manifest, shards: Shards | None, done: Round) -> None:
    """What is left of a manifest's steps; its shards are read again where they are not at hand."""
    if not manifest.loaded and rules.load is not None:
        manifest = _load(rules, manifest, shards or _again(rules.folder, manifest), rules.load, done)
    _publish(manifest.files)
    left = [rules.folder / name for name in manifest.shards if (rules.folder / name).exists()]
    _raise_first(put_away(left, rules.folder, manifest.shards_to))
    drop_manifest(rules.folder)
    done.shards += len(manifest.shards)


def _load(rules: Rules, manifest: Manifest, shards: Shards, load: Load, done: Round) -> Manifest:
    repeats = without_repeats(shards, manifest.excluded)
    named = zip(shards.paths, shards.batches, strict=True)
    log = ManifestLog(rules.folder, manifest, [ShardRows(_timestamp_ns(path), batch) for path, batch in named])
    load(log)
    loaded = replace(log.manifest, loaded=True, notes={})
    keep_manifest(rules.folder, loaded)
    _count(done, log.delivered, repeats)
    return loaded


def _again(folder: Path, manifest: Manifest) -> Shards:
    shards = _read([folder / name for name in manifest.shards], manifest.fmt)
    if shards.problems:
        raise DataError(
            f"{shards.problems[0]}; it was being stored when that was cut short, perhaps in part: put it back as it "
            f"was; or, if its rows are lost, remove {folder / STORE_MANIFEST}, and look which rows the target has"
        ) from shards.problems[0]
    return shards


def _publish(files: Sequence[Composed]) -> None:
    for file in files:
        if file.temporary.exists():
            make_folders(file.final.parent)
            publish(file.temporary, file.final)
    for folder in sorted({place.parent for file in files for place in file}):
        if folder.exists():
            sync_folder(folder)


def _sweep(folder: Path, beginning: str) -> None:
    """Clear away the temporary files of a name that a crash has left before a manifest knew them."""
    for path in folder.glob(f".{glob.escape(beginning)}*"):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def _timestamp_ns(path: Path) -> int:
    """What Stream2Local has named a shard by; of another's shard, when it was written."""
    return int(path.stem) if path.stem.isdecimal() and len(path.stem) <= 19 else path.stat().st_mtime_ns


def _count(done: Round, delivered: Delivered, repeats: int) -> None:
    done.rows += delivered.rows
    done.rejected += delivered.rejected
    done.duplicates += delivered.duplicates + repeats


def _raise_first(problems: Sequence[Exception]) -> None:
    if problems:
        raise problems[0]
