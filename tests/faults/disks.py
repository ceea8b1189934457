"""Disks that are small, or that lose what was not fsynced: mounted for the length of a test."""

import filecmp
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.needs import lack, need
from tests.stream.eventually import eventually


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of so many bytes."""
    need("mount", "umount", root=True)
    place.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield place
    finally:
        _run("umount", "--lazy", str(place))


def fill(ballast: Path) -> None:
    """Take all that a disk has."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """A mounted disk on which nothing can be written for a while, not by root either."""
    _mount("-o", "remount,ro", str(place))
    try:
        yield
    finally:
        _mount("-o", "remount,rw", str(place))


@contextmanager
def disk_image(image: Path, place: Path, size_mb: int) -> Iterator[Path]:
    """An ext4 file system in a file, mounted."""
    need("mount", "umount", "mkfs.ext4", "losetup", root=True)
    with image.open("wb") as file:
        os.truncate(file.fileno(), size_mb << 20)
    _run("mkfs.ext4", "-q", str(image))
    with mounted(image, place):
        yield place


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Mounted so that for a test's length nothing becomes durable that nobody syncs."""
    place.mkdir(parents=True, exist_ok=True)
    _mount("-o", "loop,commit=300", str(image), str(place))
    try:
        yield place
    finally:
        eventually(lambda: _is_unmounted(place))


def sync_disk(place: Path) -> None:
    """Make all durable that is on one disk."""
    _run("sync", "-f", str(place))


def cut_power(image: Path, copy: Path) -> None:
    """What the disk holds at this moment; whatever is only in memory is not in the copy.

    Whoever writes to the disk is held meanwhile: a copy of which one half is older than the other is no power cut. The
    kernel can't be held, and may write what it has in memory. So it is copied until two copies in a row are equal: both
    are the disk between them.
    """
    before = copy.with_name(f"{copy.name}.before")
    shutil.copyfile(image, copy)
    while not before.exists() or not filecmp.cmp(before, copy, shallow=False):
        copy.replace(before)
        shutil.copyfile(image, copy)
    before.unlink()


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lack(f"can't mount here: {done.stderr.strip()}")


def _is_unmounted(place: Path) -> bool:
    """For a moment after a process has ended the kernel may call its disk busy."""
    subprocess.run(["umount", str(place)], capture_output=True, check=False)
    return not place.is_mount()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
