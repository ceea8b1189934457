"""A round of a store: its manifest, and the store's own part of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from api2db.formats import Format, check_format
from api2db.formats.folder_types import types_as_text, types_from_text
from api2db.journal import Checkpoint, Delivered, Position
from api2db.shards.manifest import Manifest, damaged, write_manifest

_START = Position(0)


@dataclass(frozen=True, slots=True)
class Round:
    """What a round does with the shards of its manifest, and how far it has come.

    Attributes:
        manifest: The shards and the composed files.
        id: A random id, the key of the round's row in the target's ledger.
        owner: The name of the store.
        fmt: The format of the shards.
        excluded: The columns that are ignored when rows are compared.
        types: The types by which CSV shards were read; a restart reads them by the same types.
        loaded: Whether all rows are in the target.
        checkpoints: The checkpoints of the loader.
        position: The position in shards, and rows of the next shard, when a checkpoint was last cleared. A target's
            ledger may be ahead of it.
        delivered: The outcome of the rows before that position; of all rows once the round is loaded.
    """

    manifest: Manifest
    id: str
    owner: str
    fmt: Format
    excluded: tuple[str, ...]
    types: pa.Schema
    loaded: bool
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    position: Position = _START
    delivered: Delivered = field(default_factory=Delivered)


def saved(folder: Path, changed: Round) -> Round:
    """Write a round into its manifest, durably; return it as written."""
    store = {
        "id": changed.id,
        "owner": changed.owner,
        "fmt": changed.fmt,
        "excluded": changed.excluded,
        "types": types_as_text(changed.types),
        "loaded": changed.loaded,
        "checkpoints": dict(changed.checkpoints),
        "position": list(changed.position),
        "delivered": asdict(changed.delivered),
    }
    manifest = replace(changed.manifest, store=store)
    write_manifest(folder, manifest)
    return replace(changed, manifest=manifest)


def round_of(folder: Path, manifest: Manifest) -> Round:
    """Decode the round that a manifest in a folder belongs to.

    Raises:
        ConfigurationError: The manifest is damaged.
    """
    try:
        return _decoded(manifest, manifest.store or {})
    except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise damaged(folder, error) from error
    except OSError as error:  # Arrow raises it for types that it can't decode.
        if error.errno is not None:
            raise
        raise damaged(folder, error) from error


def _decoded(manifest: Manifest, store: Mapping[str, Any]) -> Round:
    return Round(
        manifest=manifest,
        id=str(store["id"]),
        owner=str(store["owner"]),
        fmt=check_format(store["fmt"]),
        excluded=tuple(map(str, store["excluded"])),
        types=types_from_text(store["types"]),
        loaded=bool(store["loaded"]),
        checkpoints=dict(store["checkpoints"]),
        position=Position(*map(int, store["position"])),
        delivered=Delivered(**store["delivered"]),
    )
