"""What a journal in a cluster keeps of each stream, in one document for each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from api2db.cluster._message import NOTHING, Counts
from api2db.journal import Checkpoint, CheckpointKind, Delivered, Position, StreamIdentity, StreamNo, StreamOverview


class Place(NamedTuple):
    """Where a stream reads on.

    Attributes:
        number: The first message that can have rows behind the stream's position.
        before: The rows message before that one.
    """

    number: int
    before: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """A registered stream.

    Attributes:
        key: The stream's random id, its key in every ledger.
        place: Where it reads on.
        passed: What it had passed there, and up to its position: frames, rows, bytes.
        attached: Whether a process delivers it.
        oldest_ns: The time of the oldest waiting frame, where that is known.
        removed_until: The number of the last removal of a file whose rows are no longer counted as rejected.
    """

    stream_no: StreamNo
    key: str
    identity: StreamIdentity
    position: Position
    place: Place
    passed: Counts = NOTHING
    delivered: Delivered = field(default_factory=Delivered)
    checkpoints: Mapping[CheckpointKind, Checkpoint] = field(default_factory=dict)
    error: str | None = None
    error_at: float | None = None
    attached: bool = False
    oldest_ns: int | None = None
    removed_until: int = 0

    def as_json(self) -> dict[str, Any]:
        """As a document."""
        return asdict(self)

    @staticmethod
    def of(said: Mapping[str, Any]) -> "StreamState":
        """From a document."""
        names = StreamState.__dataclass_fields__
        return StreamState(
            **{
                **{name: value for name, value in said.items() if name in names},
                "identity": StreamIdentity(**said["identity"]),
                "position": Position(*said["position"]),
                "place": Place(*said["place"]),
                "passed": (said["passed"][0], said["passed"][1], said["passed"][2]),
                "delivered": Delivered(**said["delivered"]),
            }
        )

    def adding(self, delivered: Delivered) -> "StreamState":
        """The same with more delivered."""
        names = Delivered.__dataclass_fields__
        total = Delivered(*(getattr(self.delivered, name) + getattr(delivered, name) for name in names))
        return replace(self, delivered=total)

    def counted_down(self, number: int, rows: int, size_bytes: int) -> "StreamState":
        """The same without the rows of a file that were put again or dropped; itself if it has counted that removal.

        Pending rows are listed before they are counted. Otherwise no count falls below 0.

        Args:
            number: The number of the removal's message.
            rows: The rows of the file.
            size_bytes: Its size.
        """
        if number <= self.removed_until:
            return self
        before = self.delivered
        if "pending" not in self.checkpoints:
            rows, size_bytes = min(rows, before.rejected), min(size_bytes, before.rejected_bytes)
        left = replace(before, rejected=before.rejected - rows, rejected_bytes=before.rejected_bytes - size_bytes)
        return replace(self, delivered=left, removed_until=number)

    def stored_bytes(self, waiting_bytes: int) -> int:
        """Bytes that count for its quota: waiting, parked and rejected."""
        parked = self.checkpoints.get("parked") or {}
        return waiting_bytes + int(parked.get("size_bytes", 0)) + max(0, self.delivered.rejected_bytes)

    def overview(self, collector: str, total: Counts, *, running: bool) -> StreamOverview:
        """What is known of it.

        Args:
            collector: Its collector.
            total: What was ever stored for it: frames, rows, bytes.
            running: Whether a living process delivers it.
        """
        frames, rows, size_bytes = (max(0, whole - passed) for whole, passed in zip(total, self.passed, strict=True))
        parked = self.checkpoints.get("parked") or {}
        return StreamOverview(
            collector=collector,
            identity=self.identity.name,
            stream_type=self.identity.stream_type,
            running=running,
            frames_waiting=frames,
            rows_waiting=max(0, rows - self.position.skip) if frames else 0,
            bytes_waiting=size_bytes,
            frames_delivered=self.delivered.frames,
            rows_delivered=self.delivered.rows,
            rows_parked=parked.get("rows", 0),
            rows_rejected=max(0, self.delivered.rejected),
            rows_superseded=self.delivered.superseded,
            duplicates_dropped=self.delivered.duplicates,
            oldest_ns=self.oldest_ns if frames else None,
            last_error=self.error,
            error_at=self.error_at,
        )
