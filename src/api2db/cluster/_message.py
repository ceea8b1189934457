"""What the messages of a log hold: the form of their bytes.

A message is the text ``A2D1``, the length of its head, the head as JSON, and a body. The head says where the log's end
is once this message is stored (``LogEnd``), so the last message alone tells a new owner all that it must know. Rows
messages form a chain: each one names the number of the rows message before it, so that a gap can't be overlooked.

The body of a rows message has the schemas of its records, then their payloads. A record that is larger than a message
is cut into several messages, its parts; only the first part has the record in its head. A large state is cut likewise.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from api2db.errors import JournalError
from api2db.journal import Flag, Part, RecordKind

ROWS: Final = "rows"
CURSOR: Final = "cursor"
OWNER: Final = "owner"
REMOVAL: Final = "removal"
HEAD_BYTES: Final = 8 << 10  # room for the head without its records, and for NATS headers
RECORD_BYTES: Final = 160  # of one record in the head, at most
COUNTED_BYTES: Final = 64  # what a record counts beside its payload, as in a journal on disk
_MAGIC: Final = b"A2D1"
_LENGTH: Final = struct.Struct("<4sI")
_MOST_RECORDS: Final = 2000
Counts = tuple[int, int, int]
NOTHING: Final[Counts] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Record:
    """A slice of a frame in the log.

    Attributes:
        sequence: Its number in the journal, never used twice.
        stream_no: Whose rows these are; 0 for all streams.
        length: Bytes of the payload.
        schema: The number of its schema in the message; -1 if the payload has it.
        trace: The context of the span that put it, as hexadecimal digits; see ``api2db.tracing``.
    """

    sequence: int
    timestamp_ns: int
    stream_no: int
    flags: int
    rows: int
    length: int
    crc: int
    schema: int = -1
    trace: str = ""

    @property
    def counts(self) -> Counts:
        """Frames, rows and bytes."""
        return int(bool(self.flags & Flag.FRAME_END)), self.rows, self.length + COUNTED_BYTES

    def as_list(self) -> list[int | str]:
        """For the head."""
        return [value for name in Record.__dataclass_fields__ if (value := getattr(self, name)) != ""]


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where a log ends.

    Attributes:
        number: Of the last message of any kind.
        rows: Of the last rows message; 0 if there was none.
        cursor: Of the last cursor message, or of its first part; 0 if there was none.
        open_count: How often the journal had been opened when that was written.
        sequence: Of the last record.
        timestamp_ns: Of the last record.
        counts: What was ever stored, by stream number.
    """

    number: int = 0
    rows: int = 0
    cursor: int = 0
    open_count: int = 0
    sequence: int = 0
    timestamp_ns: int = 0
    counts: Mapping[int, Counts] = field(default_factory=dict)

    def total(self, stream_no: int) -> Counts:
        """What was ever stored for a stream, alone or with all others."""
        return plus(self.counts.get(0, NOTHING), self.counts.get(stream_no, NOTHING))


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message as it is read.

    Attributes:
        end: The log's end once this message is stored; its ``number`` is this message's.
        before: The number of the rows message before it.
        written: The random id of the publication that it belongs to.
        part: For a part of a large record: which one, and of how many.
        schemas: The lengths of the serialized schemas.
        body: Schemas and payloads.
    """

    end: LogEnd
    before: int
    written: str
    records: tuple[Record, ...]
    part: tuple[int, int] | None
    schemas: tuple[int, ...]
    body: memoryview

    @property
    def number(self) -> int:
        """Its number in the stream."""
        return self.end.number


@dataclass(slots=True)
class Draft:
    """A message that has no place in the log yet.

    Attributes:
        kind: The last token of its subject.
        pieces: Its body.
    """

    kind: str
    pieces: list[bytes | memoryview | pa.Buffer] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    schemas: list[bytes] = field(default_factory=list)
    part: tuple[int, int] | None = None
    size_bytes: int = 0

    def has_room(self, part: Part, limit: int) -> bool:
        """Whether a further record fits."""
        schema_bytes = 0 if part.schema is None or part.schema in self.schemas else len(part.schema)
        size_bytes = self.size_bytes + part.size_bytes + schema_bytes + RECORD_BYTES
        return size_bytes <= limit and len(self.records) < _MOST_RECORDS

    def add(self, part: Part, sequence: int, timestamp_ns: int, stream_no: int, trace: str) -> None:
        """Add a record."""
        schema = -1
        if part.schema is not None:
            if part.schema not in self.schemas:
                self.schemas.append(part.schema)
                self.size_bytes += len(part.schema)
            schema = self.schemas.index(part.schema)
        self.records.append(
            Record(sequence, timestamp_ns, stream_no, part.flags, part.rows, part.size_bytes, part.crc, schema, trace)
        )
        self.pieces.append(part.payload)
        self.size_bytes += part.size_bytes + RECORD_BYTES

    def cut(self, limit: int) -> "list[Draft]":
        """The same as several messages, if it is larger than one may be; it then has a single record."""
        if self.size_bytes <= limit:
            return [self]
        body = memoryview(b"".join([*self.schemas, *self.pieces]))
        slices = [body[at : at + limit] for at in range(0, len(body), limit)]
        drafts = [
            Draft(self.kind, [piece], part=(number, len(slices)), size_bytes=len(piece))
            for number, piece in enumerate(slices)
        ]
        drafts[0].records, drafts[0].schemas = self.records, self.schemas
        return drafts

    def encoded(self, end: LogEnd, before: int, written: str) -> bytes:
        """The bytes of the message.

        Args:
            end: The log's end once it is stored.
            before: The number of the rows message before it.
            written: The random id of its publication.
        """
        head = {
            "end": [end.number, end.rows, end.cursor, end.open_count, end.sequence, end.timestamp_ns],
            "counts": {str(number): counts for number, counts in end.counts.items()},
            "before": before,
            "written": written,
            "records": [record.as_list() for record in self.records],
            "schemas": [len(schema) for schema in self.schemas],
            "part": self.part,
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        is_cut = self.part is not None
        pieces = self.pieces if is_cut else [*self.schemas, *self.pieces]
        return b"".join([_LENGTH.pack(_MAGIC, len(text)), text, *pieces])


def decoded(number: int, payload: bytes) -> LogMessage:
    """Decode a message.

    Raises:
        JournalError: It was written by another version, or is damaged.
    """
    try:
        magic, length = _LENGTH.unpack_from(payload)
        if magic != _MAGIC:
            raise ValueError("it begins differently")
        head = json.loads(payload[_LENGTH.size : _LENGTH.size + length])
        counts = {int(stream): (said[0], said[1], said[2]) for stream, said in head["counts"].items()}
        _, rows, cursor, open_count, sequence, timestamp_ns = head["end"]
        return LogMessage(
            LogEnd(number, rows, cursor, open_count, sequence, timestamp_ns, counts),
            head["before"],
            head["written"],
            tuple(Record(*record) for record in head["records"]),
            None if head["part"] is None else (head["part"][0], head["part"][1]),
            tuple(head["schemas"]),
            memoryview(payload)[_LENGTH.size + length :],
        )
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise JournalError(f"message {number} of the log can't be read: {error}") from error


def batches_in(
    message: LogMessage, rest: Sequence[LogMessage], is_wanted: Callable[[Record], bool]
) -> Iterator[tuple[Record, pa.RecordBatch | None]]:
    """The records of a message with their rows; None instead of rows that are not wanted.

    Args:
        message: The message.
        rest: The further parts of its record.
        is_wanted: Whether to decode a record.

    Raises:
        JournalError: A record is damaged.
    """
    body = message.body if message.part is None else memoryview(b"".join([message.body, *(each.body for each in rest)]))
    schemas, at = [], 0
    for length in message.schemas:
        schemas.append(pa.ipc.read_schema(pa.py_buffer(body[at : at + length])))
        at += length
    for record in message.records:
        payload = body[at : at + record.length]
        at += record.length
        if not is_wanted(record):
            yield record, None
            continue
        if len(payload) != record.length or zlib.crc32(payload) != record.crc:
            raise JournalError(f"record {record.sequence} in message {message.number} of the log is damaged")
        yield record, _rows(record, payload, schemas)


def parts_in(message: LogMessage, rest: Sequence[LogMessage]) -> Iterator[tuple[Record, Part]]:
    """The records of a message as they were put.

    Args:
        message: The message.
        rest: The further parts of its record.

    Raises:
        JournalError: A record is damaged.
    """
    body = b"".join([message.body, *(each.body for each in rest)])
    schemas, at = [], 0
    for length in message.schemas:
        schemas.append(body[at : at + length])
        at += length
    for record in message.records:
        payload = body[at : at + record.length]
        at += record.length
        if len(payload) != record.length or zlib.crc32(payload) != record.crc:
            raise JournalError(f"record {record.sequence} in message {message.number} of the log is damaged")
        schema = None if record.schema < 0 else schemas[record.schema]
        yield (
            record,
            Part(RecordKind.ROWS, payload, record.length, record.crc, record.flags, record.rows, schema=schema),
        )


def _rows(record: Record, payload: memoryview, schemas: Sequence[pa.Schema]) -> pa.RecordBatch:
    if record.schema < 0:
        with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
            return reader.read_next_batch()
    return pa.ipc.read_record_batch(pa.py_buffer(payload), schemas[record.schema])


def plus(one: Counts, other: Counts) -> Counts:
    """The sum."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def minus(one: Counts, other: Counts) -> Counts:
    """The difference."""
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


def counted(counts: Mapping[int, Counts], records: Iterable[Record]) -> dict[int, Counts]:
    """Counts with further records."""
    found = dict(counts)
    for record in records:
        found[record.stream_no] = plus(found.get(record.stream_no, NOTHING), record.counts)
    return found
