"""A run in a cluster: which journals a process uses, and which collectors a worker runs now."""

import hashlib
import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from api2db.app._host import DRAIN_S, Host
from api2db.app._stopping import Stop, restart_pauses
from api2db.backoff import BackOff
from api2db.disk.folders import project_home
from api2db.errors import Api2dbError, ConfigurationError, JournalError
from api2db.ingest import Collector
from api2db.ingest.runner import home_of, resolved
from api2db.journal import use_store
from api2db.stream import Stream2Local
from api2db.texts import describe_error

if TYPE_CHECKING:
    from api2db.cluster import Claims, ClusterJournalStore

VARIABLE: Final = "API2DB_CLUSTER"
_LOOK_S: Final = 1.0
_STOP_S: Final = 1.0
logger = logging.getLogger("api2db.app")


def cluster_address() -> str | None:
    """The address of the cluster that has the journals; None where they are on this machine's disk."""
    return os.environ.get(VARIABLE) or None


def use_cluster(address: str | None = None) -> None:
    """Have this process, and the processes that it starts, use the journals of a cluster.

    Args:
        address: The cluster's; by default that of API2DB_CLUSTER. Without either, nothing changes.

    Raises:
        ConfigurationError: It is no address.
        MissingExtraError: The extra is not installed.
    """
    text = address or cluster_address()
    if text is None:
        return
    from api2db.cluster import cluster_store, parse_address

    parse_address(text, project_home())
    os.environ[VARIABLE] = text
    use_store(lambda home: cluster_store(text, home))


def worker_groups(enabled: Sequence[Collector], processes: int) -> list[list[str]]:
    """The collectors that each worker process of this machine may run.

    Every process may run all collectors without a pin. The first one also has those that are pinned to this machine,
    because they may share an embedded file.
    """
    from api2db.cluster import machine_name

    free = [collector.name for collector in enabled if collector.pin is None]
    pinned = [collector.name for collector in enabled if collector.pin == machine_name()]
    groups = [[*free, *pinned], *([free] * (min(processes, len(free)) - 1))]
    if not any(groups):
        raise ConfigurationError(
            f"no collector may run on this machine, {machine_name()}: all are pinned to others; set API2DB_MACHINE to "
            "give this machine another name"
        )
    return [group for group in groups if group]


class ClusterHost:
    """Runs the collectors that fall to this worker, and lets go of those that fall to others.

    Each worker looks once a second who is alive and what is free. It takes free collectors up to its even share, and
    gives one back when it has more. Nobody coordinates them: the cluster lets only one of two take a collector.

    Args:
        collectors: Those that this worker may run.
    """

    def __init__(self, collectors: Sequence[Collector]) -> None:
        from api2db.cluster import cluster_store

        self._collectors = {collector.name: collector for collector in collectors}
        self._hosts: dict[str, Host] = {}
        self._leaving: dict[str, threading.Thread] = {}
        self._back_offs: dict[str, BackOff] = {}
        first = collectors[0]
        home = project_home(first.home) if callable(first.streams) else home_of(first, first.streams)
        self._store: ClusterJournalStore = cluster_store(str(cluster_address()), home)

    def watch(self, stop: Stop) -> None:
        """Take and give back collectors, and restart streams that die, until a stop is requested.

        Raises:
            ConfigurationError: A collector can't be run as it is written.
        """
        for collector in self._collectors.values():
            _check_pin(collector)
        trouble = None
        while not stop.wait(_LOOK_S):
            try:
                worker = self._store.take_part()
                self._let_go()
                self._balance(self._store.claims(), worker.worker)
            except JournalError as error:
                if trouble is None:
                    logger.warning("this worker takes no further work: %s", error)
                trouble = error
            else:
                trouble = None
            for host in self._hosts.values():
                host.look_after()

    def drain(self, timeout_s: float = DRAIN_S) -> bool:
        """Stop polling, deliver what is possible within this time, and give everything back."""
        deadline_s = time.monotonic() + timeout_s
        for name in list(self._hosts):
            self._give_back(name, timeout_s)
        for thread in self._leaving.values():
            thread.join(max(0.0, deadline_s + _STOP_S - time.monotonic()))
        has_drained = not any(thread.is_alive() for thread in self._leaving.values())
        self._store.leave()
        return has_drained

    def _balance(self, claims: "Claims", worker: str) -> None:
        """Take what is free up to an even share, or give back one collector."""
        workers = {each.worker for each in claims.workers.values() if each.takes_work} | {worker}
        shared = [each for each in self._collectors.values() if each.pin is None]
        share = math.ceil(len(shared) / len(workers))
        mine = [name for name in self._hosts if self._collectors[name].pin is None]
        for collector in sorted(self._free(claims), key=lambda each: _preference(worker, each.name)):
            if (collector.pin is not None or len(mine) < share) and self._take(collector) and collector.pin is None:
                mine.append(collector.name)
        if len(mine) > share:
            self._give_back(max(mine, key=lambda name: _preference(worker, name)))

    def _free(self, claims: "Claims") -> list[Collector]:
        self._leaving = {name: thread for name, thread in self._leaving.items() if thread.is_alive()}
        mine = {*self._hosts, *self._leaving}
        return [each for each in self._collectors.values() if each.name not in mine and not claims.owner_of(each.name)]

    def _take(self, collector: Collector) -> bool:
        back_off = self._back_offs.setdefault(collector.name, restart_pauses())
        if back_off.failures and not back_off.due:
            return False
        host = Host([collector])
        try:
            host.start()
        except ConfigurationError:
            raise
        except (Api2dbError, OSError) as error:
            logger.info("%s is not run by this worker: %s", collector.name, describe_error(error))
            back_off.failed()
            return False
        back_off.started()
        logger.info("this worker runs %s now", collector.name)
        self._hosts[collector.name] = host
        return True

    def _let_go(self) -> None:
        """Stop what another worker may own by now."""
        for name in [name for name in self._hosts if self._store.is_lost(name)]:
            logger.warning("another worker may run %s by now, so this one stops it", name)
            self._give_back(name, 0)

    def _give_back(self, name: str, timeout_s: float = DRAIN_S) -> None:
        host = self._hosts.pop(name)

        def end() -> None:
            try:
                host.drain(timeout_s)
            except Exception as error:  # noqa: BLE001 - the edge of this thread: recorded
                logger.warning("%s could not be stopped in order: %s", name, describe_error(error))
            else:
                logger.info("this worker no longer runs %s", name)

        self._leaving[name] = threading.Thread(target=end, name=f"api2db-leave-{name}", daemon=True)
        self._leaving[name].start()


def _check_pin(collector: Collector) -> None:
    """Raise if a collector that must always run on one machine does not say on which.

    Raises:
        ConfigurationError: It does not.
    """
    streams = resolved(collector.name, "streams", collector.streams)
    if collector.pin is None and (collector.stores is not None or any(map(_is_local, streams))):
        raise ConfigurationError(
            f"collector {collector.name} writes files of one machine (an embedded database, shards, or a store), so "
            "it must always run there: give it pin= with the name of that machine, or a target that all machines reach"
        )


def _is_local(stream: Any) -> bool:
    return isinstance(stream, Stream2Local) or getattr(stream, "embedded_file", None) is not None


def _preference(worker: str, name: str) -> bytes:
    """The order in which a worker takes collectors: another one for each worker."""
    return hashlib.blake2b(f"{worker}/{name}".encode(), digest_size=8).digest()
