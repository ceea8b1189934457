r"""The durable log between those who put frames and the workers that deliver them.

Promise
    * ``append`` returns when the frames are on this machine's disk (``durability="full"``), or when the kernel has
      them (``"process"``). Everything handed to a worker has been fsynced either way.
    * Frames appended together become visible together or, after a crash, not at all.
    * A sequence number is never used twice, and ``timestamp_ns`` rises strictly, whatever the clock does.
    * A damaged record costs that record: it is set aside, counted and reported, and the rest is delivered.
    * Memory does not grow with the backlog. A segment is freed by unlinking it, which works on a full disk.

Layout, below ``STORE/journal/<collector>/``
    ``owner.lock``      locked by the one process that owns the journal, through a file descriptor that forked
                        children close; contains the owner's pid
    ``epochs``          one line for each open: counter, epoch, checksum; fsynced before anything else is written
    ``<n>.segment``     a preamble, then records; append-only; a new one at open, at 64 MiB, and after any error
    ``state.sqlite``    positions, plans, parked batches, pending rows, counters, summaries of segments (WAL mode)
    ``synced``          what the last fsync made durable: segment, offset, last sequence number, checksum
    ``reserve``         disk space held in reserve, so that essential writes succeed on a full disk
    ``damaged/``        bytes that could not be read, and notes on bytes that are gone, for a person to look at
    ``control/``        requests from commands while the owner runs; ``.requests`` beside the journals is touched then
    ``status.json``     the owner's last report on its streams and the newest segment, for ``api2db status``
    ``details.json``    what the running streams say of themselves: latencies, columns, newest rows
    ``collector.json``  what the collector has polled, as it last published that

A record
    header (64 bytes)   magic, kind, flags, stream number, schema, rows, sequence, timestamp_ns, length, two checksums
    payload             kind ``SCHEMA``: an Arrow schema; ``ROWS``: an Arrow IPC record batch (a small one without its
                        schema; a large one as a stream of its own, compressed by lz4 if it may stay on disk: if its
                        frame exceeds 8 MiB, or 64 MiB wait); ``CURSOR``: the collector's state as JSON; ``REMOVAL``:
                        a file whose rows the group contains, by name, size and time

    A schema is stored before the first row that needs it, twice, and again after each MiB.

    The stream number says whose rows they are: 0 for every stream of the collector, else a single stream.
    Records from a flag ``FIRST`` to a flag ``LAST`` are one group: one ``append``.
    The slices of one frame share its ``timestamp_ns``; the last one has the flag ``FRAME_END``.
    Rows that were rejected and are put again have the flag ``RETRIED``. Rows that no target accepts have the flag
    ``REFUSED`` and stand before the others of their frame; their schema says why.

Crash rules
    * Each record and the file ``synced`` say up to which offset the segment was durable. Behind the last such offset
      of the newest segment only whole groups with intact payloads count. The rest is truncated when the journal is
      opened, and kept in ``damaged/`` unless it is plainly a write that a kill interrupted. Below that offset, damage
      costs the damaged records only.
    * If a segment is missing, or ends below that offset, without having been removed on purpose, the log says so when
      the journal is opened, and ``damaged/`` keeps a note.
    * After a failed fsync a segment is dead. It is truncated at its last durable offset. The records behind it are
      written again into a new segment under the same sequence numbers, or the put raises. If truncating failed, both
      copies may be found; the sequence numbers reveal the second one.
    * The high half of a sequence number is the open counter, so a number that was lost with an unsynced tail is not
      used again.
    * A damaged ``state.sqlite`` is set aside and rebuilt: identities and positions from the newest segment's preamble,
      epochs from ``epochs``, the rest from the targets' ledgers. A target without a ledger (files) recognises existing
      shards by their names. Shards that somebody consumed since that preamble was written are delivered again, and the
      log says so.
    * A removal names a file whose rows the same group contains. The file is removed once the group is durable. If that
      fails, ``state.sqlite`` keeps the removal: the file is refused from then on, and removed later. Another file that
      has taken its name by then stays.
"""

import typing

from api2db import importing
from api2db.journal._aside import METADATA_KEY, DiskFolder, read_rejected_on_disk, rejected_on_disk
from api2db.journal._lock import check_process
from api2db.journal._refusals import check_can_be_forgotten, check_is_free, cursor_json, file_below
from api2db.journal._requests import answered, result_in
from api2db.journal._store import journal_store, names_on_disk, use_store
from api2db.journal.port import (
    ALL,
    AsideFolder,
    AttachedStream,
    Backlog,
    Checkpoint,
    CheckpointKind,
    Checkpoints,
    Delivered,
    Durability,
    Entry,
    Health,
    Journal,
    JournalHandle,
    JournalOverview,
    JournalStore,
    News,
    NotAttachedError,
    Origin,
    Position,
    Progress,
    Reader,
    ReadLimit,
    Recovery,
    Registered,
    RejectedFile,
    StreamIdentity,
    StreamNo,
    StreamOverview,
    StreamReader,
    Superseded,
    Tell,
    WholeFrames,
    Written,
    split,
)

if typing.TYPE_CHECKING:
    from api2db.journal._moving import (
        ArrivingJournal,
        LeavingJournal,
        MovedJournal,
        MovedRecord,
        MovedStream,
        arrive,
        check_can_arrive,
    )
    from api2db.journal._record import Flag, RecordKind
    from api2db.journal._rows import Part, parts_of
    from api2db.journal._waiting import Waiting, waiting_on_disk

__all__ = [
    "ALL",
    "METADATA_KEY",
    "ArrivingJournal",
    "AsideFolder",
    "AttachedStream",
    "Backlog",
    "Checkpoint",
    "CheckpointKind",
    "Checkpoints",
    "Delivered",
    "DiskFolder",
    "Durability",
    "Entry",
    "Flag",
    "Health",
    "Journal",
    "JournalHandle",
    "JournalOverview",
    "JournalStore",
    "LeavingJournal",
    "MovedJournal",
    "MovedRecord",
    "MovedStream",
    "News",
    "NotAttachedError",
    "Origin",
    "Part",
    "Position",
    "Progress",
    "ReadLimit",
    "Reader",
    "RecordKind",
    "Recovery",
    "Registered",
    "RejectedFile",
    "StreamIdentity",
    "StreamNo",
    "StreamOverview",
    "StreamReader",
    "Superseded",
    "Tell",
    "Waiting",
    "WholeFrames",
    "Written",
    "answered",
    "arrive",
    "check_can_arrive",
    "check_can_be_forgotten",
    "check_is_free",
    "check_process",
    "cursor_json",
    "file_below",
    "journal_store",
    "names_on_disk",
    "parts_of",
    "read_rejected_on_disk",
    "rejected_on_disk",
    "result_in",
    "split",
    "use_store",
    "waiting_on_disk",
]

# ``api2db status`` only looks, and imports no more than that takes.
__getattr__, __dir__ = importing.on_demand(
    __name__,
    {
        **dict.fromkeys(("Flag", "RecordKind"), "api2db.journal._record"),
        **dict.fromkeys(("Part", "parts_of"), "api2db.journal._rows"),
        **dict.fromkeys(("Waiting", "waiting_on_disk"), "api2db.journal._waiting"),
        **dict.fromkeys(
            (
                "ArrivingJournal",
                "LeavingJournal",
                "MovedJournal",
                "MovedRecord",
                "MovedStream",
                "arrive",
                "check_can_arrive",
            ),
            "api2db.journal._moving",
        ),
    },
)
