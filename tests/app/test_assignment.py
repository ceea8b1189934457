"""Which collectors share a process."""

from pathlib import Path

from api2db.app._stopping import restart_pauses
from api2db.app._supervisor import assign

A, B, C = Path("/a.duckdb"), Path("/b.duckdb"), Path("/c.duckdb")


def groups(names: str, files: dict[str, list[Path]], processes: int) -> set[str]:
    return {"".join(sorted(group)) for group in assign(list(names), files, processes)}


def test_collectors_without_shared_files_are_spread_evenly() -> None:
    assert sorted(len(group) for group in assign(list("abcdefg"), {}, 3)) == [2, 2, 3]


def test_collectors_of_one_file_share_a_process() -> None:
    assert groups("abcd", {"a": [A], "c": [A]}, 4) == {"ac", "b", "d"}


def test_files_bind_by_way_of_others() -> None:
    assert groups("abcde", {"a": [A], "b": [B], "c": [A, B], "d": [C]}, 9) == {"abc", "d", "e"}


def test_the_largest_group_is_placed_first() -> None:
    assert groups("abcdef", {"d": [A], "e": [A], "f": [A]}, 2) == {"def", "abc"}


def test_there_are_no_more_processes_than_collectors_and_at_least_one() -> None:
    assert assign(["a"], {}, 8) == [["a"]]
    assert assign(["a", "b"], {}, 0) == [["a", "b"]]


def test_what_keeps_dying_is_started_ever_more_slowly_and_quickly_again_after_a_good_while() -> None:
    now_s = [0.0]
    back_off = restart_pauses(lambda: now_s[0])
    waits = [back_off.failed() for _ in range(9)]
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert not back_off.due
    now_s[0] += 30
    assert back_off.due
    back_off.started()
    now_s[0] += 61
    assert [back_off.failed() for _ in range(2)] == [0.25, 0.5]
