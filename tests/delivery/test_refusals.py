"""Rows that a target refuses are found one by one, alone or beside those before them."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api2db.delivery._refusals import TooManyRefusalsError, find_refused
from api2db.errors import BatchRefusedError

NO = BatchRefusedError("no")
Rule = Callable[[Sequence[int]], BatchRefusedError | None]


def refuses(bad: set[int]) -> Rule:
    return lambda rows: BatchRefusedError(f"refused {min(bad & set(rows))}") if bad & set(rows) else None


@given(size=st.integers(1, 200), data=st.data())
def test_exactly_the_rows_at_fault_are_found_each_with_its_own_reason(size: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    found = find_refused(range(size), refuses(bad), refuses(bad)(range(size)) or NO, None)
    assert found == {row: f"refused {row}" for row in bad}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40).filter(lambda keys: len(set(keys)) < len(keys)))
def test_of_rows_that_clash_the_first_is_kept(keys: list[int]) -> None:
    def clash(rows: Sequence[int]) -> BatchRefusedError | None:
        taken = [keys[row] for row in rows]
        return NO if len(set(taken)) < len(taken) else None

    found = find_refused(range(len(keys)), clash, NO, None)
    assert sorted(found) == [row for row in range(len(keys)) if keys[row] in keys[:row]]


def test_a_row_at_fault_costs_few_trials() -> None:
    tried: list[int] = []

    def trial(rows: Sequence[int]) -> BatchRefusedError | None:
        tried.append(len(rows))
        return refuses({77_777})(rows)

    assert list(find_refused(range(100_000), trial, NO, None)) == [77_777]
    assert len(tried) <= math.ceil(math.log2(100_000)) + 2


def test_a_single_row_is_at_fault_without_a_trial() -> None:
    def trial(_rows: Sequence[int]) -> BatchRefusedError | None:
        raise AssertionError

    assert find_refused([5], trial, NO, 0) == {5: "no"}


def test_too_many_faults_for_the_trials_are_told() -> None:
    with pytest.raises(TooManyRefusalsError):
        find_refused(range(1000), refuses(set(range(1000))), NO, 200)


def test_where_trials_do_not_show_the_fault_no_row_is_blamed() -> None:
    """A rule that is checked at the commit, say, which a trial never reaches."""
    with pytest.raises(TooManyRefusalsError):
        find_refused(range(10), lambda _rows: None, NO, None)
