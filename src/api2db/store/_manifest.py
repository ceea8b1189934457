"""A store's plan, on disk before it is carried out: one JSON file in the folder of the shards."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from api2db.disk.atomic import replacing, sync_folder
from api2db.errors import ConfigurationError
from api2db.formats import check_format
from api2db.formats.folder_types import types_as_text, types_from_text
from api2db.formats.kinds import Format
from api2db.journal import Checkpoint, Delivered, Position
from api2db.shards.compose import STORE_MANIFEST
from api2db.shards.composed import Composed, composed_as_json, composed_from_json
from api2db.shards.shards import Shard, shards_as_json, shards_from_json

_VERSION = 3
_START = Position(0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The shards that one round of a store takes, and what becomes of them.

    Attributes:
        id: Random; the key of its row in the target's ledger.
        store: Whose it is.
        fmt: The shards' format.
        shards: Which they are, in the order of their names.
        excluded: The columns that do not count when rows repeat.
        files: Composed files that are durable under their temporary names.
        shards_to: The folder to move the shards to; None to delete them.
        types: The types by which CSV shards were read; a restart reads them by the same.
        loaded: Whether all rows are in the target.
        published: Whether the composed files have their names.
        notes: What delivery keeps on disk meanwhile.
        position: How far it was, in shards and rows of the next, when it last changed its notes; a target's ledger may
            say more.
        delivered: What had become of the rows before that; of all of them once it is loaded.
    """

    id: str
    store: str
    fmt: Format
    shards: tuple[Shard, ...]
    excluded: tuple[str, ...]
    files: tuple[Composed, ...]
    shards_to: Path | None
    types: pa.Schema
    loaded: bool
    published: bool = False
    notes: Mapping[str, Checkpoint] = field(default_factory=dict)
    position: Position = _START
    delivered: Delivered = field(default_factory=Delivered)


def keep_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, durably, in place of the previous one."""
    content = {
        "version": _VERSION,
        "id": manifest.id,
        "store": manifest.store,
        "fmt": manifest.fmt,
        "shards": shards_as_json(manifest.shards),
        "excluded": manifest.excluded,
        "files": composed_as_json(manifest.files),
        "shards_to": None if manifest.shards_to is None else str(manifest.shards_to),
        "types": types_as_text(manifest.types),
        "loaded": manifest.loaded,
        "published": manifest.published,
        "notes": dict(manifest.notes),
        "position": list(manifest.position),
        "delivered": asdict(manifest.delivered),
    }
    with replacing(folder / STORE_MANIFEST) as file:
        file.write(json.dumps(content).encode())


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of an interrupted round; None if there is none.

    Raises:
        ConfigurationError: It is damaged.
    """
    path = folder / STORE_MANIFEST
    try:
        return _parsed(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ConfigurationError(
            f"{path} is damaged: {error!r}; see whether the target holds the rows of the shards beside it, and move "
            "those away that it holds; then remove the file"
        ) from error


def drop_manifest(folder: Path) -> None:
    """Remove the manifest, durably, if there is one."""
    (folder / STORE_MANIFEST).unlink(missing_ok=True)
    sync_folder(folder)


def _parsed(content: dict[str, Any]) -> Manifest:
    if content["version"] != _VERSION:
        raise ValueError("it is of another version")
    shards_to = content["shards_to"]
    return Manifest(
        id=str(content["id"]),
        store=str(content["store"]),
        fmt=check_format(content["fmt"]),
        shards=shards_from_json(content["shards"]),
        excluded=tuple(map(str, content["excluded"])),
        files=composed_from_json(content["files"]),
        shards_to=None if shards_to is None else Path(shards_to),
        types=types_from_text(content["types"]),
        loaded=bool(content["loaded"]),
        published=bool(content["published"]),
        notes=dict(content["notes"]),
        position=Position(*map(int, content["position"])),
        delivered=Delivered(**content["delivered"]),
    )
