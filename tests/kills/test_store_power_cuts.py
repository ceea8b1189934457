"""The power is cut in the midst of a round, or once the round behind a kill has ended: each row is stored once."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.disks import cut_power, disk_image, mounted, sync_disk
from tests.faults.needs import need
from tests.kills.checker import Verdict, judge
from tests.kills.fork_server import Child, ForkServer
from tests.kills.homes import Home
from tests.kills.steps import Step, attached, sample
from tests.kills.test_stores import Killing, in_folder
from tests.stream.eventually import eventually

ON_ANOTHER_DISK = {
    "file converter": ["composed", "moved"],
    "sqlite": ["db"],
    "sqlite composing and moving": ["moved"],
    "local": ["STORE/flights/composed"],
    "local by date": ["STORE/flights/composed"],
}
ROUNDS = [(name, elsewhere) for name, folders in ON_ANOTHER_DISK.items() for elsewhere in folders]
IN_THE_SUITE = 2
_SIZE_MB = 16


@dataclass
class Cutting(Killing):
    """Rounds whose home is on a disk of its own, and one folder of it on another."""

    elsewhere: str = ""

    def cut_at(self, step: Step, *, killed: bool) -> Verdict | None:
        """Cut the power behind a step, or kill there, let the next round end, and cut it then; None where none is made.

        What comes behind the cut is stored by two more rounds.
        """
        home = self._home(self.place / "cut")
        with self._disks(home) as images:
            shutil.copytree(self.origin.path, home.path, dirs_exist_ok=True)
            for folder in (home.path, home.path / self.elsewhere):
                sync_disk(folder)
            with self._stopped_behind(home, step) as child:
                if child is None:
                    return None
                if killed:
                    child.kill()
                    self.fork_server.run("store", home.project)
                for image in images:
                    cut_power(image, image.with_suffix(".copy"))
                child.kill()
        with self._restarted(home, images):
            self.put(home, range(9, 12))
            for _ in range(2):
                self.fork_server.run("store", home.project)
            if "move_shards_path" in self.options:
                assert judge(in_folder(home.path / "composed"), range(1, 12)).is_clean
                assert sorted(int(path.stem) for path in (home.path / "moved").glob("*.parquet")) == list(range(1, 12))
            return self.judged(home)

    @contextmanager
    def _disks(self, home: Home) -> Iterator[Sequence[Path]]:
        images = [home.place / "one.disk", home.place / "other.disk"]
        with disk_image(images[0], home.path, _SIZE_MB), disk_image(images[1], home.path / self.elsewhere, _SIZE_MB):
            yield images

    @contextmanager
    def _restarted(self, home: Home, images: Sequence[Path]) -> Iterator[None]:
        with ExitStack() as disks:
            for image, folder in zip(images, (home.path, home.path / self.elsewhere), strict=True):
                disks.enter_context(mounted(image.with_suffix(".copy"), folder))
            yield

    @contextmanager
    def _stopped_behind(self, home: Home, step: Step) -> Iterator[Child | None]:
        go, log = home.place / "go", home.place / "trace"
        go.unlink(missing_ok=True)
        log.unlink(missing_ok=True)
        os.mkfifo(go)
        fault = f"inject={step.call}:signal=SIGSTOP:when={step.number}"
        with self.fork_server.start("store", home.project, go=str(go)) as child:
            child.wait_for_line("ready")
            with attached(child.pid, ["-e", f"trace={','.join(self.calls)}", "-e", fault, "-o", str(log)]):
                go.write_text("on")
                eventually(lambda: any(said in log.read_text() for said in ("stopped by SIGSTOP", "+++ exited")))
                if "stopped by SIGSTOP" in log.read_text():
                    yield child
                else:
                    assert child.wait() == 0
                    yield None


def cut_at_steps(cutting: Cutting, steps: Sequence[Step]) -> str:
    found = {
        f"{step}{', killed' if killed else ''}": cutting.cut_at(step, killed=killed)
        for step in steps
        for killed in (False, True)
    }
    verdicts = {step: verdict for step, verdict in found.items() if verdict is not None}
    assert {step: verdict for step, verdict in verdicts.items() if not verdict.is_clean} == {}
    assert verdicts
    return f"a store ({cutting.name}, {cutting.elsewhere} on another disk): {len(verdicts)} power cuts"


@pytest.fixture(autouse=True)
def _disks_can_be_mounted() -> None:
    need("mount", "mkfs.ext4", root=True)


@pytest.mark.parametrize(("name", "elsewhere"), ROUNDS)
def test_a_store_whose_power_is_cut_stores_each_row_once(
    fork_server: ForkServer, tmp_path: Path, say: list[str], name: str, elsewhere: str
) -> None:
    cutting = Cutting(fork_server, tmp_path, name, elsewhere=elsewhere)
    say.append(cut_at_steps(cutting, _telling(cutting.steps())))


def _telling(steps: Sequence[Step]) -> list[Step]:
    """The renames that publish, with the first deletion of a shard: where what was written last is not synced yet."""
    return [step for step in steps if step in {Step("renameat2", 1), Step("unlink", 1)}][:IN_THE_SUITE]


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "elsewhere"), ROUNDS)
def test_a_store_whose_power_is_cut_at_any_step_stores_each_row_once(
    fork_server: ForkServer, tmp_path: Path, say: list[str], name: str, elsewhere: str
) -> None:
    cutting = Cutting(fork_server, tmp_path, name, elsewhere=elsewhere)
    say.append(cut_at_steps(cutting, sample(cutting.steps(), 40)))
