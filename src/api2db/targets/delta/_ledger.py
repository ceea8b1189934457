"""The ledger of a stream as transaction identifiers: numbers by name, which the table's log keeps.

``<stream>`` is the sequence, and ``<stream>/skip`` the number of committed rows of the next record. ``<stream>/epoch``
is the number of parts that follow as ``<stream>/epoch/0`` and so on: each is seven bytes of the epoch's text. A store
has no epoch but its own name, so it has no parts.
"""

from collections.abc import Mapping
from typing import Any

from api2db.targets.port import LedgerRow

_PART_BYTES = 7  # of the 64 bits of a number, which has a sign


def read(version_of: Any, stream: str) -> LedgerRow | None:
    """Read a stream's row.

    Args:
        version_of: Returns a number by its name, or None.
    """
    sequence = version_of(stream)
    if sequence is None:
        return None
    parts = [int(version_of(f"{stream}/epoch/{part}") or 0) for part in range(version_of(f"{stream}/epoch") or 0)]
    epoch = b"".join(part.to_bytes(_PART_BYTES, "big").lstrip(b"\0") for part in parts).decode()
    return LedgerRow(epoch or stream, int(sequence), int(version_of(f"{stream}/skip") or 0))


def numbers(stream: str, row: LedgerRow) -> Mapping[str, int]:
    """A stream's row as numbers by name."""
    text = b"" if row.epoch == stream else row.epoch.encode()
    parts = [text[start : start + _PART_BYTES] for start in range(0, len(text), _PART_BYTES)]
    return {
        stream: row.sequence,
        f"{stream}/skip": row.skip,
        f"{stream}/epoch": len(parts),
        **{f"{stream}/epoch/{place}": int.from_bytes(part, "big") for place, part in enumerate(parts)},
    }


def maker(stream: str) -> str:
    """The name that the stream signs a table with that it creates."""
    return f"{stream}/made"
