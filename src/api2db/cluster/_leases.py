"""Who runs which collector: sessions of workers, and claims to collectors, in a bucket of the cluster.

A worker is one process. Its session is a key that the cluster removes unless the worker renews it. A claim is a key
that names the session of the collector's owner: it counts while that session is there. So the work of a worker that was
killed, frozen or cut off is free within seconds, and a thousand collectors cost no more renewals than one. A claim also
has the collector's weight, which stays when the claim is given up.

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
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from api2db.cluster._connection import Message
from api2db.cluster._jetstream import JetStream, MovedError, Stored, until_answered
from api2db.cluster._names import Names, decode
from api2db.errors import ClusterUnavailableError, JournalBusyError, JournalError

logger = logging.getLogger(__name__)
SESSION_S: Final = 5
_RENEW_S: Final = 1.2
_LAST_S: Final = 3.0
_WAIT_S: Final = 20.0
_AGAIN_S: Final = 0.3
_CUT_OFF_S: Final = 15.0  # longer than an election
_VERIFICATIONS: Final = 3
_LEAST_CHANGE: Final = 0.25
_TTL: Final = {"Nats-TTL": f"{SESSION_S}s"}


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
        orphans: The collectors whose owner's session has ended without giving them up.
        weights: The weights of the collectors that have been weighed, as their last owners found them.
    """

    workers: Mapping[str, Worker] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    orphans: frozenset[str] = frozenset()
    weights: Mapping[str, float] = field(default_factory=dict)

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

    A session that has ended while the cluster had no leader, or while this process was frozen, is begun again under the
    same id. The claims that no other worker has taken meanwhile are then still its own.

    Args:
        jetstream: The cluster's.
        names: The project's.
    """

    def __init__(self, jetstream: JetStream, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names
        self._stream = names.leases
        self._lock = threading.Lock()  # never held during a request
        self._starting = threading.Lock()
        self._claims: dict[str, _Held] = {}
        self._unreleased: set[str] = set()
        self._worker: Worker | None = None
        self._takes_work = False
        self._revision = 0
        self._renewed_s = 0.0
        self._to_verify = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, *, takes_work: bool | None = None) -> Worker:
        """Begin a session, unless one is alive.

        Args:
            takes_work: Whether this worker takes any free collector; None to leave that as it is.
        """
        with self._starting:
            if takes_work is not None and takes_work != self._takes_work:
                self._takes_work = takes_work
                if self._worker is not None:
                    self._worker = replace(self._worker, takes_work=takes_work)
            worker = self._worker
            if worker is None:
                worker = Worker(secrets.token_hex(8), machine_name(), os.getpid(), time.time(), self._takes_work)
                self._revision = 0
                until_answered(lambda: self._renew(worker), _WAIT_S)
                self._worker = worker
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="api2db-cluster-session", daemon=True)
                self._thread.start()
            return worker

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
        worker = self.start()
        with self._lock:
            self._unreleased.discard(collector)
        found = self._jetstream.last(self._stream, self._names.claim(collector))
        said = _claim_in(found)
        if said.worker not in {"", worker.worker}:
            self._check_gone(collector, said.worker)
        message = self._claim_message(collector, _Claim(worker.worker, said.weight))
        try:
            revision = self._jetstream.publish(message, expected_of_subject=found.sequence if found else 0)
        except MovedError as error:
            found = self._jetstream.last(self._stream, self._names.claim(collector))
            if found is None or _claim_in(found).worker != worker.worker:
                raise JournalBusyError(f"another worker has just claimed {collector}") from error
            revision = found.sequence
        with self._lock:
            if self._worker is None or self._worker.worker != worker.worker:
                raise JournalBusyError(f"the session of this worker has ended while it claimed {collector}")
            self._claims[collector] = _Held(revision, lost, said.weight)

    def _claim_message(self, collector: str, claim: "_Claim") -> Message:
        return Message(self._names.claim(collector), json.dumps(asdict(claim)).encode())

    def weigh(self, collector: str, weight: float) -> None:
        """Publish the weight of a collector that this worker has; a small change is not worth it.

        Raises:
            ClusterUnavailableError: The cluster does not answer; a later call tries again.
        """
        with self._lock:
            held, worker = self._claims.get(collector), self._worker
        if held is None or worker is None or abs(weight - held.weight) < _LEAST_CHANGE * max(weight, held.weight):
            return
        message = self._claim_message(collector, _Claim(worker.worker, weight))
        try:
            revision = self._jetstream.publish(message, expected_of_subject=held.revision)
        except MovedError:
            self._verify()
            return
        with self._lock:
            if self._claims.get(collector) is held:
                self._claims[collector] = replace(held, revision=revision, weight=weight)

    def release(self, collector: str) -> None:
        """Give up a claim; if the cluster does not answer, that is done with a later renewal."""
        with self._lock:
            held, worker = self._claims.pop(collector, None), self._worker
            if held is None or worker is None:
                return
            self._unreleased.add(collector)
        try:
            until_answered(lambda: self._release(collector, worker), _LAST_S)
        except JournalError as error:
            logger.debug("the claim to %s is given up later: %s", collector, error)

    def _release(self, collector: str, worker: Worker) -> None:
        found = self._jetstream.last(self._stream, self._names.claim(collector))
        said = _claim_in(found)
        with self._lock:
            if collector not in self._unreleased:
                return  # It was claimed again.
        if found is not None and said.worker == worker.worker:
            message = self._claim_message(collector, _Claim("", said.weight))
            try:
                self._jetstream.publish(message, expected_of_subject=found.sequence)
            except MovedError as error:
                raise ClusterUnavailableError(f"the claim to {collector} has just changed") from error
        with self._lock:
            self._unreleased.discard(collector)

    def end(self) -> None:
        """End the session, with all claims."""
        self._ending.set()
        with self._lock:
            thread, self._thread, worker = self._thread, None, self._worker
            self._worker, self._claims, self._unreleased = None, {}, set()
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
        said = _living(self._jetstream, self._names, owner)
        if said is not None:
            raise JournalBusyError(
                f"the journal of {collector} belongs to a worker on {said.machine} (pid {said.pid}); stop that first"
            )

    def check_free(self, collector: str) -> None:
        """Raise if a living worker has a collector.

        Raises:
            JournalBusyError: One does.
        """
        owner = _claim_in(self._jetstream.last(self._stream, self._names.claim(collector))).worker
        if owner:
            self._check_gone(collector, owner)

    def _run(self) -> None:
        ending, pause_s = self._ending, _RENEW_S
        while not ending.wait(pause_s):
            worker, pause_s = self._worker, _RENEW_S
            if worker is None:
                continue
            try:
                self._keep_up(worker)
            except JournalError as error:
                pause_s = _AGAIN_S
                logger.debug("the session was not renewed: %s", error)
                if time.monotonic() - self._renewed_s > _CUT_OFF_S:
                    self._lost("the cluster did not answer for so long that another worker may have its work")

    def _keep_up(self, worker: Worker) -> None:
        """Renew the session, or begin it again.

        Raises:
            ClusterUnavailableError: The cluster does not answer.
        """
        try:
            self._renew(worker)
        except MovedError:
            if self._worker is None:
                return
            logger.info("the session of this worker has ended, because it was not renewed in time; it is begun again")
            self._revision = 0
            self._renew(worker)
            # A worker that saw the end of the session may just be about to claim a collector.
            self._to_verify = _VERIFICATIONS
        if self._to_verify:
            self._verify()
            self._to_verify -= 1
        for collector in list(self._unreleased):
            self._release(collector, worker)

    def _renew(self, worker: Worker) -> None:
        """Renew the session.

        Raises:
            MovedError: It has ended.
            ClusterUnavailableError: The cluster does not answer.
        """
        begin_s = time.monotonic()
        message = Message(self._names.worker(worker.worker), json.dumps(asdict(worker)).encode(), _TTL)
        try:
            self._revision = self._jetstream.publish(message, expected_of_subject=self._revision)
        except MovedError:
            found = self._jetstream.last(self._stream, message.subject)
            if found is None or not found.payload:
                raise
            self._revision = found.sequence  # the answer to the last renewal was lost
            raise ClusterUnavailableError("the session is renewed again") from None
        self._renewed_s = begin_s

    def _verify(self) -> None:
        """Let go of the claims that another worker has taken.

        Raises:
            ClusterUnavailableError: The cluster does not answer.
        """
        with self._lock:
            claims, worker = dict(self._claims), self._worker
        if worker is None:
            return
        subjects = {collector: self._names.claim(collector) for collector in claims}
        found = {each.subject: each for each in self._jetstream.last_of([(self._stream, s) for s in subjects.values()])}
        taken = {
            collector: held
            for collector, held in claims.items()
            if _claim_in(found.get(subjects[collector])).worker != worker.worker
        }
        with self._lock:
            taken = {collector: held for collector, held in taken.items() if self._claims.get(collector) is held}
            self._claims = {name: held for name, held in self._claims.items() if name not in taken}
        _tell(taken, "its session had ended, because it was not renewed in time, and another worker has its work")

    def _lost(self, reason: str) -> None:
        with self._lock:
            claims, self._claims = self._claims, {}
            self._worker, self._unreleased = None, set()
        _tell(claims, reason)


def _tell(claims: "Mapping[str, _Held]", reason: str) -> None:
    if claims:
        logger.warning("this worker lets go of %d collectors: %s", len(claims), reason)
    for held in claims.values():
        held.lost(reason)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim as the bucket has it; without a worker it was given up, without a weight nobody has weighed it yet."""

    worker: str = ""
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class _Held:
    """A claim of this worker."""

    revision: int
    lost: Callable[[str], None]
    weight: float


def _claim_in(stored: Stored | None) -> _Claim:
    return _Claim() if stored is None or not stored.payload else _Claim(**json.loads(stored.payload))


def _living(jetstream: JetStream, names: Names, worker: str) -> Worker | None:
    """The worker of a session, as the stream's leader has it; None if that has ended."""
    found = jetstream.last(names.leases, names.worker(worker))
    return Worker(**json.loads(found.payload)) if found is not None and found.payload else None


def read_owner(jetstream: JetStream, names: Names, collector: str) -> Worker | None:
    """The living owner of a collector, as the stream's leader has it.

    Raises:
        ClusterUnavailableError: The cluster does not answer.
    """
    worker = _claim_in(jetstream.last(names.leases, names.claim(collector))).worker
    return _living(jetstream, names, worker) if worker else None


def read_claims(jetstream: JetStream, names: Names) -> Claims:
    """Read who runs what, as any server has it.

    Raises:
        ClusterUnavailableError: The cluster does not answer.
    """
    workers: dict[str, Worker] = {}
    claims: dict[str, _Claim] = {}
    worker_prefix, claim_prefix = names.worker(""), names.lease("collector.")
    for stored in jetstream.last_of_each(names.leases, names.lease(">")):
        if stored.payload and stored.subject.startswith(worker_prefix):
            said = Worker(**json.loads(stored.payload))
            workers[said.worker] = said
        elif stored.subject.startswith(claim_prefix):
            claims[decode(stored.subject.removeprefix(claim_prefix))] = _claim_in(stored)
    return Claims(
        workers,
        {name: claim.worker for name, claim in claims.items() if claim.worker in workers},
        frozenset(name for name, claim in claims.items() if claim.worker and claim.worker not in workers),
        {name: claim.weight for name, claim in claims.items() if claim.weight},
    )
