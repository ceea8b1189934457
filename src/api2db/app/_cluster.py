"""A run in a cluster: which journals a process uses, and which collectors a worker runs now."""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from api2db.app._host import DRAIN_S, Host
from api2db.app._spread import USUAL_WEIGHT, spread
from api2db.app._stopping import Stop, restart_pauses
from api2db.backoff import BackOff
from api2db.cpu_time import Stretch, spent_s
from api2db.disk.folders import project_home
from api2db.errors import (
    Api2dbError,
    ClusterUnavailableError,
    ConfigurationError,
    JournalBusyError,
    JournalError,
)
from api2db.ingest import Collector, home_of
from api2db.ingest.runner import resolved
from api2db.journal import use_store
from api2db.stream import Stream2Local
from api2db.texts import describe_error

if TYPE_CHECKING:
    from api2db.cluster import Claims, ClusterJournalStore

VARIABLE: Final = "API2DB_CLUSTER"
_LOOK_S: Final = 1.0
_STOP_S: Final = 1.0
_PATIENCE_S: Final = 0.8
_LATE_S: Final = 4.0  # after which any worker takes what the one that should has left
_AT_ONCE: Final = 4
_WEIGHED_S: Final = 10.0
_NEWEST: Final = 0.3
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

    free = [collector.name for collector in enabled if collector.machine is None]
    pinned = [collector.name for collector in enabled if collector.machine == machine_name()]
    groups = [[*free, *pinned], *([free] * (min(processes, len(free)) - 1))]
    if not any(groups):
        raise ConfigurationError(
            f"no collector may run on this machine, {machine_name()}: all are pinned to others; set API2DB_MACHINE to "
            "give this machine another name"
        )
    return [group for group in groups if group]


class ClusterHost:
    """Runs the collectors that fall to this worker, and lets go of those that fall to others.

    Each worker looks once a second who is alive and what is free, and makes a plan (``_spread.py``). It takes the free
    collectors that its plan gives to it, and gives back those that the plan gives to others. Nobody coordinates the
    workers: the cluster lets only one of two take a collector.

    Args:
        collectors: Those that this worker may run.
    """

    def __init__(self, collectors: Sequence[Collector]) -> None:
        from api2db.cluster import cluster_store

        self._collectors = {collector.name: collector for collector in collectors}
        self._hosts: dict[str, Host] = {}
        self._taking: dict[str, Future[Host]] = {}
        self._leaving: dict[str, threading.Thread] = {}
        self._back_offs: dict[str, BackOff] = {}
        self._free_since_s: dict[str, float] = {}
        self._scales: dict[str, Scale] = {}
        self._stretch, self._stretched, self._stretched_s = Stretch(), 1.0, time.monotonic()
        self._takers = ThreadPoolExecutor(_AT_ONCE, "api2db-take")
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
            self._finish_taking()
            self._let_go()
            try:
                worker = self._store.take_part()
                self._balance(self._store.claims(), worker.worker)
                self._weigh()
            except JournalError as error:
                if trouble is None:
                    logger.warning("this worker takes no further work: %s", error)
                trouble = error
            else:
                trouble = None
            for name, host in self._hosts.items():
                if not self._store.is_lost(name):
                    host.look_after()

    def drain(self, timeout_s: float = DRAIN_S) -> bool:
        """Stop polling, deliver what is possible within this time, and give everything back."""
        deadline_s = time.monotonic() + timeout_s
        self._takers.shutdown(wait=False, cancel_futures=True)
        wait(self._taking.values(), timeout_s / 2)
        with suppress(ConfigurationError):
            self._finish_taking()
        for name in list(self._hosts):
            self._give_back(name, max(0.0, deadline_s - time.monotonic()))
        for thread in self._leaving.values():
            thread.join(max(0.0, deadline_s + _STOP_S - time.monotonic()))
        has_drained = not any(thread.is_alive() for thread in self._leaving.values())
        self._store.leave()
        return has_drained

    def _balance(self, claims: "Claims", worker: str) -> None:
        """Take what the plan gives to this worker, and give back what it gives to others."""
        self._leaving = {name: thread for name, thread in self._leaving.items() if thread.is_alive()}
        owners = {name: self._owner(name, claims, worker) for name in self._collectors}
        free = self._long_free([name for name, owner in owners.items() if owner is None], claims)
        plan = self._plan(claims, worker, owners)
        for name in free:
            is_late = time.monotonic() - self._free_since_s[name] > _LATE_S
            if self._collectors[name].machine is not None or plan.get(name) == worker or is_late:
                self._take(self._collectors[name])
        for name in [name for name in self._hosts if plan.get(name, worker) != worker]:
            if len(self._leaving) < _AT_ONCE:
                self._give_back(name)

    def _plan(self, claims: "Claims", worker: str, owners: Mapping[str, str | None]) -> dict[str, str]:
        """Who runs which collector; those with a pin stay, and weigh on their owners."""
        workers = {each.worker for each in claims.workers.values() if each.takes_work} | {worker}
        shared = {name: owner for name, owner in owners.items() if self._collectors[name].machine is None}
        fixed: dict[str, float] = {}
        for name, owner in claims.owners.items():
            if owner in workers and name not in shared:
                fixed[owner] = fixed.get(owner, 0.0) + claims.weights.get(name, USUAL_WEIGHT)
        return spread(workers, shared, claims.weights, fixed)

    def _owner(self, name: str, claims: "Claims", worker: str) -> str | None:
        if name in self._hosts or name in self._taking:
            return worker
        owner = claims.owners.get(name)
        return None if name in self._leaving or owner == worker else owner  # It may not have been given up in time.

    def _long_free(self, free: Sequence[str], claims: "Claims") -> list[str]:
        """Those that this worker may take: an owner whose session ended while no server led gets a moment."""
        now_s = time.monotonic()
        self._free_since_s = {name: self._free_since_s.get(name, now_s) for name in free if name not in self._leaving}
        patience_s = {name: _PATIENCE_S if name in claims.orphans else 0.0 for name in self._free_since_s}
        return [name for name, since_s in self._free_since_s.items() if now_s - since_s >= patience_s[name]]

    def _take(self, collector: Collector) -> None:
        back_off = self._back_offs.setdefault(collector.name, restart_pauses())
        if not back_off.failures or back_off.due:
            self._taking[collector.name] = self._takers.submit(_started, collector)

    def _finish_taking(self) -> None:
        """Take note of the collectors that have been started.

        Raises:
            ConfigurationError: One can't be started as it is written.
        """
        for name in [name for name, future in self._taking.items() if future.done()]:
            future = self._taking.pop(name)
            if future.cancelled():
                continue
            try:
                self._hosts[name] = future.result()
            except ConfigurationError:
                raise
            except (JournalBusyError, ClusterUnavailableError) as error:
                # The next look tries again: if the new owner dies too, nobody may be in a long pause.
                logger.debug("%s is not run by this worker: %s", name, describe_error(error))
            except (Api2dbError, OSError) as error:
                logger.info("%s is not run by this worker: %s", name, describe_error(error))
                self._back_offs[name].failed()
            else:
                self._back_offs[name].started()
                self._scales[name] = Scale(name)
                logger.info("this worker runs %s now", name)

    def _weigh(self) -> None:
        """Publish what the collectors of this worker weigh."""
        now_s = time.monotonic()
        if now_s - self._stretched_s >= _WEIGHED_S:
            self._stretched, self._stretched_s = self._stretch.since_last(), now_s
        for name in self._hosts:
            weight = self._scales[name].weight(self._stretched)
            if weight is not None:
                self._store.weigh(name, weight)

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
            except Exception as error:  # noqa: BLE001 - the edge of this thread: recorded; the claim is released all the same
                logger.warning("%s could not be stopped in order: %s", name, describe_error(error))
            else:
                logger.info("this worker no longer runs %s", name)

        self._leaving[name] = threading.Thread(target=end, name=f"api2db-leave-{name}", daemon=True)
        self._leaving[name].start()


class Scale:
    """Weighs a collector by the CPU time that it needs: 1, and 1 more for each hundredth of a core.

    It needs what this process spends on it, and what it would spend if its threads did not wait for a core. Without
    that, the collectors of an overloaded machine would look light, and it would get more of them.

    Args:
        name: The collector's.
        every_s: How long it is watched before it is weighed, seconds.
    """

    def __init__(self, name: str, every_s: float = _WEIGHED_S) -> None:
        self._name = name
        self._every_s = every_s
        self._begin = time.monotonic(), spent_s(name)
        self._weight: float | None = None

    def weight(self, stretch: float = 1.0) -> float | None:
        """Its weight over the last minute or so; None if there is nothing new to say.

        Args:
            stretch: How many times longer the process takes than on free cores.
        """
        now = time.monotonic(), spent_s(self._name)
        lasted_s, busy_s = now[0] - self._begin[0], now[1] - self._begin[1]
        if lasted_s <= self._every_s:
            return None
        self._begin = now
        weight = USUAL_WEIGHT + 100 * stretch * busy_s / lasted_s
        self._weight = weight if self._weight is None else self._weight + (weight - self._weight) * _NEWEST
        return self._weight


def _started(collector: Collector) -> Host:
    host = Host([collector])
    host.start()
    return host


def _check_pin(collector: Collector) -> None:
    """Raise if a collector that must always run on one machine does not say on which.

    Raises:
        ConfigurationError: It does not.
    """
    streams = resolved(collector.name, "streams", collector.streams)
    if collector.machine is not None:
        return
    if collector.stores is not None or any(getattr(each, "embedded_file", None) is not None for each in streams):
        raise ConfigurationError(
            f"collector {collector.name} writes files of one machine (an embedded database, or a store), so it must "
            "always run there: give it pin= with the name of that machine, or a target that all machines reach"
        )
    if collector.pin is None and any(isinstance(each, Stream2Local) for each in streams):
        raise ConfigurationError(
            f"collector {collector.name} writes shards on the disk of one machine, so it must always run there: give "
            'it pin= with the name of that machine, or pin="*" if all machines share that disk'
        )
