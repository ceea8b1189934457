"""The journal against a model that is a list: put, read, acknowledged, closed, killed or torn, they agree."""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api2db.journal import ALL, Delivered, Entry, Position, ReadLimit, StreamNo, _segment, split
from api2db.journal._journal import SegmentedJournal
from api2db.journal._overview import describe, publish
from api2db.journal._reader import SegmentedReader
from api2db.journal._store import overview
from api2db.journal._synced import keep_synced, read_synced
from tests.journal.tools import OTHER, STREAM, frame, numbers, segments

STEP_BYTES = 500
OPTIONS: dict[str, Any] = {"segment_bytes": 3000, "slice_limit": ReadLimit(rows=7, size_bytes=4000)}
STREAMS = (STREAM, OTHER)


@dataclass
class Expected:
    """The rows that wait for a stream, each as the number of its frame."""

    waiting: list[int] = field(default_factory=list)


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patched = pytest.MonkeyPatch()
        self.patched.setattr(_segment, "_STEP_BYTES", STEP_BYTES)
        self.place = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.homes = 0
        self.number = 0
        self.cursor: dict[str, Any] = {}
        self.last_sequence = 0
        self.last_time_ns = 0
        self.model = [Expected(), Expected()]
        self.limits = [ReadLimit(1, 1), ReadLimit(1, 1)]

    @property
    def home(self) -> Path:
        return self.place / str(self.homes)

    @initialize(durability=st.sampled_from(["full", "process"]))
    def begin(self, durability: str) -> None:
        self.durability = durability
        self.open()

    def open(self) -> None:
        self.journal = SegmentedJournal(self.home, "flights", self.durability, **OPTIONS)  # type: ignore[arg-type]
        self.readers: list[StreamNo] = []
        self.logs: list[SegmentedReader] = []
        self.ahead: dict[int, tuple[tuple[Position, ReadLimit], list[Entry]]] = {}
        for identity in STREAMS:
            stream_no, log = self.journal.attach(identity)
            self.readers.append(stream_no)
            self.logs.append(log)

    @rule(
        sizes=st.lists(st.integers(0, 20), min_size=1, max_size=4),
        stream=st.sampled_from([None, 0, 1]),
        with_cursor=st.booleans(),
    )
    def put(self, sizes: list[int], stream: int | None, with_cursor: bool) -> None:  # noqa: FBT001
        frames = []
        for rows in sizes:
            self.number += 1
            frames.append(frame(self.number, rows, size_bytes=self.number % 300))
            for at in [stream] if stream is not None else [0, 1]:
                self.model[at].waiting += [self.number] * rows
        if with_cursor:
            self.cursor = {"n": self.number}
        stream_no = ALL if stream is None else self.readers[stream]
        sequence = self.journal.append(frames, stream_no=stream_no, cursor=self.cursor if with_cursor else None)
        assert sequence > self.last_sequence
        self.last_sequence = sequence

    @rule(
        stream=st.sampled_from([0, 1]),
        rows=st.integers(1, 60),
        size_bytes=st.integers(1, 20_000),
        whole=st.booleans(),
        share=st.floats(0, 1),
        as_before=st.booleans(),
        ahead=st.lists(st.integers(0, 20), max_size=3),
    )
    def deliver(
        self,
        stream: int,
        rows: int,
        size_bytes: int,
        whole: bool,  # noqa: FBT001
        share: float,
        as_before: bool,  # noqa: FBT001
        ahead: list[int],
    ) -> None:
        log, expected = self.logs[stream], self.model[stream]
        limit = self.limits[stream] if as_before else ReadLimit(rows, size_bytes, whole_frames=whole)
        self.limits[stream] = limit
        start, read_ahead = self.ahead.pop(stream, (None, []))
        entries = (read_ahead if start == (log.position, limit) else []) or log.read(limit, 0)
        self.check_entries(entries, expected)
        if limit.whole_frames and entries:
            assert entries[-1].frame_end
        read_ahead = []
        for come_meanwhile in ahead if entries else []:
            read_ahead += log.read(limit, after=[*entries, *read_ahead][-1].position)
            self.put([come_meanwhile], stream, with_cursor=False)
        if entries:
            self.ahead[stream] = ((entries[-1].position, limit), read_ahead)
        slices = [*split(entries)]
        taken = slices[: round(share * len(slices))]
        if taken:
            log.acknowledge(taken[-1].position, Delivered(rows=len(numbers(taken))))
            del expected.waiting[: len(numbers(taken))]

    def check_entries(self, entries: list[Entry], expected: Expected) -> None:
        found = numbers(entries)
        assert found == expected.waiting[: len(found)]
        if expected.waiting:
            assert found or entries, "something is given where something waits"
        positions = [entry.position for entry in split(entries)]
        assert positions == sorted(positions)
        assert [entry.position for entry in entries] == [
            last.position for *_, last in (each.split() for each in entries)
        ]

    @rule(stream=st.sampled_from([0, 1]))
    def replace(self, stream: int) -> None:
        log, expected = self.logs[stream], self.model[stream]
        entries, superseded = log.newest()
        found = numbers(entries)
        assert len(set(found)) <= 1
        if found and len(set(expected.waiting)) > 1:
            assert found == [number for number in expected.waiting if number == expected.waiting[-1]]
        if entries:
            log.acknowledge(entries[-1].position, Delivered(superseded=superseded.rows))
            assert log.backlog().rows == 0, "empty frames replace nothing, and may still wait"
            expected.waiting.clear()

    @rule()
    def detach_and_attach(self) -> None:
        self.journal.detach(self.readers[0])
        stream_no, self.logs[0] = self.journal.attach(STREAMS[0])
        assert stream_no == self.readers[0]

    @rule()
    def publish_figures(self) -> None:
        publish(self.journal.core, describe(self.journal.core))

    @rule()
    def close_and_open(self) -> None:
        self.journal.close()
        self.open()

    @rule()
    def kill_and_open(self) -> None:
        old, journal = self.home, self.journal
        self.homes += 1
        shutil.copytree(old, self.home)
        journal.close()
        shutil.rmtree(old)
        rows = [stream.rows_waiting for stream in overview(self.home / "STORE/journal/flights")]
        assert rows == [len(expected.waiting) for expected in self.model]
        self.open()

    @precondition(lambda self: self.number)
    @rule(garbage=st.binary(min_size=1, max_size=40))
    def kill_in_the_middle_of_a_put(self, garbage: bytes) -> None:
        before = read_synced(self.journal.folder)
        self.journal.append([frame(self.number + 1), frame(self.number + 2)])
        old, journal = self.home, self.journal
        self.homes += 1
        shutil.copytree(old, self.home)
        journal.close()
        shutil.rmtree(old)
        path = segments(self.home / "STORE/journal/flights")[-1]
        keep_synced(path.parent, before)
        os.truncate(path, path.stat().st_size - len(garbage))
        self.open()

    @invariant()
    def figures_agree(self) -> None:
        if not hasattr(self, "logs"):
            return
        assert self.journal.cursor() == self.cursor
        for log, expected in zip(self.logs, self.model, strict=True):
            assert log.backlog().rows == len(expected.waiting)
        assert self.journal.core.segment_set.damaged == 0

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
        shutil.rmtree(self.place)
        self.patched.undo()


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
