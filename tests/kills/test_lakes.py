"""A child loads into tables of lakes until it is killed, many times: no row is lost, and no reader sees one twice."""

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kills.checker import Row, Verdict
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.kills.test_random_kills import kill_often, kill_once
from tests.servers.buckets import Bucket
from tests.stream.lakes import delta_table

LAKES = ("delta", "iceberg")
LONGEST_S = 0.8  # a child needs a part of it until its first load
# The rows of hundreds of kills would take a merge by key half an hour; producers wait instead.
LITTLE_WAITS = {"max_backlog_bytes": 1 << 20}
KINDS = (*LAKES, *(f"{lake}_{way}" for lake in LAKES for way in ("replace", "by_key")))
IN_THE_SUITE = 5


@dataclass(frozen=True)
class BucketLake(Home):
    """A home whose Delta table is in a bucket; its rows are read from a copy of the objects."""

    bucket: Bucket = field(kw_only=True)
    address: str = field(kw_only=True)

    @property
    def project(self) -> dict[str, Any]:
        return {**super().project, "db": self.address}

    def rows(self, kind: str) -> list[Row]:
        copy = self.place / "copy"
        for key in self.bucket.keys(self.address):
            path = copy / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.bucket.read(f"{self.address}/{key}"))
        return [*delta_table(copy / "delta").to_pylist()]


class MaintainedLake(Home):
    """A home whose table is rewritten by others, so that its rows have no order."""

    def rows(self, kind: str) -> list[Row]:
        return sorted(super().rows(kind), key=lambda row: (row["n"], row["row"]))


def kill_often_beside_maintenance(fork_server: ForkServer, home: MaintainedLake, rounds: int) -> str:
    """Kill who loads and who gathers the files, each at moments of its own."""
    dice, killed = random.Random(rounds), 0
    keepers = ForkServer(home.place / "errors of maintenance")  # A fork server has one child at a time.
    try:
        for _ in range(rounds):
            with keepers.start("maintain", home.project) as keeper:
                keeper.wait_for_line("ready")
                time.sleep(dice.uniform(0, 0.2))
                killed += sum(kill_once(fork_server, home, dice).values())
                time.sleep(dice.uniform(0, 0.2))
                keeper.kill()
    finally:
        keepers.close()
    fork_server.run("produce", home.project, frames=3)
    assert home.judgements() == dict.fromkeys(home.kinds, Verdict())
    gathered = [int(line) for line in (home.logs / "maintained").read_text().split()]
    assert any(gathered), "no files were gathered"
    return f"{killed} random kills beside {len(gathered)} calls that gathered {sum(gathered)} files"


def bucket_lake(bucket: Bucket, place: Path) -> BucketLake:
    options = {"storage_options": bucket.options, **LITTLE_WAITS}
    return BucketLake(place, ("delta",), "", options, bucket=bucket, address=bucket.new_address().replace(" ", "_"))


def test_whenever_a_process_is_killed_each_acknowledged_row_is_in_the_lake_once(
    fork_server: ForkServer, tmp_path: Path, say: list[str]
) -> None:
    say.append(f"{kill_often(fork_server, Home(tmp_path, LAKES), 20, LONGEST_S)} (lakes)")


def test_so_it_is_while_others_gather_the_files_and_are_killed_too(
    fork_server: ForkServer, tmp_path: Path, say: list[str]
) -> None:
    say.append(kill_often_beside_maintenance(fork_server, MaintainedLake(tmp_path, ("delta",)), IN_THE_SUITE))


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_random_kills_of_lakes(fork_server: ForkServer, tmp_path: Path, say: list[str], kind: str) -> None:
    home = Home(tmp_path, (kind,), options=LITTLE_WAITS)
    say.append(f"{kill_often(fork_server, home, 200, LONGEST_S)} ({kind})")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_two_hundred_random_kills_of_a_lake_in_a_bucket(
    fork_server: ForkServer, bucket: Bucket, tmp_path: Path, say: list[str]
) -> None:
    say.append(f"{kill_often(fork_server, bucket_lake(bucket, tmp_path), 200, LONGEST_S)} (delta in a bucket)")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_two_hundred_random_kills_beside_maintenance(fork_server: ForkServer, tmp_path: Path, say: list[str]) -> None:
    say.append(kill_often_beside_maintenance(fork_server, MaintainedLake(tmp_path, ("delta",)), 200))
