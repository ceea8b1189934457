"""Many shards of a folder joined into one frame, and, where asked for, into one file; then deleted or moved.

With a composed file, the steps are: the composed file under a temporary name, durable; a manifest in the shards' folder
that names it and the shards in it, durable; the composed file renamed, its folder fsynced; the shards deleted or moved,
the folders fsynced; the manifest deleted. A call that finds a manifest finishes first what it says:

- the temporary file is still there: the composed one was never published; both are dropped, all shards are as before;
- it is gone and the composed file is there: that holds those shards' rows, so what is left of them is deleted or moved,
  never read;
- both are gone: somebody took the composed file, or a disk is missing. A person decides; nothing is touched.

Without a composed file the rows are handed to the caller, and the shards go last. One composer at a time may work in a
folder; writers of new shards may work beside it.
"""

import errno
import filecmp
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from api2db.errors import Api2dbError, ConfigurationError, DataError
from api2db.formats.atomic import is_temporary, make_folders, publish, replacing, sync_folder, write_temporary
from api2db.formats.files import read, write
from api2db.formats.kinds import Format, check_format
from api2db.frames import cast_exactly, conform, to_batch, to_pandas, unify

__all__ = ["MANIFEST_NAME", "Composition", "compose", "shards_of"]

MANIFEST_NAME = ".api2db_compose.json"
_MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Composition:
    """What came of composing a folder.

    Attributes:
        frame: The rows of all shards that could be read, in the order of the shards' names; None if there are none.
        shards: These shards, where they were.
        problems: A shard that could not be read, deleted or moved; each stays where it is.
    """

    frame: pd.DataFrame | None
    shards: tuple[Path, ...]
    problems: tuple[Exception, ...]


@dataclass(frozen=True)
class _Manifest:
    """Says which shards a composed file holds, and what is to become of them."""

    temporary: Path
    final: Path
    shards: tuple[str, ...]
    shards_to: Path | None


def compose(
    folder: Path,
    fmt: str,
    *,
    shards_to: Path | None = None,
    composed_to: Path | None = None,
    make_missing: bool = True,
) -> Composition:
    """Join the shards of a folder, then delete them or move them.

    Args:
        folder: Where the shards are.
        fmt: Their format.
        shards_to: The folder to move them to; without it they are deleted.
        composed_to: The folder for ``<first>_<last>.<fmt>``, which is durable before any shard goes.
        make_missing: Make these folders where they are missing.

    Raises:
        ConfigurationError: There is no such format, or the manifest of an earlier call is damaged.
        DataError: Columns of one name have no common type, or the composed file of an earlier call is gone
            while its shards are not; nothing was deleted.
        OSError: A folder can't be read or written, or the composed file's name is taken; no row is lost.
    """
    kind = check_format(fmt)
    _check_folders((shards_to, composed_to), make_missing=make_missing)
    problems: list[Exception] = _finish_earlier(folder)
    if problems:
        return Composition(None, (), tuple(problems))
    shards, batches = _read_all(shards_of(folder, kind), kind, problems)
    if not shards:
        return Composition(None, (), tuple(problems))
    table = _joined(shards, batches)
    batches.clear()
    frame = to_pandas(table)  # what could fail must fail before a shard goes
    if composed_to is None:
        problems += _put_away(shards, folder, shards_to)
    else:
        problems += _compose_into(composed_to, table, kind, shards, shards_to)
    return Composition(frame, tuple(shards), tuple(problems))


def shards_of(folder: Path, fmt: str) -> list[Path]:
    """List the shards of a folder in the order of their names; temporary, hidden and foreign files are none."""
    return sorted(path for path in folder.iterdir() if _is_shard(path, fmt))


def _is_shard(path: Path, fmt: str) -> bool:
    return path.suffix == f".{fmt}" and not path.name.startswith(".") and not is_temporary(path) and path.is_file()


def _check_folders(folders: Iterable[Path | None], *, make_missing: bool) -> None:
    for folder in folders:
        if folder is None:
            continue
        if make_missing:
            make_folders(folder)
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such folder; make it, or pass force=True", str(folder))


def _read_all(paths: Sequence[Path], fmt: Format, problems: list[Exception]) -> tuple[list[Path], list[pa.RecordBatch]]:
    shards, batches = [], []
    for path in paths:
        try:
            batch = to_batch(read(path, fmt))
        except (Api2dbError, OSError) as error:
            problems.append(error)
        else:
            shards.append(path)
            batches.append(batch)
    return shards, _same_numbers(batches) if fmt == "csv" else batches


def _joined(shards: Sequence[Path], batches: Sequence[pa.RecordBatch]) -> pa.Table:
    schema = unify([batch.schema for batch in batches])
    if schema is None:
        raise DataError(_why_not_joined(shards, batches))
    return pa.Table.from_batches([conform(batch, schema) for batch in batches], schema)


def _why_not_joined(shards: Sequence[Path], batches: Sequence[pa.RecordBatch]) -> str:
    schema = batches[0].schema
    for shard, batch in zip(shards, batches, strict=True):
        wider = unify([schema, batch.schema])
        if wider is None:
            clash = next(name for name in batch.schema.names if _clashes(schema, batch.schema, name))
            types = f"{schema.field(clash).type} before it and {batch.schema.field(clash).type} in it"
            return f"{shard}: column {clash!r} is {types}, which have no common type; move it away, or cast it"
        schema = wider
    return f"the shards of {shards[0].parent} have no common schema; compose them in smaller groups"


def _clashes(earlier: pa.Schema, later: pa.Schema, name: str) -> bool:
    if name not in earlier.names:
        return False
    return unify([pa.schema([earlier.field(name)]), pa.schema([later.field(name)])]) is None


def _same_numbers(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    # CSV shows a column of whole floats as ints: they are floats if those of another shard are.
    floats = {field.name for batch in batches for field in batch.schema if field.type == pa.float64()}
    return [_with_floats(batch, floats) for batch in batches]


def _with_floats(batch: pa.RecordBatch, floats: set[str]) -> pa.RecordBatch:
    for place, field in enumerate(batch.schema):
        if field.name in floats and field.type == pa.int64():
            array, inexact = cast_exactly(batch.column(place), pa.float64())
            if inexact is None:
                batch = batch.set_column(place, field.name, array)
    return batch


def _compose_into(
    folder: Path, table: pa.Table, fmt: Format, shards: Sequence[Path], shards_to: Path | None
) -> list[Exception]:
    final = (folder / f"{shards[0].stem}_{shards[-1].stem}.{fmt}").absolute()
    if final.exists():
        raise FileExistsError(errno.EEXIST, "the composed file's name is taken; move that file away", str(final))
    with write_temporary(final) as temporary:
        write(table, temporary.file, fmt)
    # Its name must be durable before the manifest is: a temporary file that is gone means that it was published.
    sync_folder(folder)
    manifest = _Manifest(temporary.path, final, tuple(shard.name for shard in shards), shards_to)
    shards_folder = shards[0].parent
    _write_manifest(shards_folder, manifest)
    publish(temporary.path, final)
    sync_folder(folder)
    return _finish(shards_folder, manifest)


def _finish_earlier(folder: Path) -> list[Exception]:
    manifest = _read_manifest(folder)
    if manifest is None:
        return []
    if manifest.temporary.exists():
        # In this order: without its manifest a temporary file means nothing.
        _drop_manifest(folder)
        manifest.temporary.unlink()
        return []
    if not manifest.final.exists():
        raise DataError(
            f"{manifest.final} held the rows of {len(manifest.shards)} shards in {folder} and is gone; "
            f"put it back; or, if its rows are safe, delete those shards that {folder / MANIFEST_NAME} names; "
            f"if they are lost, delete that file alone"
        )
    return _finish(folder, manifest)


def _finish(folder: Path, manifest: _Manifest) -> list[Exception]:
    left = [folder / name for name in manifest.shards if (folder / name).exists()]
    problems = _put_away(left, folder, manifest.shards_to)
    if not problems:
        _drop_manifest(folder)
    return problems


def _put_away(shards: Iterable[Path], folder: Path, shards_to: Path | None) -> list[Exception]:
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


def _write_manifest(folder: Path, manifest: _Manifest) -> None:
    content = {
        "version": _MANIFEST_VERSION,
        "temporary": str(manifest.temporary),
        "final": str(manifest.final),
        "shards": manifest.shards,
        "shards_to": None if manifest.shards_to is None else str(manifest.shards_to.absolute()),
    }
    with replacing(folder / MANIFEST_NAME) as file:
        file.write(json.dumps(content).encode())


def _read_manifest(folder: Path) -> _Manifest | None:
    path = folder / MANIFEST_NAME
    try:
        return _parsed(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"{path} is damaged: {error!r}; see whether a composed file holds the shards beside it, then remove it"
        ) from error


def _parsed(content: dict[str, object]) -> _Manifest:
    temporary, final, names, shards_to = (content[key] for key in ("temporary", "final", "shards", "shards_to"))
    if content["version"] != _MANIFEST_VERSION or not isinstance(names, list):
        raise ValueError("it is of another version")
    if any(Path(str(name)).name != name for name in names) or not is_temporary(Path(str(temporary))):
        raise ValueError("it names files elsewhere")
    target = None if shards_to is None else Path(str(shards_to))
    return _Manifest(Path(str(temporary)), Path(str(final)), tuple(map(str, names)), target)


def _drop_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    sync_folder(folder)
