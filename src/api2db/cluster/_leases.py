"""Who runs which collector: sessions of workers, and claims to collectors, in a bucket of the cluster.

A worker is one process. Its session is a key that the cluster removes unless the worker renews it. A claim is a key
that names the session of the collector's owner: it counts while that session is there. So the work of a worker that was
killed, frozen or cut off is free within seconds, and a thousand collectors cost no more renewals than one.

Claims say who should write. That a former owner can't write is up to the log (``_log.py``) and to the targets' ledgers.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api2db.cluster._connection import Message
from api2db.cluster._jetstream import JetStream, MovedError, until_answered
from api2db.cluster._names import Names, decode
from api2db.errors import ClusterUnavailableError, JournalBusyError, JournalError

logger = logging.getLogger(__name__)
SESSION_S: Final = 5
_RENEW_S: Final = 1.2
_LAST_S: Final = 3.0
_WAIT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as its session describes it.

    Attributes:
        worker: The random id of its session.
        machine: The name of its machine, to which collectors can be pinned.
        takes_work: Whether it takes any collector of its project that is free.
    """

    worker: str
    machine: str
    pid: int
    since: float
    takes_work: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """Workers and claims at one moment.

    Attributes:
        workers: By the ids of their sessions.
        owners: The session of each collector that has one.
    """

    workers: Mapping[str, Worker] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)

    def owner_of(self, collector: str) -> Worker | None:
        """The living owner of a collector."""
        return self.workers.get(self.owners.get(collector, ""))


def lease_config(names: Names, replicas: int) -> dict[str, Any]:
    """The configuration of the bucket's stream."""
    return {
        "name": names.leases,
        "subjects": [names.lease(">")],
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_msg_ttl": True,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "duplicate_window": 1_000_000_000,
    }


def machine_name() -> str:
    """The name of this machine: API2DB_MACHINE, or its host name."""
    return os.environ.get("API2DB_MACHINE") or socket.gethostname()


class Session:
    """The session of this process, renewed by a thread of its own.

    Args:
        jetstream: The cluster's.
        names: The project's.
    """

    def __init__(self, jetstream: JetStream, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names
        self._stream = names.leases
        self._lock = threading.RLock()
        self._claims: dict[str, tuple[int, Callable[[str], None]]] = {}
        self._worker: Worker | None = None
        self._takes_work = False
        self._revision = 0
        self._renewed_s = 0.0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, *, takes_work: bool | None = None) -> Worker:
        """Begin a session, unless one is alive.

        Args:
            takes_work: Whether this worker takes any free collector; None to leave that as it is.
        """
        with self._lock:
            if takes_work is not None and takes_work != self._takes_work:
                self._takes_work = takes_work
                if self._worker is not None:
                    self._worker = Worker(
                        self._worker.worker, self._worker.machine, os.getpid(), self._worker.since, takes_work
                    )
            if self._worker is None:
                worker = Worker(secrets.token_hex(8), machine_name(), os.getpid(), time.time(), self._takes_work)
                self._revision = 0
                until_answered(lambda: self._renew(worker), _WAIT_S)
                self._worker = worker
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="api2db-cluster-session", daemon=True)
                self._thread.start()
            return self._worker

    @property
    def is_alive(self) -> bool:
        """Whether the session can't have ended by now."""
        return self._worker is not None and time.monotonic() - self._renewed_s < SESSION_S

    def claim(self, collector: str, lost: Callable[[str], None]) -> None:
        """Claim a collector.

        Args:
            collector: Its name.
            lost: Called with the reason when the claim is lost, by any thread.

        Raises:
            JournalBusyError: Another worker has it.
            ClusterUnavailableError: The cluster does not answer.
        """
        until_answered(lambda: self._claim(collector, lost), _WAIT_S)

    def _claim(self, collector: str, lost: Callable[[str], None]) -> None:
        with self._lock:
            worker = self.start()
            found = self._jetstream.last(self._stream, self._names.claim(collector))
            owner = None if found is None or not found.payload else json.loads(found.payload)["worker"]
            if owner not in {None, worker.worker}:
                self._check_gone(collector, owner)
            message = Message(self._names.claim(collector), json.dumps({"worker": worker.worker}).encode())
            try:
                revision = self._jetstream.publish(message, expected_of_subject=found.sequence if found else 0)
            except MovedError as error:
                found = self._jetstream.last(self._stream, self._names.claim(collector))
                if found is None or json.loads(found.payload or b"{}").get("worker") != worker.worker:
                    raise JournalBusyError(f"another worker has just claimed {collector}") from error
                revision = found.sequence
            self._claims[collector] = revision, lost

    def release(self, collector: str) -> None:
        """Give up a claim; a cluster that does not answer notices by the end of the session."""
        with self._lock:
            held = self._claims.pop(collector, None)
        if held is None:
            return
        message = Message(self._names.claim(collector), b"", {"KV-Operation": "DEL"})
        try:
            self._jetstream.publish(message, expected_of_subject=held[0])
        except JournalError as error:
            logger.debug("the claim to %s was not given up: %s", collector, error)

    def end(self) -> None:
        """End the session, with all claims."""
        self._ending.set()
        with self._lock:
            thread, self._thread, worker = self._thread, None, self._worker
            self._worker, self._claims = None, {}
        if thread is not None and thread is not threading.current_thread():
            thread.join(_LAST_S)
        if worker is not None:
            try:
                self._jetstream.purge(self._stream, self._names.worker(worker.worker))
            except JournalError as error:
                logger.debug("the session was not ended: %s", error)
        self._ending = threading.Event()

    def _check_gone(self, collector: str, owner: str) -> None:
        """Raise if a worker's session is alive, as the stream's leader knows."""
        found = self._jetstream.last(self._stream, self._names.worker(owner))
        if found is not None and found.payload:
            said = Worker(**json.loads(found.payload))
            raise JournalBusyError(
                f"the journal of {collector} belongs to a worker on {said.machine} (pid {said.pid}); stop that first"
            )

    def check_free(self, collector: str) -> None:
        """Raise if a living worker has a collector.

        Raises:
            JournalBusyError: One does.
        """
        found = self._jetstream.last(self._stream, self._names.claim(collector))
        if found is not None and found.payload:
            self._check_gone(collector, json.loads(found.payload)["worker"])

    def _run(self) -> None:
        while not self._ending.wait(_RENEW_S):
            with self._lock:
                worker = self._worker
            if worker is None:
                continue
            try:
                self._renew(worker)
            except MovedError:
                self._lost("its session in the cluster has ended: it was not renewed in time")
            except JournalError as error:
                logger.debug("the session was not renewed: %s", error)
                if not self.is_alive:
                    self._lost("the cluster did not answer for so long that another worker may have its work")

    def _renew(self, worker: Worker) -> None:
        """Renew the session.

        Raises:
            MovedError: It has ended.
            ClusterUnavailableError: The cluster does not answer.
        """
        begin_s = time.monotonic()
        said = json.dumps({name: getattr(worker, name) for name in Worker.__dataclass_fields__}).encode()
        message = Message(self._names.worker(worker.worker), said, {"Nats-TTL": f"{SESSION_S}s"})
        try:
            self._revision = self._jetstream.publish(message, expected_of_subject=self._revision)
        except MovedError:
            found = self._jetstream.last(self._stream, message.subject)
            if found is None or not found.payload:
                raise
            self._revision = found.sequence  # the answer to the last renewal was lost
            raise ClusterUnavailableError("the session is renewed again") from None
        self._renewed_s = begin_s

    def _lost(self, reason: str) -> None:
        with self._lock:
            claims, self._claims = self._claims, {}
            self._worker = None
        logger.warning("this worker lets go of %d collectors: %s", len(claims), reason)
        for _, lost in claims.values():
            lost(reason)


def read_claims(jetstream: JetStream, names: Names) -> Claims:
    """Read who runs what, as any server has it.

    Raises:
        ClusterUnavailableError: The cluster does not answer.
    """
    workers, owners = {}, {}
    worker_prefix, claim_prefix = names.worker(""), names.lease("collector.")
    for stored in jetstream.last_of_each(names.leases, names.lease(">")):
        if not stored.payload:
            continue
        if stored.subject.startswith(worker_prefix):
            said = Worker(**json.loads(stored.payload))
            workers[said.worker] = said
        elif stored.subject.startswith(claim_prefix):
            owners[decode(stored.subject.removeprefix(claim_prefix))] = json.loads(stored.payload)["worker"]
    return Claims(workers, {name: owner for name, owner in owners.items() if owner in workers})
