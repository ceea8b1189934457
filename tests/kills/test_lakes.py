"""A child loads into tables of lakes until it is killed, many times: no row is lost, and no reader sees one twice."""

from pathlib import Path

import pytest

from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.kills.test_random_kills import kill_often

LAKES = ("delta", "iceberg")
LONGEST_S = 2.0  # a child imports the library of Iceberg first; an earlier kill would be before its first load
KINDS = (*LAKES, *(f"{lake}_{way}" for lake in LAKES for way in ("replace", "by_key")))


def test_whenever_a_process_is_killed_each_acknowledged_row_is_in_the_lake_once(
    fork_server: ForkServer, tmp_path: Path, say: list[str]
) -> None:
    say.append(f"{kill_often(fork_server, Home(tmp_path, LAKES), 20, LONGEST_S)} (lakes)")


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_random_kills_of_lakes(fork_server: ForkServer, tmp_path: Path, say: list[str], kind: str) -> None:
    say.append(f"{kill_often(fork_server, Home(tmp_path, (kind,)), 200, LONGEST_S)} ({kind})")
