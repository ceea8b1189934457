"""Shards whose rows are safe elsewhere: deleted, or moved, also onto another file system."""

import errno
import filecmp
import shutil
from collections.abc import Iterable
from pathlib import Path

from api2db.formats.atomic import publish, sync_folder, write_temporary

__all__ = ["put_away"]


def put_away(shards: Iterable[Path], folder: Path, shards_to: Path | None) -> list[Exception]:
    """Delete shards, or move them into another folder without replacing what is there; durable when this returns.

    Returns:
        Why a shard could not be put away, one each; it stays where it is.
    """
    problems: list[Exception] = []
    for shard in shards:
        try:
            if shards_to is None:
                shard.unlink()
            else:
                _move(shard, shards_to / shard.name)
        except OSError as error:
            problems.append(error)
    for changed in (shards_to, folder):
        if changed is not None:
            sync_folder(changed)
    return problems


def _move(shard: Path, target: Path) -> None:
    try:
        publish(shard, target)
    except FileExistsError:
        if not filecmp.cmp(shard, target, shallow=False):
            raise
        # A crash came between the copy and this.
        sync_folder(target.parent)
        shard.unlink()
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(shard, target)
        shard.unlink()


def _copy(shard: Path, target: Path) -> None:
    with shard.open("rb") as source, write_temporary(target) as temporary:
        shutil.copyfileobj(source, temporary.file)
    publish(temporary.path, target)
    sync_folder(target.parent)
