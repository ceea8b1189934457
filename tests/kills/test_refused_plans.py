"""The disk refuses to keep a plan, though it has it: whatever the next process finds, each row is there once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.children import Child
from tests.kills.checker import Verdict, in_shards, judge
from tests.kills.refused_plans import opened_loader, shards_of
from tests.kills.steps import attached

FAILING_FSYNC = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=1", "-o", "/dev/null"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@contextmanager
def refused(home: Path) -> Iterator[tuple[Child, Path]]:
    """A process whose plan is written, and whose fsync then fails; it is killed at the end of the block.

    What the process sees is that the plan isn't there; what the next one sees is that it is.
    """
    go = home.with_name("go")
    os.mkfifo(go)
    with Child("tests.kills.refused_plans", [str(home), str(go)]) as child:
        assert child.wait_for_line() == "ready"
        with attached(child.pid, FAILING_FSYNC) as tracer:
            go.write_text("on")
            assert child.wait_for_line() == "refused"
            tracer.terminate()
        yield child, go


def check_each_row_is_there_once(home: Path) -> None:
    with opened_loader(home) as found:
        found.loader.recover()
        found.deliver()
    assert judge(in_shards(shards_of(home)), [1]) == Verdict()


def test_a_refused_plan_that_is_on_the_disk_after_all_is_carried_out(home: Path) -> None:
    with refused(home):
        pass
    with opened_loader(home) as found:
        assert found.log.checkpoint("plan") is not None, "this test needs a plan that was refused and is there"
    check_each_row_is_there_once(home)


def test_a_refused_plan_is_overwritten_before_the_files_that_it_names_are_cleared_away(home: Path) -> None:
    with refused(home) as (child, go):
        go.write_text("on")
        assert child.wait_for_line() == "settled"
    check_each_row_is_there_once(home)
