"""A project on a disk of its own, whose power is cut while a child puts and delivers."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.faults.disks import cut_power, disk_image, mounted, sync_disk
from tests.kills.checker import Verdict
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home

FRAMES_BEFORE_THE_CUT = 20
_Found = TypeVar("_Found")


def cut(fork_server: ForkServer, place: Path, without: str = "") -> dict[str, Verdict]:
    """Cut the power, start again from what the disk held, and say what is found."""
    return cut_and_look(fork_server, place, Home.judgements, without)


def cut_and_look(
    fork_server: ForkServer, place: Path, look: Callable[[Home], _Found], without: str = "", frames: int = 0
) -> _Found:
    """Cut the power once some frames are acknowledged, start again from what the disk held, and look at the home.

    The logs stand on another disk, which loses nothing.
    """
    place.mkdir(exist_ok=True)
    disk, copy = place / "disk.img", place / "copy.img"
    with disk_image(disk, place / "home", 64):
        home = Home(place, without=without)
        fork_server.run("produce", home.project, frames=3)
        sync_disk(place / "home")
        with fork_server.start("produce", home.project) as child:
            child.wait_for(home.log, FRAMES_BEFORE_THE_CUT + frames)
            os.kill(child.pid, signal.SIGSTOP)
            cut_power(disk, copy)
            child.kill()
    with mounted(copy, place / "home"):
        fork_server.run("produce", home.project, frames=3)
        return look(home)
