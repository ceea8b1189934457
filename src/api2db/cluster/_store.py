"""The journals of a project in a cluster, each opened once in a process and shared by its streams."""

import json
import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from api2db.cluster._address import Address, parse_address
from api2db.cluster._aside import content_of, entries_in
from api2db.cluster._checks import check_servers
from api2db.cluster._connection import Connection, Message
from api2db.cluster._documents import packed, unpacked
from api2db.cluster._jetstream import JetStream, until_answered
from api2db.cluster._journal import ClusterJournal
from api2db.cluster._leases import Claims, Session, Worker, lease_config, read_claims, read_owner
from api2db.cluster._log_messages import LogMessages
from api2db.cluster._names import Names, decode, encode
from api2db.cluster._state import StreamState
from api2db.errors import ClusterUnavailableError, ConfigurationError, JournalBusyError, JournalError
from api2db.interrupts import uninterrupted
from api2db.journal import Durability, JournalOverview, RejectedFile, result_in

logger = logging.getLogger(__name__)
_SAVE_S: Final = 0.3
_ASK_S: Final = 15.0
_WAIT_S: Final = 20.0


class Cluster:
    """This process's use of a project's cluster, shared by all its stores.

    Args:
        address: The cluster's.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.names = Names(address.project)
        self.connection = Connection(address)
        self.jetstream = JetStream(self.connection)
        self.session = Session(self.jetstream, self.names)
        self.lock = threading.RLock()
        self.open: dict[str, _Shared] = {}
        self.replaced: list[tuple[str, _Shared]] = []  # lost journals that were opened again while they had users
        self._changing: dict[str, threading.RLock] = {}
        self._is_ready = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def ready(self) -> "Cluster":
        """Check the servers and make the project's streams, once in a process.

        Raises:
            ConfigurationError: The servers can't keep what they acknowledge.
            ClusterUnavailableError: They do not answer.
        """
        with self.lock:
            if not self._is_ready:
                check_servers(self.jetstream, self.address)
                replicas = self.address.replicas
                for config in (_state_config(self.names, replicas), lease_config(self.names, replicas)):
                    until_answered(lambda config=config: self.jetstream.make_stream(config), _WAIT_S)  # type: ignore[misc]
                self._is_ready = True
        return self

    def changing(self, name: str) -> "threading.RLock":
        """The lock under which the journal of a collector is opened or closed; others are not held up."""
        with self.lock:
            return self._changing.setdefault(name, threading.RLock())

    def keep_house(self) -> None:
        """Have a thread look after the open journals."""
        with self.lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="api2db-cluster-housekeeper", daemon=True)
                self._thread.start()

    def leave(self) -> None:
        """End the session: what this process still has is free."""
        self.session.end()

    def close(self) -> None:
        """End the session, the threads and the connection."""
        self._ending.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_WAIT_S)
        self.session.end()
        self.connection.close()

    def _run(self) -> None:
        while not self._ending.wait(_SAVE_S):
            with self.lock:
                journals = [shared.journal for shared in self.open.values()]
            for journal in journals:
                try:
                    journal.housekeeping.keep()
                except JournalError as error:
                    logger.debug("housekeeping of the cluster: %s", error)
                except Exception:
                    logger.warning("housekeeping of the cluster has failed, and is tried again", exc_info=True)


@dataclass(slots=True)
class _Shared:
    journal: ClusterJournal
    users: int = 0


class _Handle:
    def __init__(self, cluster: Cluster, name: str, shared: _Shared) -> None:
        self.journal = shared.journal
        self._cluster = cluster
        self._name = name
        self._shared: _Shared | None = shared
        self._pid = os.getpid()

    def release(self) -> None:
        if self._pid == os.getpid():
            self._release()

    @uninterrupted
    def _release(self) -> None:
        with self._cluster.changing(self._name):
            shared, self._shared = self._shared, None
            if shared is None:
                return
            shared.users -= 1
            if shared.users:
                return
            with self._cluster.lock:
                if self._cluster.open.get(self._name) is shared:
                    del self._cluster.open[self._name]
                self._cluster.replaced = [each for each in self._cluster.replaced if each[1] is not shared]
            shared.journal.close()


class ClusterJournalStore:
    """See ``JournalStore``: the journals of a project that are in a cluster.

    Args:
        home: The project's folder on this machine.
        cluster: The cluster.
    """

    def __init__(self, home: Path, cluster: Cluster) -> None:
        self._home = home
        self._cluster = cluster

    @uninterrupted
    def open(self, name: str, durability: Durability = "full") -> _Handle:
        cluster = self._cluster.ready()
        with cluster.changing(name):
            shared = cluster.open.get(name)
            if shared is not None and shared.journal.core.is_lost:
                with cluster.lock:
                    cluster.replaced.append((name, shared))
                shared = None
            if shared is None:
                journal = ClusterJournal(
                    self._home, name, durability, cluster.jetstream, cluster.names, cluster.session
                )
                shared = _Shared(journal)
                with cluster.lock:
                    cluster.open[name] = shared
                cluster.keep_house()
            elif shared.journal.durability != durability:
                raise ConfigurationError(
                    f"the journal of {name} is open with durability={shared.journal.durability!r}; "
                    "give all streams of one collector the same"
                )
            shared.users += 1
            return _Handle(cluster, name, shared)

    def names(self) -> list[str]:
        names, jetstream = self._cluster.names, self._cluster.ready().jetstream
        found: set[str] = set()
        filter_ = names.document("", "journal").replace("..", ".*.")
        info = until_answered(
            lambda: jetstream.api(f"STREAM.INFO.{names.state}", {"subjects_filter": filter_}), _WAIT_S
        )
        for subject in info["state"].get("subjects") or {}:
            found.add(decode(subject.split(".")[-2]))
        return sorted(found)

    def check_free(self, name: str) -> None:
        cluster = self._cluster.ready()
        until_answered(lambda: cluster.session.check_free(name), _WAIT_S)

    def overview(self, name: str) -> JournalOverview:
        with self._cluster.lock:
            shared = self._cluster.open.get(name)
        try:
            if shared is not None and not shared.journal.core.is_closed:
                return JournalOverview(running=True, streams=tuple(shared.journal.overview()))
            return self._overview_from_outside(name)
        except JournalError as error:
            return JournalOverview(error=f"its journal can't be read: {error}")

    def details(self, name: str) -> dict[str, dict[str, Any]]:
        said = self._document(name, "details")
        return {} if said is None else said

    def request(self, name: str, verb: str, arguments: Mapping[str, Any]) -> Any:
        payload = json.dumps({"verb": verb, "arguments": dict(arguments)}).encode()
        try:
            answer = self._cluster.ready().connection.request(self._cluster.names.ask(name), payload, timeout_s=_ASK_S)
        except ClusterUnavailableError as error:
            raise JournalBusyError(f"the worker that owns the journal of {name} does not answer; try again") from error
        return result_in(answer.payload)

    def rejected_files(self) -> list[RejectedFile]:
        cluster = self._cluster.ready()
        found = entries_in(cluster.jetstream, cluster.names, self.names())
        return [RejectedFile(entry.file, entry.said if "rows" in entry.said else None) for entry in found]

    def read_rejected(self, file: str) -> bytes | None:
        cluster, parts = self._cluster.ready(), Path(file).parts
        if len(parts) != len(("STORE", "rejected", "collector", "stream type", "file")):
            return None
        for entry in entries_in(cluster.jetstream, cluster.names, [parts[2]]):
            if entry.file == file:
                messages = LogMessages(cluster.jetstream, cluster.names, parts[2])
                return content_of(messages, entry.key, entry.token)
        return None

    def publish(self, name: str, figures: Mapping[str, Any]) -> None:
        subject = self._cluster.names.document(name, "figures")
        self._cluster.jetstream.publish(Message(subject, packed(figures)))

    def published(self, name: str) -> dict[str, Any] | None:
        return self._document(name, "figures")

    def take_part(self) -> Worker:
        """Have this process take work of the project; return its session."""
        cluster = self._cluster.ready()
        return cluster.session.start(takes_work=True)

    def leave(self) -> None:
        """End this process's part in the cluster, once its journals are closed."""
        self._cluster.leave()

    def is_lost(self, name: str) -> bool:
        """Whether a user in this process has a journal that another worker may own by now."""
        with self._cluster.lock:
            shared = self._cluster.open.get(name)
            is_replaced = any(name == each for each, _ in self._cluster.replaced)
        return is_replaced or (shared is not None and shared.journal.core.is_lost)

    def claims(self) -> Claims:
        """Who runs what."""
        cluster = self._cluster.ready()
        return until_answered(lambda: read_claims(cluster.jetstream, cluster.names), _WAIT_S)

    def weigh(self, name: str, weight: float) -> None:
        """Publish the weight of a collector that this process runs."""
        self._cluster.session.weigh(name, weight)

    def describe(self) -> dict[str, Any]:
        """Workers, collectors and replicas, as JSON types."""
        claims = self.claims()
        workers = [
            {**asdict(each), "collectors": sum(owner == each.worker for owner in claims.owners.values())}
            for each in sorted(claims.workers.values(), key=lambda each: (each.machine, each.since))
        ]
        collectors = [self._describe(name, claims) for name in self.names()]
        shared = [self._replicas(stream) for stream in (self._cluster.names.state, self._cluster.names.leases)]
        streams = [*collectors, *shared]
        healthy = all(each["leader"] and each["replicas_current"] == each["replicas"] for each in streams)
        return {"healthy": healthy, "workers": workers, "collectors": collectors, "shared": shared}

    def _describe(self, name: str, claims: Claims) -> dict[str, Any]:
        owner = claims.owner_of(name)
        lags = [stream.lag_s for stream in self.overview(name).streams]
        return {
            "collector": name,
            "worker": None if owner is None else owner.worker,
            "machine": None if owner is None else owner.machine,
            "weight": claims.weights.get(name, 1.0),
            "lag_s": max(lags, default=0.0),
            **self._replicas(self._cluster.names.log(name)),
        }

    def _replicas(self, stream: str) -> dict[str, Any]:
        info = until_answered(lambda: self._cluster.ready().jetstream.stream(stream), _WAIT_S)
        if info is None:
            return {"stream": stream, "leader": None, "replicas": 0, "replicas_current": 0, "bytes": 0}
        cluster = info.get("cluster") or {}
        peers = cluster.get("replicas") or []
        current = 1 + sum(bool(peer.get("current")) and not peer.get("offline") for peer in peers)
        leader = cluster.get("leader")
        return {
            "stream": stream,
            "leader": leader,
            "replicas": info["config"]["num_replicas"],
            "replicas_current": current if leader else 0,
            "bytes": info["state"]["bytes"],
        }

    def _document(self, name: str, kind: str) -> dict[str, Any] | None:
        cluster = self._cluster.ready()
        subject = cluster.names.document(name, kind)
        found = until_answered(lambda: cluster.jetstream.last(cluster.names.state, subject), _WAIT_S)
        return None if found is None or not found.payload else unpacked(found.payload)

    def _overview_from_outside(self, name: str) -> JournalOverview:
        cluster = self._cluster.ready()
        jetstream, names = cluster.jetstream, cluster.names
        prefix = f"api2db.{cluster.address.project}.state.{encode(name)}.stream."
        stored = until_answered(lambda: jetstream.last_of_each(names.state, f"{prefix}*"), _WAIT_S)
        states = [StreamState.of(unpacked(each.payload)) for each in stored if each.payload]
        owner = until_answered(lambda: read_owner(jetstream, names, name), _WAIT_S)
        if not states:
            return JournalOverview(running=owner is not None)
        end = LogMessages(jetstream, names, name).end()
        streams = tuple(
            state.overview(name, end.total(state.stream_no), running=owner is not None and state.attached)
            for state in sorted(states, key=lambda state: state.stream_no)
        )
        return JournalOverview(running=owner is not None, streams=streams)


def _state_config(names: Names, replicas: int) -> dict[str, Any]:
    return {
        "name": names.state,
        "subjects": [names.states],
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "deny_delete": True,
        "duplicate_window": 1_000_000_000,
    }


class _Clusters:
    """The clusters that this process uses; a forked child has none of its parent's."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: dict[tuple[int, str], Cluster] = {}

    def after_fork(self) -> None:
        """Another thread may have held the lock when the process was forked."""
        self.lock = threading.Lock()


_clusters = _Clusters()
os.register_at_fork(after_in_child=_clusters.after_fork)


def cluster_at(text: str, home: Path) -> Cluster:
    """The cluster at an address, connected once in a process.

    Raises:
        ConfigurationError: It is no address.
    """
    with _clusters.lock:
        key = os.getpid(), text
        if key not in _clusters.open:
            _clusters.open[key] = Cluster(parse_address(text, home))
        return _clusters.open[key]


def close_clusters() -> None:
    """End the connections of this process."""
    with _clusters.lock:
        mine = [key for key in _clusters.open if key[0] == os.getpid()]
        found = [_clusters.open.pop(key) for key in mine]
    for cluster in found:
        with suppress(ClusterUnavailableError):
            cluster.close()


def cluster_store(text: str, home: Path) -> ClusterJournalStore:
    """The journals of a project in the cluster at an address."""
    return ClusterJournalStore(home, cluster_at(text, home))
