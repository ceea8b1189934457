"""The names that a table cannot have are those that a comparison of each with each finds, without that comparison."""

from collections.abc import Callable, Collection, Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api2db.delivery._fitting import fit
from api2db.errors import BatchRefusedError
from api2db.targets._evolve import new_columns, unplaced_names
from api2db.targets.mysql._dialect import check_column_name, fold
from api2db.targets.port import Column

FOLDS = [fold, str, str.lower, str.upper, str.casefold]
NAMES = st.lists(
    st.one_of(
        st.sampled_from(
            ["a", "A", "é", "É", "e\u0301", "ß", "ss", "SS", "ẞ", "İ", "i", "I", "\u0131", "a ", "😀", "", "\u017f"]
        ),
        st.text("aAéÉßİ\u0131\u017f 😀\u0301", max_size=3),
    ),
    unique=True,
    max_size=12,
)


def twins_of_pairs(
    names: Sequence[str], known: Collection[str], check: Callable[[str], object], fold: Callable[[str], str]
) -> dict[str, str | None]:
    """Each name that has no place, with the name before it that is the same column."""
    twins: dict[str, str | None] = {}
    first: list[str] = []
    for name in sorted(names, key=lambda name: name not in known):
        try:
            check(name)
        except BatchRefusedError:
            twins[name] = None
            continue
        twin = next((other for other in first if name == other or fold(name) == fold(other)), None)
        if twin is None:
            first.append(name)
        else:
            twins[name] = twin
    return twins


@given(names=NAMES, known=NAMES, fold=st.sampled_from(FOLDS))
def test_names_without_a_place_are_those_that_equal_another(
    names: list[str], known: list[str], fold: Callable[[str], str]
) -> None:
    twins = twins_of_pairs(names, known, check_column_name, fold)
    reasons = unplaced_names(names, known, check_column_name, fold)
    assert list(reasons) == list(twins)
    for name, twin in twins.items():
        assert twin is None or f"{twin!r} and {name!r}" in reasons[name]


@given(names=NAMES, known=NAMES, fold=st.sampled_from(FOLDS))
def test_new_columns_are_those_that_equal_no_column(
    names: list[str], known: list[str], fold: Callable[[str], str]
) -> None:
    schema = pa.schema([(name, pa.int64()) for name in names])
    columns = [Column(name, pa.int64(), "BIGINT") for name in known]
    expected = [name for name in names if not any(name == each or fold(name) == fold(each) for each in known)]
    assert new_columns(schema, columns, fold, lambda _: "BIGINT") == [(name, "BIGINT") for name in expected]


@given(names=NAMES, known=NAMES.filter(bool), fold=st.sampled_from(FOLDS))
def test_a_value_goes_into_the_column_of_its_name_or_else_of_a_name_that_equals_it(
    names: list[str], known: list[str], fold: Callable[[str], str]
) -> None:
    homes = {
        name: name if name in known else next((each for each in known if fold(name) == fold(each)), None)
        for name in names
    }
    columns = [Column(name, pa.int64(), "BIGINT") for name in known]
    fitted = fit(pa.table({name: [1] for name in names}), columns, fold)
    assert [mismatch.name for mismatch in fitted.mismatches] == [name for name, home in homes.items() if home is None]
    if placed := [home for home in homes.values() if home is not None]:
        assert fitted.rows.column_names == placed


@pytest.mark.parametrize("count", [100, 4_100])
def test_each_name_is_folded_a_few_times_however_many_there_are(count: int) -> None:
    folded = 0

    def counting(name: str) -> str:
        nonlocal folded
        folded += 1
        return name.lower()

    names = [f"c{number}" for number in range(count)]
    columns = [Column(f"d{number}", pa.int64(), "BIGINT") for number in range(count)]
    assert unplaced_names(names, (), str, counting) == {}
    assert len(new_columns(pa.schema([(name, pa.int64()) for name in names]), columns, counting, str)) == count
    assert len(fit(pa.table({name: [1] for name in names}), columns, counting).mismatches) == count
    assert folded <= 6 * count
