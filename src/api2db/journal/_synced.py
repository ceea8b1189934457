"""Up to where the journal is known to have been on the disk: what is missing of that, no crash has cut off."""

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
    """A segment's end, and the last sequence number before it, that an fsync has put on the disk."""

    segment: int
    end: int
    last_sequence: int


NOTHING_SYNCED = Synced(0, 0, 0)


class Loss(NamedTuple):
    """Bytes that had been on the disk, and are behind a segment's end now, or gone with all of it."""

    segment: int
    start: int
    end: int
    last_sequence: int


def keep_synced(folder: Path, synced: Synced) -> None:
    """Remember an end; it need not survive a power cut, for an older one is true as well, and so no error is told."""
    fields = _FIELDS.pack(*synced)
    with suppress(OSError):
        fd = os.open(folder / SYNCED_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, fields + _CHECKSUM.pack(zlib.crc32(fields)), 0)
        finally:
            os.close(fd)


def read_synced(folder: Path) -> Synced:
    """The end that was remembered last; of segment 0 where there is none, or a damaged one."""
    try:
        content = (folder / SYNCED_NAME).read_bytes()
    except OSError:
        return NOTHING_SYNCED
    fields = content[: _FIELDS.size]
    if content[_FIELDS.size :] != _CHECKSUM.pack(zlib.crc32(fields)):
        return NOTHING_SYNCED
    return Synced._make(_FIELDS.unpack(fields))


def known_ends(folder: Path, summaries: Mapping[int, Mapping[str, Any]]) -> dict[int, Synced]:
    """What was on the disk of each segment: of finished ones, and of the one that was written last."""
    ends = {number: Synced(number, said["end"], said["last_sequence"]) for number, said in summaries.items()}
    newest = read_synced(folder)
    if newest.segment and newest.end > ends.get(newest.segment, NOTHING_SYNCED).end:
        ends[newest.segment] = newest
    return ends


def losses(paths: Mapping[int, Path], ends: Mapping[int, Synced]) -> list[Loss]:
    """What is missing of segments that nobody has let go."""
    sizes = {number: paths[number].stat().st_size if number in paths else 0 for number in ends}
    return [
        Loss(number, sizes[number], synced.end, synced.last_sequence)
        for number, synced in sorted(ends.items())
        if sizes[number] < synced.end
    ]
