"""What the parts of an open journal in a cluster share: its log, its streams, and whether it is open."""

import logging
import os
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api2db.cluster._documents import Document
from api2db.cluster._jetstream import JetStream
from api2db.cluster._log import Log
from api2db.cluster._names import Names
from api2db.errors import JournalBusyError, JournalError
from api2db.journal import ALL, NotAttachedError, StreamNo, check_process

if TYPE_CHECKING:
    from api2db.cluster._reader import ClusterReader

logger = logging.getLogger(__name__)


def usual(name: str, kept: dict[str, Any] | None) -> dict[str, Any]:
    """What is kept of a journal that is opened to be used: what was kept before, or of a new one.

    Raises:
        JournalError: It was moved to a disk, or is being moved.
    """
    if kept is None:
        return {"journal_id": secrets.token_hex(8), "open_count": 0, "epochs": [], "streams": []}
    moved = kept.get("moved")
    if moved is None:
        return kept
    if moved["step"] == "exported":
        raise JournalError(
            f"the journal of {name} was moved to the disk, {moved['where']}; run the project there without --cluster, "
            f"or bring the journal back with: api2db cluster import {name}"
        )
    raise JournalError(
        f"the journal of {name} is being moved ({moved['where']}), and that was interrupted unless it still runs; "
        f"finish it there with: api2db cluster {'import' if moved['step'] == 'importing' else 'export'} {name}"
    )


@dataclass(slots=True, eq=False)
class Core:
    """The state of an open journal. Once it is lost or closed, it never changes again.

    Attributes:
        home: The project's folder on this machine.
        name: The collector's name.
        log: The collector's log.
        document: What is kept of the journal as a whole.
        kept: Its content: ``journal_id``, ``open_count``, ``epochs``, ``streams``, ``last_stream_no``,
            ``removed_until``, and ``moved`` while it is not here.
        changed: The journal's one lock; notified when something becomes visible or acknowledged.
        readers: The registered streams by number.
        told_details: What the streams said of themselves last, by identity.
    """

    home: Path
    name: str
    jetstream: JetStream
    names: Names
    log: Log
    document: Document
    kept: dict[str, Any] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()))
    readers: "dict[StreamNo, ClusterReader]" = field(default_factory=dict)
    told_details: dict[str, Any] = field(default_factory=dict)
    is_closed: bool = False
    pid: int = field(default_factory=os.getpid)
    _lost: str | None = None
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    @property
    def journal_id(self) -> str:
        """The random id of the journal."""
        return str(self.kept["journal_id"])

    @property
    def epoch(self) -> str:
        """The random id of this open."""
        return str(self.kept["epochs"][-1])

    @property
    def is_lost(self) -> bool:
        """Whether another worker may own it by now."""
        return self._lost is not None

    def check_process(self) -> None:
        """Raise in a forked child.

        Raises:
            JournalBusyError: This is one.
        """
        check_process(self.name, self.pid)

    def check(self) -> None:
        """Raise unless this process may use the journal.

        Raises:
            JournalBusyError: It no longer owns it, or is a forked child.
            NotAttachedError: It was closed.
        """
        self.check_process()
        if self._lost is not None:
            raise JournalBusyError(f"this process no longer owns the journal of {self.name}: {self._lost}")
        if self.is_closed:
            raise NotAttachedError(f"the journal of {self.name} has been closed; start the stream again")

    def checked(self) -> threading.Condition:
        """The lock, where this process may use the journal."""
        self.check()
        return self.changed

    def lose(self, reason: str) -> None:
        """Let go of the journal: another worker may own it."""
        with self.changed:
            if self._lost is None and not self.is_closed:
                logger.warning("the journal of %s is let go: %s", self.name, reason)
            self._lost = self._lost or reason
            self.end()

    def end(self) -> bool:
        """End what waits, and let nothing begin; return whether that was so before."""
        with self.changed:
            was_closed, self.is_closed = self.is_closed, True
            self.tell()
            return was_closed

    def tell(self) -> None:
        """Wake all who wait; called with the lock held."""
        self.changed.notify_all()
        for reader in self.readers.values():
            reader.tell()

    def named(self, identity: str) -> "ClusterReader | None":
        """The registered stream of an identity."""
        return next((each for each in list(self.readers.values()) if each.state.identity.name == identity), None)

    def receivers(self, stream_no: StreamNo) -> "Iterable[ClusterReader]":
        """The streams that get what is put for one of them, or for all."""
        return [reader for number, reader in list(self.readers.items()) if stream_no in {ALL, number}]

    def keep(self, **changes: Any) -> None:
        """Save what is kept of the journal.

        Raises:
            JournalBusyError: Another process has taken the journal.
        """
        with self._keeping:  # of two threads, each keeps what the other one changes
            kept = {**self.kept, **changes}
            self.document.save(kept)
            self.kept = kept

    def stream_document(self, number: int) -> Document:
        """The document of a stream's state."""
        return Document(self.jetstream, self.names.state, self.names.document(self.name, f"stream.{number}"))
