"""How the work of a cluster is spread over its workers."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api2db.app._spread import spread

_WEIGHTS = st.integers(100, 10_000).map(lambda hundredths: hundredths / 100)


def loads(plan: dict[str, str], weights: dict[str, float]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, worker in plan.items():
        found[worker] += weights.get(name, 1)  # type: ignore[assignment]
    return found


def test_equal_collectors_are_spread_evenly_and_the_heavy_one_is_alone() -> None:
    names = [f"c{number}" for number in range(20)]
    assert set(Counter(spread("abcde", dict.fromkeys(names), {}).values()).values()) == {4}
    plan = spread("ab", dict.fromkeys(["heavy", "x", "y", "z"]), {"heavy": 3.0, "x": 1.0, "y": 1.0, "z": 1.0})
    assert {plan[name] for name in "xyz"} == {"a", "b"} - {plan["heavy"]}


def test_only_the_work_of_a_worker_that_is_gone_moves() -> None:
    names = [f"c{number}" for number in range(20)]
    before = spread("abcde", dict.fromkeys(names), {})
    after = spread("abcd", before, {})
    assert {name for name in names if after[name] != before[name]} == {name for name in names if before[name] == "e"}
    assert set(Counter(after.values()).values()) == {5}


def test_a_worker_that_comes_gets_its_share_and_nothing_else_moves() -> None:
    names = [f"c{number}" for number in range(20)]
    before = spread("abcd", dict.fromkeys(names), {})
    after = spread("abcde", before, {})
    moved = [name for name in names if after[name] != before[name]]
    assert {after[name] for name in moved} == {"e"}
    assert len(moved) == 4


def test_small_differences_move_nothing() -> None:
    names = [f"c{number}" for number in range(105)]
    before = {name: "ab"[number >= 55] for number, name in enumerate(names)}
    assert spread("ab", before, {}) == before


def test_nothing_moves_because_the_collectors_of_one_worker_are_weighed_first() -> None:
    before = {f"c{number}": "ab"[number >= 8] for number in range(16)}
    assert spread("ab", before, {name: 3.0 for name, owner in before.items() if owner == "a"}) == before


def test_what_a_worker_keeps_counts_as_its_load() -> None:
    plan = spread("ab", dict.fromkeys(["x", "y", "z"]), {}, fixed={"a": 3.0})
    assert set(plan.values()) == {"b"}


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(_WEIGHTS, st.one_of(st.none(), st.integers(0, 7))),
        max_size=30,
    ),
)
def test_a_plan_gives_each_collector_to_a_living_worker_and_stays_as_it_is(
    count: int, given_: list[tuple[float, int | None]]
) -> None:
    workers = [f"w{number}" for number in range(count)]
    weights = {f"c{number}": weight for number, (weight, _) in enumerate(given_)}
    owners = {f"c{number}": None if owner is None else f"w{owner}" for number, (_, owner) in enumerate(given_)}
    plan = spread(workers, owners, weights)
    assert set(plan) == set(owners)
    assert set(plan.values()) <= set(workers)
    assert spread(workers, plan, weights) == plan, "a plan that was carried out has nothing left to do"
    assert spread(list(reversed(workers)), dict(reversed(owners.items())), weights) == plan, "all workers agree"
    heaviest, mean = max(weights.values(), default=0), sum(weights.values()) / count
    found = loads(plan, weights)
    spreads = [found[worker] for worker in workers]
    assert max(spreads) - min(spreads) <= max(heaviest, 0.2 * mean) * 1.0001


@pytest.mark.parametrize("workers", ["", "a"])
def test_without_others_a_worker_has_all(workers: str) -> None:
    assert spread(workers, {"x": None, "y": "gone"}, {}) == dict.fromkeys("xy" if workers else "", "a")
