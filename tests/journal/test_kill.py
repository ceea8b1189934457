"""kill -9 at random, and power cuts: what was acknowledged is there, in order, once; the rest is there whole or not."""

import json
import random
from pathlib import Path

import pytest

from api2db.journal import Delivered, ReadLimit
from api2db.journal._journal import SegmentedJournal
from tests.faults.children import Child, acknowledged
from tests.faults.disks import cut_power, disk_image, mounted
from tests.journal.tools import STREAM, numbers

CHILD = "tests.journal.child"
MANY = "1000000"


def kill_and_check(tmp_path: Path, rounds: int, durability: str) -> None:
    dice = random.Random(rounds)
    options = json.dumps({"durability": durability, "segment_bytes": 200_000, "frames": 3, "size_bytes": 300})
    first, known, log = 0, [0], tmp_path / "log"
    delivered: list[int] = []
    for at in range(rounds):
        before = len(acknowledged(log))
        with Child(CHILD, [str(tmp_path), str(log), str(first), MANY, options]) as child:
            child.wait_for(log, before + 1)
            child.kill_after(0.001, 0.5, dice)
        known = acknowledged(log)
        delivered += deliver_some(tmp_path, dice, all_of_it=at == rounds - 1)
        first = max(known) + 10
    assert delivered == sorted(delivered), "in order"
    assert len(known) >= rounds
    for number in set(delivered) | set(known):
        assert delivered.count(number) == 3, "a put is there whole, once"


def deliver_some(home: Path, dice: random.Random, *, all_of_it: bool) -> list[int]:
    journal = SegmentedJournal(home, "flights")
    try:
        _, log = journal.attach(STREAM)
        found: list[int] = []
        while (entries := log.read(ReadLimit(dice.randrange(1, 1000), 1 << 20), 0)) and (
            all_of_it or dice.random() < 0.7
        ):
            log.acknowledge(entries[-1].position, Delivered(rows=len(entries)))
            found += numbers(entries)
        assert journal.cursor()["n"] >= max(found, default=0), "the state is committed with its rows"
        return found
    finally:
        journal.close()


@pytest.mark.parametrize("durability", ["full", "process"])
def test_what_was_put_before_a_kill_is_there_whole_in_order_and_once(tmp_path: Path, durability: str) -> None:
    kill_and_check(tmp_path, 5 if durability == "full" else 2, durability)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("durability", ["full", "process"])
def test_what_was_put_before_hundreds_of_kills_is_there_whole_in_order_and_once(
    tmp_path: Path, durability: str
) -> None:
    kill_and_check(tmp_path, 100, durability)


def cut_and_check(tmp_path: Path, cuts: int) -> None:
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    options = json.dumps({"segment_bytes": 300_000, "frames": 2, "size_bytes": 2000})
    log = tmp_path / "log"
    dice = random.Random(cuts)
    seen = []
    with disk_image(image, place, 96), Child(CHILD, [str(place), str(log), "0", MANY, options]) as child:
        for at in range(cuts):
            child.wait_for(log, len(acknowledged(log)) + dice.randrange(1, 40))
            with child.held():
                seen.append(acknowledged(log))
                cut_power(image, tmp_path / f"{at}.img")
    for at, known in enumerate(seen):
        with mounted(tmp_path / f"{at}.img", tmp_path / f"{at}"):
            found = deliver_some(tmp_path / f"{at}", dice, all_of_it=True)
        assert set(known) <= set(found), "what was acknowledged is on the disk"
        assert found == sorted(found)
        assert all(found.count(number) == 2 for number in set(found)), "a put is there whole, or not"


def test_what_was_acknowledged_before_a_power_cut_is_there(tmp_path: Path) -> None:
    cut_and_check(tmp_path, 3)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_what_was_acknowledged_before_many_power_cuts_is_there(tmp_path: Path) -> None:
    cut_and_check(tmp_path, 40)
