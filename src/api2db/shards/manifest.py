"""The manifest of shards: one file in their folder that says what a call of ``compose`` or a store does with them.

It is written before any shard is removed, and deleted last. ``finish`` is the common end of both. Each step is durable
before the next:

1. Publish the composed files under their final names, and mark the manifest.
2. Delete or move the shards.
3. Delete the manifest.

A manifest that is marked means that the composed files hold the shards' rows: what is left of the shards is deleted or
moved, never read. If it is not marked, a composed file whose temporary name is gone has been published if its final
name has its size and time; otherwise a person must decide, and nothing is changed.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from api2db.disk.atomic import is_temporary, replacing, sync_folder
from api2db.disk.file_folder import Stamp
from api2db.errors import ConfigurationError
from api2db.shards.composed import Composed, end_publication, publish_composed
from api2db.shards.moving import put_away
from api2db.shards.shards import NOWHERE, Elsewhere, Shard

MANIFEST_NAME = ".api2db_manifest.json"
_VERSION = 4
# The manifests of the versions before 4, which had one file for composers and one for stores.
_EARLIER_NAMES = (".api2db_compose.json", ".api2db_store.json")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The shards that a call of ``compose`` or a round of a store takes, and what becomes of them.

    Attributes:
        shards: The shards, in the order of their names.
        files: The composed files that hold their rows; they are durable under temporary names.
        shards_to: The folder to move the shards to; None to delete them.
        published: Whether the composed files have their final names.
        store: What a store keeps in its manifest, as JSON; None for a call of ``compose``.
    """

    shards: tuple[Shard, ...]
    files: tuple[Composed, ...]
    shards_to: Path | None
    published: bool = False
    store: Mapping[str, Any] | None = None


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of an interrupted call or round; None if there is none.

    Raises:
        ConfigurationError: It is damaged, or was written by another version of api2db.
    """
    for name in _EARLIER_NAMES:
        if (folder / name).exists():
            raise _of_another_version(folder / name)
    path = folder / MANIFEST_NAME
    try:
        content = json.loads(path.read_bytes())
        if content["version"] == _VERSION:
            return _decoded(content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(folder, error) from error
    raise _of_another_version(path)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, durably, in place of the previous one."""
    content = {
        "version": _VERSION,
        "shards": [[shard.name, *shard.stamp] for shard in manifest.shards],
        "files": [[str(file.temporary), str(file.final), *file.stamp] for file in manifest.files],
        "shards_to": None if manifest.shards_to is None else str(manifest.shards_to),
        "published": manifest.published,
        "store": manifest.store,
    }
    with replacing(folder / MANIFEST_NAME) as file:
        file.write(json.dumps(content).encode())


def drop_manifest(folder: Path) -> None:
    """Remove the manifest, durably, if there is one."""
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    sync_folder(folder)


@contextmanager
def discarded_on_failure(folder: Path, files: Sequence[Composed]) -> Iterator[None]:
    """If the block raises, remove the manifest that it may have written, and then the composed files."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            drop_manifest(folder)  # Durably first: a manifest without its files would name rows that do not exist.
            for file in files:
                file.temporary.unlink(missing_ok=True)
        raise


def finish(
    folder: Path,
    manifest: Manifest,
    before_drop: Callable[[], None] = lambda: None,
    elsewhere: Elsewhere = NOWHERE,
) -> list[Exception]:
    """Publish the composed files, delete or move the shards, and drop the manifest.

    Args:
        folder: The folder of the shards; the caller holds its lock.
        manifest: The manifest, whose rows are all in the composed files or in a store's target.
        before_drop: Called before the manifest is dropped; it is called again after a crash at that point.
        elsewhere: The folders that are in object stores.

    Returns:
        One error for each shard that could not be deleted or moved. If there is any, the manifest stays, and the next
        call continues.

    Raises:
        DataError: A composed file is gone; a person must decide.
        FileExistsError: The final name of a composed file is taken.
    """
    if manifest.files and not manifest.published:
        publish_composed(manifest.files, folder / MANIFEST_NAME, elsewhere)
        write_manifest(folder, replace(manifest, published=True))
    end_publication(manifest.files, elsewhere)
    problems = put_away(folder, manifest.shards, manifest.shards_to, elsewhere)
    if not problems:
        before_drop()
        drop_manifest(folder)
    return problems


def damaged(folder: Path, error: Exception) -> ConfigurationError:
    """The error for a manifest that can't be decoded."""
    return ConfigurationError(
        f"{folder / MANIFEST_NAME} is damaged: {error!r}; check which of the shards beside it are in a composed file "
        "or in the target of a store, move those away, then remove the file"
    )


def _of_another_version(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} was left by another version of api2db, which was interrupted while it composed or stored these "
        "shards: run that version again, so that it can finish; or check which of their rows are composed or loaded, "
        "move those shards away, and remove the file"
    )


def _decoded(content: Mapping[str, Any]) -> Manifest:
    shards = tuple(Shard(str(name), Stamp(*map(int, stamp))) for name, *stamp in content["shards"])
    files = tuple(
        Composed(Path(temporary), Path(final), Stamp(*stamp)) for temporary, final, *stamp in content["files"]
    )
    if any(Path(shard.name).name != shard.name for shard in shards):
        raise ValueError("it names shards in another folder")
    if not all(is_temporary(file.temporary) for file in files):
        raise ValueError("it names files that api2db has not written")
    shards_to, store = content["shards_to"], content["store"]
    if store is None and len(files) != 1:
        raise ValueError("it does not name one composed file")
    return Manifest(
        shards,
        files,
        None if shards_to is None else Path(shards_to),
        bool(content["published"]),
        None if store is None else dict(store),
    )
