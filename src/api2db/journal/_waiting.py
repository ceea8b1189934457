"""Reads the rows that wait in a journal on disk, owned or not; nothing is written, no lock is held."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from api2db.journal._overview import journal_folder
from api2db.journal._record import Flag, RecordKind
from api2db.journal._repair import look_at
from api2db.journal._rows import decode_rows, rows_of
from api2db.journal._scan import Block, Record, anything, blocks
from api2db.journal._segment import Segment, segment_paths
from api2db.journal._state_file import StreamRow, read_streams, reading
from api2db.journal.port import ALL


class Waiting(NamedTuple):
    """Rows that wait for some streams.

    Attributes:
        streams: The identities of the streams.
        timestamp_ns: When the frame was put.
        rows: The rows; those that a stream has delivered already are among them if it is within the frame.
    """

    streams: tuple[str, ...]
    timestamp_ns: int
    rows: pa.RecordBatch


def waiting_on_disk(home: Path, name: str) -> Iterator[Waiting]:
    """Yield the rows that wait in the journal of a collector, the oldest first.

    What its owner delivers meanwhile may be among them. Records that are damaged are left out.
    """
    folder = journal_folder(home, name)
    with reading(folder) as connection:
        streams = read_streams(connection)
    for number, path in sorted(segment_paths(folder).items()):
        with suppress(FileNotFoundError):  # its owner has freed it meanwhile
            segment = look_at(number, path)
            if segment is not None:
                yield from _in_segment(segment, streams)


def _in_segment(segment: Segment, streams: list[StreamRow]) -> Iterator[Waiting]:
    schemas: dict[int, pa.Schema] = {}
    for block in blocks(segment, segment.begin, segment.end, payloads=True):
        if not isinstance(block, Block):
            continue
        for record in block.records(anything):
            if record.header.kind == RecordKind.SCHEMA and record.payload:
                schemas[record.header.schema] = pa.ipc.read_schema(pa.py_buffer(record.payload))
            wanted = tuple(row.identity for row in streams if _waits(record, row))
            if not wanted:
                continue
            with suppress(KeyError, pa.ArrowInvalid):  # damaged
                rows = decode_rows(record.header, rows_of(record.header, record.payload), schemas)
                yield Waiting(wanted, record.header.timestamp_ns, rows)


def _waits(record: Record, stream: StreamRow) -> bool:
    header = record.header
    is_rows = header.kind == RecordKind.ROWS and not header.flags & Flag.REFUSED
    is_its_own = header.stream_no in {ALL, stream.stream_no}
    return is_rows and is_its_own and header.sequence > stream.position.sequence
