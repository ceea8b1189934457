"""A torture: a producer and its stream in a process, faults that are injected one a round, and the check at the end.

The seed decides which fault each round has, and all moments and sizes. What happens then also depends on the machine.
"""

import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from api2db.errors import Api2dbError, ConfigurationError, TargetUnavailableError
from api2db.journal import journal_store
from api2db.progress import tell
from api2db.torture import clients
from api2db.torture._server import Killable
from api2db.torture.checker import Check, RowCounts, Verdict
from api2db.torture.fork_server import Child, ChildError, ForkServer
from api2db.torture.jobs import COLLECTOR
from api2db.torture.proxy import Proxy
from api2db.torture.scratch import FAULTS, Fault, Scratch

JOBS: Final = "api2db.torture.jobs"
_FIRST_FRAMES: Final = 3
_SHORTEST_S: Final = 0.001
_LONGEST_S: Final = 0.5
_WITHIN_S: Final = 90.0
_GLANCE_S: Final = 0.002
_PAUSE_S: Final = 0.2
_MOST_BYTES: Final = 1 << 20
_BY_PROXY: Final[frozenset[Fault]] = frozenset({"cut", "lost-commit"})
_EXAMPLES: Final = 10


@dataclass(frozen=True)
class Outcome:
    """What a torture has found.

    Attributes:
        target: The target, without a secret.
        seed: Repeats the choices.
        faults: How often each fault was injected.
        processes: How many processes put and delivered.
        frames: How many frames were acknowledged.
        rows: The numbers of rows.
        verdict: The frames with which something is wrong.
        trouble: What kept the torture from its end; None if nothing did.
        seconds: How long it took, with the check.
    """

    target: str
    seed: int
    faults: dict[Fault, int]
    processes: int
    frames: int
    rows: RowCounts
    verdict: Verdict
    trouble: str | None
    seconds: float

    @property
    def held(self) -> bool:
        """Whether the promise held: each acknowledged row is there or set aside, once, in order and as it was put."""
        return self.trouble is None and self.verdict.is_clean

    def as_json(self) -> dict[str, Any]:
        """Convert it to JSON types; of the frames with which something is wrong, the first few."""
        wrong = {what: frames[:_EXAMPLES] for what, frames in asdict(self.verdict).items() if frames}
        return {
            "held": self.held,
            "target": self.target,
            "seed": self.seed,
            "faults": self.faults,
            "processes": self.processes,
            "frames": self.frames,
            "rows": self.rows._asdict(),
            "wrong_frames": wrong,
            "trouble": self.trouble,
            "seconds": round(self.seconds, 1),
        }


def chosen_faults(scratch: Scratch, wanted: Sequence[str] | None, *, may_kill_server: bool) -> tuple[Fault, ...]:
    """Return the faults of a torture: those that are wanted, or all that the target can have.

    Raises:
        ConfigurationError: There is no such fault, or the target can't have it; the message says why.
    """
    can: dict[Fault, str] = {fault: _why_not(fault, scratch, may_kill_server=may_kill_server) for fault in FAULTS}
    if wanted is None:
        return tuple(fault for fault, why_not in can.items() if not why_not)
    if unknown := [fault for fault in wanted if fault not in can]:
        raise ConfigurationError(f"there is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    chosen = tuple(fault for fault in FAULTS if fault in wanted)
    for fault in chosen:
        if can[fault]:
            raise ConfigurationError(f"--faults {fault}: {can[fault]}")
    if not chosen:
        raise ConfigurationError(f"name at least one fault: {', '.join(FAULTS)}")
    return chosen


def _why_not(fault: Fault, scratch: Scratch, *, may_kill_server: bool) -> str:
    if fault in scratch.faults:
        if fault == "server-kill" and not may_kill_server:
            return "say which server may be killed: --server-pid-file, or --server-command"
        if fault == "disk-full" and not hasattr(resource, "prlimit"):
            return "only Linux limits the files of another process"
        return ""
    if scratch.address is None:
        return f"{scratch.kind} has no server; it can have {', '.join(scratch.faults)}"
    return "with tls=require no proxy sees the COMMIT; use ?tls=prefer on a network that you trust"


@dataclass
class Torture:
    """One torture of one target.

    Args:
        scratch: The target.
        home: An empty folder for the journal and the logs.
        faults: As ``chosen_faults`` returns them.
        rounds: How many faults to inject.
        seed: Decides the choices.
        server: The server that may be killed.
        jobs: The module that puts and delivers; tests plant bugs in another one.
    """

    scratch: Scratch
    home: Path
    faults: Sequence[Fault]
    rounds: int
    seed: int
    server: Killable | None = None
    jobs: str = JOBS

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311 - the choices must be repeatable
        self._injected: Counter[Fault] = Counter()
        self._processes = 0
        self._child: Child | None = None
        self._inject: dict[Fault, Callable[[], None]] = {
            "kill": self._kill,
            "cut": self._cut,
            "lost-commit": self._lose_commit,
            "server-kill": self._kill_server,
            "disk-full": self._fill_disk,
        }

    @property
    def order(self) -> list[Fault]:
        """The fault of each round: each fault about equally often."""
        faults = [self.faults[number % len(self.faults)] for number in range(self.rounds)]
        random.Random(self.seed).shuffle(faults)  # noqa: S311 - as above
        return faults

    def run(self) -> Outcome:
        """Inject all faults, deliver all that waits, and check the target.

        What the torture has made is removed, unless the promise did not hold.

        Raises:
            Api2dbError: It could not begin.
        """
        began_s = time.monotonic()
        for folder in (self._project_home, self._logs):
            folder.mkdir(parents=True)
        with ExitStack() as ends:
            try:
                outcome = self._outcome(ends, began_s)
            except BaseException:
                with suppress(Api2dbError):  # what has ended the torture is what its user must know
                    self._clean()
                raise
            if outcome.held:
                self._clean()
            return outcome

    def _outcome(self, ends: ExitStack, began_s: float) -> Outcome:
        self._begin(ends)
        self._run_child(_FIRST_FRAMES)
        self.scratch.keep_order()
        trouble = self._all_rounds()
        return self._checked(trouble, began_s)

    def _begin(self, ends: ExitStack) -> None:
        if self.server is not None:
            ends.callback(self.server.end)
            self.server.begin()
        deadline = time.monotonic() + (0 if self.server is None else _WITHIN_S)
        while True:
            try:
                self.scratch.begin()
                break
            except TargetUnavailableError:  # a server that was just started listens before it answers
                if time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_S)
        self._proxy = self._proxied(ends)
        self._forks = ForkServer(self.jobs, self.home / "errors")
        ends.callback(self._forks.close)
        ends.callback(self._end_child)

    def _clean(self) -> None:
        """Remove the scratch table or folder, and the folder of the torture."""
        self._end_child()
        key = ""
        store = journal_store(self._project_home)
        if COLLECTOR in store.names():
            handle = store.open(COLLECTOR)
            try:
                key = next((stream.key for stream in handle.journal.registered()), "")
            finally:
                handle.release()
        try:
            self.scratch.drop(key)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    @property
    def _project_home(self) -> Path:
        return self.home / "project"

    @property
    def _logs(self) -> Path:
        return self.home / "logs"

    @property
    def _acknowledged(self) -> Path:
        return self._logs / "acknowledged"

    @property
    def _project(self) -> dict[str, Any]:
        port = None if self._proxy is None else self._proxy.port
        target = self.scratch.arguments(port, plain="lost-commit" in self.faults)
        return {"home": str(self._project_home), "logs": str(self._logs), "kind": self.scratch.kind, "target": target}

    def _proxied(self, ends: ExitStack) -> Proxy | None:
        if self.scratch.address is None or not _BY_PROXY & set(self.faults):
            return None
        return ends.enter_context(Proxy(*self.scratch.address))

    def _all_rounds(self) -> str | None:
        """Inject the faults and deliver all that is left; return what went wrong with that."""
        try:
            for number, fault in enumerate(self.order):
                tell("faults", number, self.rounds)
                self._running()
                self._inject[fault]()
                self._injected[fault] += 1
            self._end_child()
            tell("delivering what waits")
            self._run_child(_FIRST_FRAMES)
        except Api2dbError as error:
            return " ".join(str(error).split("\n")[-1:])
        return None

    def _checked(self, trouble: str | None, began_s: float) -> Outcome:
        self._end_child()
        tell("reading the target")
        check = Check()
        check.store(self.scratch.rows())
        check.reject(clients.in_shards(self._project_home / "STORE" / "rejected"))
        acknowledged = [int(line) for line in self._acknowledged.read_text().splitlines() if line]
        return Outcome(
            self.scratch.name,
            self.seed,
            dict(self._injected),
            self._processes,
            len(acknowledged),
            check.counts(acknowledged),
            check.verdict(acknowledged),
            trouble,
            time.monotonic() - began_s,
        )

    def _kill(self) -> None:
        child = self._running()
        self._pause(_SHORTEST_S, _LONGEST_S)
        child.kill()
        self._child = None

    def _cut(self) -> None:
        proxy = self._network()
        before = proxy.cuts
        proxy.reset_after(int(10 ** self._dice.uniform(1, 5)))
        self._wait(lambda: proxy.cuts > before, "nothing sent to the server")

    def _lose_commit(self) -> None:
        proxy = self._network()
        before = proxy.answers_lost
        proxy.drop_answers(after=b"COMMIT", then_reset=True)
        self._wait(lambda: proxy.answers_lost > before, "no COMMIT")
        proxy.heal()

    def _kill_server(self) -> None:
        if self.server is None:
            raise AssertionError("chosen_faults has checked that there is a server to kill")
        self._pause(_SHORTEST_S, _LONGEST_S)
        self.server.kill()
        self.server.start()

    def _fill_disk(self) -> None:
        """Limit the size of the child's files for a moment: no file grows, as on a full disk."""
        child = self._running()
        _, most = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
        limit = int(2 ** self._dice.uniform(0, _MOST_BYTES.bit_length()))
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (limit, most))
        self._pause(_SHORTEST_S, _LONGEST_S)
        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (most, most))

    def _network(self) -> Proxy:
        if self._proxy is None:
            raise AssertionError("these faults have a proxy")
        return self._proxy

    def _pause(self, shortest_s: float, longest_s: float) -> None:
        time.sleep(self._dice.uniform(shortest_s, longest_s))

    def _running(self) -> Child:
        """Return the child that puts and delivers, once it has put something more; start one if there is none.

        Raises:
            ChildError: It has ended by itself, or nothing is acknowledged any more.
        """
        if self._child is None:
            self._child = self._started(0)
        size = self._acknowledged.stat().st_size
        self._wait(lambda: self._acknowledged.stat().st_size > size, "nothing acknowledged")
        return self._child

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _WITHIN_S
        while not condition():
            if self._child is None or not self._child.is_alive:
                raise ChildError(f"the process that puts and delivers has ended by itself: {self._forks.errors()}")
            if time.monotonic() > deadline:
                raise ChildError(f"{otherwise} within {_WITHIN_S:.0f} s")
            time.sleep(_GLANCE_S)  # no call waits for a file and a process at once

    def _run_child(self, frames: int) -> None:
        with self._started(frames) as child:
            if child.wait() != 0:
                raise ChildError(f"not all was delivered: {self._forks.errors()}")

    def _started(self, frames: int) -> Child:
        self._processes += 1
        return self._forks.start("produce", self._project, frames=frames)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
