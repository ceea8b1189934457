"""Upkeep of a table: small files are gathered into larger ones, and old snapshots are forgotten with their files."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from api2db.errors import TargetUnavailableError
from api2db.targets.iceberg._catalog import CommitConflictError
from api2db.targets.iceberg._table import Draft, Table
from api2db.texts import describe_error

logger = logging.getLogger(__name__)

_SMALL_BYTES: Final = 32 << 20
_GATHERED_BYTES: Final = 128 << 20
_MOST_ATTEMPTS = 20


def gather(table: Table) -> int:
    """Put small files of one partition together, by one commit for each new file; return how many were replaced.

    Raises:
        TargetUnavailableError: Somebody replaced rows in these files meanwhile.
    """
    replaced = 0
    for tasks in _groups(table.library_table.scan().plan_files()):
        rows = pa.concat_tables(held for _, held in table.read_by_file(tasks))
        old, new = [task.file for task in tasks], table.write(table.library_table.metadata, rows)
        table.commit(_replacement(old, new))
        replaced += len(old)
    return replaced


def expire(table: Table, hours: int, *, dry_run: bool) -> list[str]:
    """Forget snapshots of that age but for the newest, and delete the files that only they need; return them."""
    library_table = table.library_table
    before = time.time() - 3600 * hours
    for _ in range(_MOST_ATTEMPTS):
        metadata = library_table.metadata
        kept = {ref.snapshot_id for ref in metadata.refs.values()}
        old = [
            each for each in metadata.snapshots if each.timestamp_ms < 1000 * before and each.snapshot_id not in kept
        ]
        if not old:
            return []
        gone = {each.snapshot_id for each in old}
        files = _files_of(library_table, old)
        files -= _files_of(library_table, [each for each in metadata.snapshots if each.snapshot_id not in gone])
        if dry_run:
            return sorted(files)
        try:
            library_table.maintenance.expire_snapshots().by_ids(sorted(gone)).commit()
        except CommitConflictError:
            library_table.refresh()
            continue
        return [file for file in sorted(files) if _is_deleted(library_table, file)]
    raise TargetUnavailableError("others commit all the time, so that no snapshot was forgotten; try again")


def _is_deleted(table: Any, file: str) -> bool:
    """Delete a file that no snapshot needs; one that can't be deleted keeps no other one."""
    try:
        table.io.delete(file)
    except FileNotFoundError:
        return True
    except OSError as error:
        logger.warning("no snapshot needs %s any more, but it can't be deleted: %s", file, describe_error(error))
        return False
    return True


def _replacement(old: Sequence[Any], new: Sequence[Any]) -> Callable[[Draft], None]:
    return lambda draft: draft.replace(old, new)


def _groups(tasks: Iterable[Any]) -> Iterator[list[Any]]:
    """Small files, at least two of one partition at a time."""
    waiting: defaultdict[tuple[int, str], list[Any]] = defaultdict(list)
    for task in tasks:
        if task.file.file_size_in_bytes < _SMALL_BYTES:
            group = waiting[task.file.spec_id, str(task.file.partition)]
            group.append(task)
            if sum(each.file.file_size_in_bytes for each in group) >= _GATHERED_BYTES:
                yield waiting.pop((task.file.spec_id, str(task.file.partition)))
    yield from (group for group in waiting.values() if len(group) > 1)


def _files_of(table: Any, snapshots: Iterable[Any]) -> set[str]:
    """All files that snapshots need, but for the table's metadata."""
    found: set[str] = set()
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in found:
                found.add(manifest.manifest_path)
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                found.update(entry.data_file.file_path for entry in entries)
    return found
