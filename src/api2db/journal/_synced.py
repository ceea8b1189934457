"""Last durable offset of each segment. Bytes missing below it were lost, not torn."""

import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

SYNCED_NAME = "synced"
_FIELDS = struct.Struct("<IQQ")
_CHECKSUM = struct.Struct("<I")


class Synced(NamedTuple):
    """The offset and last sequence number that an fsync has made durable in a segment."""

    segment: int
    end: int
    last_sequence: int


NOTHING_SYNCED = Synced(0, 0, 0)


class Loss(NamedTuple):
    """Bytes that were durable and are now behind a segment's end, or gone with the segment."""

    segment: int
    start: int
    end: int
    last_sequence: int


def keep_synced(folder: Path, synced: Synced) -> None:
    """Remember a durable offset. It need not survive a power cut: an older one is also true, so errors are ignored."""
    fields = _FIELDS.pack(*synced)
    with suppress(OSError):
        fd = os.open(folder / SYNCED_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, fields + _CHECKSUM.pack(zlib.crc32(fields)), 0)
        finally:
            os.close(fd)


def read_synced(folder: Path) -> Synced:
    """Return the last remembered offset; segment 0 if there is none, or it is damaged."""
    try:
        content = (folder / SYNCED_NAME).read_bytes()
    except OSError:
        return NOTHING_SYNCED
    fields = content[: _FIELDS.size]
    if content[_FIELDS.size :] != _CHECKSUM.pack(zlib.crc32(fields)):
        return NOTHING_SYNCED
    return Synced._make(_FIELDS.unpack(fields))


def known_ends(folder: Path, summaries: Mapping[int, Mapping[str, Any]]) -> dict[int, Synced]:
    """Return the durable offset of each finished segment and of the one written last."""
    ends = {number: Synced(number, said["end"], said["last_sequence"]) for number, said in summaries.items()}
    newest = read_synced(folder)
    if newest.segment and newest.end > ends.get(newest.segment, NOTHING_SYNCED).end:
        ends[newest.segment] = newest
    return ends


def losses(paths: Mapping[int, Path], ends: Mapping[int, Synced]) -> list[Loss]:
    """Return what is missing from segments that were not removed on purpose."""
    sizes = {number: paths[number].stat().st_size if number in paths else 0 for number in ends}
    return [
        Loss(number, sizes[number], synced.end, synced.last_sequence)
        for number, synced in sorted(ends.items())
        if sizes[number] < synced.end
    ]
