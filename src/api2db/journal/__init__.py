r"""The durable log between whoever puts frames and the workers that deliver them.

Promise
    * ``append`` returns when the frames are on this machine's disk (``durability="full"``), or when the
      kernel has them (``"process"``); what is in_flight to a worker has been fsynced either way.
    * What was appended together becomes visible together, or, after a crash, not at all.
    * A sequence number is never given twice, and ``timestamp_ns`` rises strictly, whatever the clock does.
    * One damaged record costs that record: it is set aside, counted and reported, the rest is delivered.
    * Memory does not grow with the backlog. A segment is freed by unlinking it, which works on a full disk.

Layout, below ``STORE/journal/<collector>/``
    ``owner.lock``      locked by the one process that owns the journal, through an open file that its forked
                        children close; says who that is
    ``epochs``          a line an open: counter, epoch, checksum; fsynced before anything else is written
    ``<n>.segment``     a header, then records; append-only; a new one at open, at 64 MiB, after any error
    ``state.sqlite``    positions, plans, parked batches, pending rows, counters (WAL mode)
    ``synced``          how far an fsync has come last: segment, end, last sequence number, checksum
    ``reserve``         space held back, so that a full disk can still be told what must not be lost
    ``damaged/``        bytes that could not be read, and word of those that are gone, for a person to look at
    ``control/``        requests from commands while the owner runs; ``.requests`` beside the journals is touched then
    ``status.json``     what the owner last said of its streams, for ``api2db status``

A record
    header (64 bytes)   magic, kind, flags, stream_no, schema, rows, sequence, timestamp_ns, length, two checksums
    payload             kind ``SCHEMA``: an Arrow schema; ``ROWS``: an Arrow IPC record batch (a small one
                        without its schema, a large one as a stream of its own, by lz4 where it may stay: of a frame
                        of more than 8 MiB, or behind 64 MiB that wait); ``CURSOR``: the collector's JSON state;
                        ``REMOVAL``: a file that the group replaces, by its name, size and time

    A schema stands before the first row that needs it, twice, and again after each MiB.

    The stream_no says whose rows they are: 0 for every stream of the collector, else one stream's own.
    Records between a flag ``FIRST`` and a flag ``LAST`` are one group: one ``append``.
    The slices of one frame share its ``timestamp_ns``; the last of them has the flag ``FRAME_END``.
    Rows that had been set aside and are put again have the flag ``RETRIED``. Rows that no target takes have the flag
    ``REFUSED``, and stand before the others of their frame; their schema says why.

Crash rules
    * A record says up to where its segment was known to be on the disk, and so does ``synced``. Behind the last
      such byte of the newest segment only whole groups with sound payloads count; the rest is cut off when the
      journal is opened, and kept in ``damaged/`` unless it is plainly a write that a kill cut short. Before that
      byte damage costs what is damaged.
    * A segment that is gone, or ends before that byte, without having been let go: the log says so when the
      journal is opened, and ``damaged/`` keeps word of it.
    * After a failed fsync a segment is dead. It is cut at its last synced byte, and what had been written
      behind that is written anew into a new segment under the same sequence numbers, or the put raises.
      Where the cut itself failed both copies may be found: the second is known by its sequence number.
    * The high half of a sequence number is the open counter, so a number that was lost with an unsynced tail
      is not given again.
    * A damaged ``state.sqlite`` is set aside and rebuilt: identities and positions from the newest segment's
      header, the epochs from ``epochs``, the rest from the targets' ledgers. Where a target has no ledger (files),
      shards that are still there are recognised by their names; shards that somebody has consumed
      since that header was written are delivered again, and the log says so.
    * A removal names a file whose rows the same group holds: the file goes once the group is durable, at the
      latest when the journal is opened again. Another file that has taken the name by then stays.
"""

from api2db.journal._control import ask
from api2db.journal._handle import JournalHandle, open_shared
from api2db.journal._lock import check_process, is_owned
from api2db.journal._log import SegmentedJournal, journal_folder
from api2db.journal._overview import StreamOverview, describe, journals_in, overview
from api2db.journal.port import (
    ALL,
    Backlog,
    Checkpoint,
    CheckpointKind,
    Delivered,
    Durability,
    Entry,
    Journal,
    Position,
    ReadLimit,
    StreamIdentity,
    StreamNo,
    StreamReader,
    Superseded,
)

__all__ = [
    "ALL",
    "Backlog",
    "Checkpoint",
    "CheckpointKind",
    "Delivered",
    "Durability",
    "Entry",
    "Journal",
    "JournalHandle",
    "Position",
    "ReadLimit",
    "SegmentedJournal",
    "StreamIdentity",
    "StreamNo",
    "StreamOverview",
    "StreamReader",
    "Superseded",
    "ask",
    "check_process",
    "describe",
    "is_owned",
    "journal_folder",
    "journals_in",
    "open_shared",
    "overview",
]
