"""Streams and stores on an object store are killed at each request and each call of the system; nothing shows.

A request at which a process is killed is lost, or carried out without it. Readers are pyarrow's own S3 and boto3.
"""

import io
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api2db.formats import write
from tests.kills.checker import Row, Verdict, judge
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.kills.rows import frame
from tests.kills.steps import Step, attached, sample
from tests.kills.test_random_kills import kill_often
from tests.servers.buckets import BUCKET, Bucket, killing

CALLS = ("fsync", "rename", "renameat2", "unlink", "write", "pwrite64")
WAKING = ("write",)  # threads also wake each other with it: 5 of 49 to 80 calls are those of files
IN_THE_SUITE = 6
IN_THE_SUITE_AT_RANDOM = 20
LARGE_ROWS = 200_000  # about 12 MB, uploaded in two parts
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")
Event = tuple[int, bool] | Step
"""A request by its number, and whether it is lost; or a call of the system."""


@dataclass(frozen=True)
class BucketHome(Home):
    """A home whose stream writes into a bucket."""

    bucket: Bucket = field(kw_only=True)
    address: str = field(kw_only=True)

    @property
    def consumed(self) -> str:
        return f"{self.address} consumed"

    def rows(self, kind: str) -> list[Row]:
        if kind == "objects":
            return [*self.bucket.rows(self.address, self.consumed)]
        path = f"{BUCKET}/{self.address.removeprefix(f's3://{BUCKET}/')}/one.parquet"
        return [*self.bucket.table(path).to_pylist()]

    def consume(self, batch: str) -> None:
        if self.kinds == ("objects",):
            self.bucket.consume(self.address, self.consumed)


def home_in(bucket: Bucket, place: Path, kind: str, without: str = "") -> BucketHome:
    address = bucket.new_address()
    path = address if kind == "objects" else f"{address}/one.parquet"
    options = {"path": path, "storage_options": bucket.options}
    return BucketHome(place, (kind,), without, options, bucket=bucket, address=address)


@dataclass
class Deliveries:
    """Deliveries of one stream, each from a new home that has delivered before."""

    fork_server: ForkServer
    bucket: Bucket
    place: Path
    kind: str
    without: str = ""
    rows: int | None = None
    frames: int = 3
    _homes: Iterator[int] = field(default_factory=itertools.count)

    def events(self) -> list[Event]:
        """All that one does when nobody kills it."""
        home, log = self._new(), self.place / "calls"
        with self.bucket.watched() as requests:
            assert self._deliver(home, ["-o", str(log)]) == 0, self.fork_server.errors()
        return _events(requests, log)

    def killed_at(self, event: Event) -> Verdict | None:
        """Kill one there, let somebody take the shards, start again; None where it came to its end before."""
        home = self._new()
        if _killed(self._deliver, home, self.bucket, event) == 0:
            return None
        home.consume("after the kill")  # and reads each, so none is there in part
        self.fork_server.run("deliver", home.project, frames=2)
        assert all(".api2db" not in key for key in self.bucket.keys(home.address)), "a plan or an upload was left"
        assert not list((home.path / "STORE" / ".objects").rglob("*.tmp")), "a temporary file was left"
        return home.judge(self.kind)

    def _new(self) -> BucketHome:
        home = home_in(self.bucket, self.place / str(next(self._homes)), self.kind, self.without)
        self.fork_server.run("produce", home.project, frames=2)
        return home

    def _deliver(self, home: Home, options: Sequence[str], at_start: Callable[[int], None] = lambda _: None) -> int:
        given = {"frames": self.frames, "rows": self.rows}
        return _run_traced(self.fork_server, "deliver", home, options, at_start, given)


@dataclass
class Rounds:
    """Rounds of a store from a bucket into a bucket, each from a new home that has stored before and has new shards."""

    fork_server: ForkServer
    bucket: Bucket
    place: Path
    moves: bool
    _homes: Iterator[int] = field(default_factory=itertools.count)

    def events(self) -> list[Event]:
        home, log = self._new(), self.place / "calls"
        with self.bucket.watched() as requests:
            assert self._store(home, ["-o", str(log)]) == 0, self.fork_server.errors()
        return _events(requests, log)

    def killed_at(self, event: Event) -> Verdict | None:
        """Kill one there, let new shards come, and do more rounds; None where it came to its end before."""
        home = self._new()
        if _killed(self._store, home, self.bucket, event) == 0:
            return None
        self._put(home, range(7, 9))
        self.fork_server.run("store", home.project)
        self.fork_server.run("store", home.project)
        assert self.bucket.keys(home.address) == [".api2db/store.json"], "shards or a plan were left"
        assert not list((home.path / "STORE" / ".objects").rglob("*.tmp")), "a temporary file was left"
        if self.moves:
            assert judge(self.bucket.rows(f"{home.address} moved"), range(1, 9)).is_clean
        return judge(self.bucket.rows(f"{home.address} composed"), range(1, 9))

    def _new(self) -> BucketHome:
        address = self.bucket.new_address()
        options = {"path": address, "storage_options": self.bucket.options, "move_composed_path": f"{address} composed"}
        options |= {"move_shards_path": f"{address} moved"} if self.moves else {}
        place = self.place / str(next(self._homes))
        home = BucketHome(place, ("local",), "", options, bucket=self.bucket, address=address)
        self._put(home, range(1, 3))
        self.fork_server.run("store", home.project)
        self._put(home, range(3, 7))
        return home

    def _put(self, home: BucketHome, numbers: Iterable[int]) -> None:
        for n in numbers:
            file = io.BytesIO()
            write(frame("own", n), file, "parquet")
            self.bucket.write(f"{home.address}/{n:02}.parquet", file.getvalue())

    def _store(self, home: Home, options: Sequence[str], at_start: Callable[[int], None] = lambda _: None) -> int:
        return _run_traced(self.fork_server, "store", home, options, at_start, {})


def _events(requests: Sequence[str], log: Path) -> list[Event]:
    by_request = [(number + 1, is_lost) for number in range(len(requests)) for is_lost in (True, False)]
    found = Counter(match[1] for line in log.read_text().splitlines() if (match := _CALL.match(line)))
    return [*by_request, *(Step(call, number + 1) for call in CALLS for number in range(found[call]))]


def _killed(run: Callable[..., int], home: Home, bucket: Bucket, event: Event) -> int:
    if isinstance(event, Step):
        return run(home, ["-e", f"inject={event.call}:signal=SIGKILL:when={event.number}", "-o", "/dev/null"])
    number, is_lost = event
    pids: list[int] = []

    def at_request(count: int, what: str) -> None:
        killing(pids[0], number, is_lost=is_lost)(count, what)

    with bucket.watched(at_request):
        return run(home, ["-o", "/dev/null"], pids.append)


def _run_traced(
    fork_server: ForkServer,
    job: str,
    home: Home,
    options: Sequence[str],
    at_start: Callable[[int], None],
    given: dict[str, Any],
) -> int:
    go = home.place / "go"
    os.mkfifo(go)
    with fork_server.start(job, home.project, go=str(go), **given) as child:
        child.wait_for_line("ready")
        at_start(child.pid)
        with attached(child.pid, ["-e", f"trace={','.join(CALLS)}", *options]):
            go.write_text("on")
            return child.wait()


def kill_at_events(killed: Deliveries | Rounds, count: int | None, what: str) -> str:
    events = killed.events()
    chosen: Sequence[Any] = events if count is None else sample(events, count)  # type: ignore[arg-type]
    found = {str(event): killed.killed_at(event) for event in chosen}
    verdicts = {event: verdict for event, verdict in found.items() if verdict is not None}
    assert {event: verdict for event, verdict in verdicts.items() if not verdict.is_clean} == {}
    sure = [event for event in chosen if not (isinstance(event, Step) and event.call in WAKING)]
    missed = [event for event in sure if str(event) not in verdicts]
    assert verdicts
    assert len(missed) <= min(4, len(sure) // 2), f"it came to its end before {missed}"
    return f"{what} killed at {len(verdicts)} of its {len(events)} requests and calls"


KINDS = ("objects", "objects_update", "objects_replace")


@pytest.mark.parametrize("kind", ["objects"])
def test_a_delivery_killed_at_a_step_is_finished_by_the_next_process(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str], kind: str
) -> None:
    say.append(kill_at_events(Deliveries(fork_server, bucket, tmp_path, kind), IN_THE_SUITE, f"a delivery into {kind}"))


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_a_delivery_killed_at_every_step_is_finished_by_the_next_process(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str], kind: str
) -> None:
    say.append(kill_at_events(Deliveries(fork_server, bucket, tmp_path, kind), None, f"a delivery into {kind}"))


def test_an_upload_in_parts_killed_halfway_is_seen_by_nobody_and_done_again(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path
) -> None:
    deliveries = Deliveries(fork_server, bucket, tmp_path, "objects", rows=LARGE_ROWS, frames=1)
    home = deliveries._new()
    with bucket.watched() as requests:
        assert deliveries._deliver(home, ["-o", "/dev/null"]) == 0, fork_server.errors()
    parts = [number for number, request in enumerate(requests, 1) if "partNumber=2" in request]
    assert parts, requests
    before = len(bucket.uploads())
    assert deliveries.killed_at((parts[0], True)) == Verdict()
    assert len(bucket.uploads()) > before, "the upload was not halfway"


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_an_upload_in_parts_killed_at_every_step_is_seen_by_nobody_and_done_again(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str]
) -> None:
    deliveries = Deliveries(fork_server, bucket, tmp_path, "objects", rows=LARGE_ROWS, frames=1)
    say.append(kill_at_events(deliveries, None, "an upload in parts"))


@pytest.mark.parametrize("moved", ["moved"])
def test_a_store_killed_at_a_step_is_finished_by_its_next_round(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str], moved: str
) -> None:
    say.append(
        kill_at_events(Rounds(fork_server, bucket, tmp_path, moved == "moved"), IN_THE_SUITE, "a store of a bucket")
    )


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moved", ["deleted", "moved"])
def test_a_store_killed_at_every_step_is_finished_by_its_next_round(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str], moved: str
) -> None:
    say.append(kill_at_events(Rounds(fork_server, bucket, tmp_path, moved == "moved"), None, "a store of a bucket"))


def test_shards_that_nobody_is_told_of_come_twice(fork_server: ForkServer, bucket: Bucket, tmp_path: Path) -> None:
    deliveries = Deliveries(fork_server, bucket, tmp_path, "objects", without="announcement")
    events = [event for event in deliveries.events() if isinstance(event, tuple) and not event[1]]
    verdicts = [deliveries.killed_at(event) for event in events]
    assert any(verdict.doubled for verdict in verdicts if verdict is not None)


def test_whenever_a_process_is_killed_each_acknowledged_row_is_in_the_bucket_once(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str]
) -> None:
    say.append(f"{kill_often(fork_server, home_in(bucket, tmp_path, 'objects'), IN_THE_SUITE_AT_RANDOM)} (a bucket)")


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_random_kills_of_streams_into_a_bucket(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str], kind: str
) -> None:
    say.append(f"{kill_often(fork_server, home_in(bucket, tmp_path, kind), 200)} ({kind})")
