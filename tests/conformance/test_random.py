"""Frames that nobody thought of: all that a target holds comes back, and no row is lost however frames drift."""

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from api2db import Stream
from api2db.frames import encode_cell
from tests.conformance.clients import CASES, LAKES, LONG, TABLES, TargetCase
from tests.conformance.columns import bits
from tests.conformance.limits import reasons_of
from tests.conformance.seen import seen
from tests.frames.values import TYPES, arrays
from tests.stream.cases import rejected_rows
from tests.stream.databases import DATABASES

ODD = {pa.decimal256(60, 20), pa.decimal256(76, 0)}  # text in a database, whose digits are another test's
CARRIED = [type_ for type_ in TYPES if type_ not in ODD]
_numbers = itertools.count()


@pytest.fixture(params=[*CASES, *LONG], ids=lambda case: case.types.target)
def case(request: pytest.FixtureRequest) -> TargetCase:
    chosen: TargetCase = request.param
    return chosen.use(request)


@pytest.fixture(params=[1, pytest.param(10, marks=pytest.mark.torture)], ids=["few", "many"])
def times(request: pytest.FixtureRequest) -> int:
    factor: int = request.param
    return factor


def examples(case: TargetCase) -> int:
    """More where they are cheap."""
    return 15 if not case.is_table or case.dialect in DATABASES else 5


def of_so_many(examples: int) -> settings:
    """Shrinking would take minutes: each example is a stream of its own."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def a_stream(case: TargetCase, folder: Path, **options: Any) -> Iterator[tuple[Path, Stream]]:
    """A stream into nothing: a home of its own, and no table."""
    number = next(_numbers)
    home = folder / str(number)
    home.mkdir()
    case.drop(home)
    with case.stream(home, stream_id=f"stream {number}", durability="process", **options) as stream:
        yield home, stream


def frames() -> some.SearchStrategy[pa.Table]:
    """Some columns of any types, three rows."""
    column = some.sampled_from(CARRIED).flatmap(lambda type_: arrays(type_, near=True))
    return some.lists(column, min_size=1, max_size=20).map(_table)


def _table(columns: list[pa.Array]) -> pa.Table:
    rows = max(map(len, columns))
    padded = [pa.concat_arrays([column, pa.nulls(rows - len(column), column.type)]) for column in columns]
    names = [f"c{place}" for place in range(len(columns))]
    return pa.table([pa.array(range(rows)), *padded], names=["number", *names])


def test_any_frame_comes_back(case: TargetCase, tmp_path: Path, times: int) -> None:
    @of_so_many(times * examples(case))
    @given(frames())
    def check(frame: pa.Table) -> None:
        with a_stream(case, tmp_path) as (home, stream):
            stream.stream(frame)
        rejected = {row["number"] for row in rejected_rows(home, case.stream_type)}
        beyond = {row for row in range(frame.num_rows) if _is_beyond(case, frame, row)}
        assert rejected == beyond
        kept = frame.take([row for row in range(frame.num_rows) if row not in beyond])
        found = case.read(home)
        for name in frame.column_names[1:]:
            wanted = [_meant(case, value) for value in kept.column(name)]
            got = found.get(name, [None] * kept.num_rows)
            assert _seen(case, got, wanted, kept.column(name).type) == wanted, name

    check()


def _is_beyond(case: TargetCase, frame: pa.Table, row: int) -> bool:
    cells = [frame.column(name).slice(row, 1).combine_chunks() for name in frame.column_names[1:]]
    return any(reason for cell in cells for reason in reasons_of(case.types, cell))


def _meant(case: TargetCase, value: pa.Scalar) -> Any:
    """What a value is, but for what the table of types says is lost, in the words of ``seen``."""
    type_ = value.type
    if not value.is_valid or (pa.types.is_dictionary(type_) and not value.value.is_valid):
        return None
    if pa.types.is_floating(type_):
        return _float(case, value.as_py(), type_.bit_width)
    if pa.types.is_timestamp(type_) or pa.types.is_duration(type_) or pa.types.is_time(type_):
        nanoseconds = value.value * {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[type_.unit]
        return nanoseconds // 1000 * 1000 if case.types.cuts_nanoseconds(type_) else nanoseconds
    if pa.types.is_date(type_):
        return value.value
    return None if not case.types.has_empty_text and value.as_py() in {"", b""} else value.as_py()


def _float(case: TargetCase, number: float, width: int) -> str | None:
    if math.isnan(number):
        return None
    return bits(number + 0.0 if number == 0 and not case.types.signs_zero else number, width)


def _seen(case: TargetCase, found: list[Any], wanted: list[Any], type_: pa.DataType) -> list[Any]:
    if case.types.client == "csv":
        found = [None if cell == "" and was is None else cell for cell, was in zip(found, wanted, strict=True)]
    return [seen(cell, type_, case.types.reads(type_)) for cell in found]


TEXTS = ("", "x", "1", "n/a")
TEXTS_OF_NUMBERS = {"1"}
VALUES = (
    some.none()
    | some.booleans()
    | some.integers(-(2**63), 2**64 - 1)
    | some.integers(-3, 3)
    | some.floats(allow_nan=False, allow_infinity=False)
    | some.decimals(-(10**20), 10**20, places=3)
    | some.sampled_from(TEXTS)
    | some.sampled_from([[], [1], {"a": 1}, {"b": [None]}])
)


def drifting() -> some.SearchStrategy[list[list[Any]]]:
    """Frames one after another, each with its own idea of what the column holds."""
    of_one_class = some.sampled_from([some.integers(-3, 3), some.floats(-9, 9), some.just("x"), some.none(), VALUES])
    return some.lists(
        of_one_class.flatmap(lambda values: some.lists(values, min_size=1, max_size=4)), min_size=2, max_size=6
    )


def _name_of(each: Any) -> str:
    return str(each.types.target) if isinstance(each, TargetCase) else str(each.get("on_conflict", "reject"))


DRIFTS: list[Any] = [
    *((case, {}) for case in TABLES),
    *((case, {"on_conflict": "json"}) for case in TABLES if case.dialect),
    *(pytest.param(case, {}, marks=pytest.mark.torture, id=case.types.target) for case in LAKES),
    *(
        pytest.param(case, {"on_conflict": "json"}, marks=pytest.mark.torture, id=f"{case.types.target}-json")
        for case in LAKES
    ),
]


@pytest.mark.parametrize(("case", "options"), DRIFTS, ids=_name_of)
def test_however_frames_drift_each_row_is_in_the_table_as_it_was_or_rejected(
    case: TargetCase, options: dict[str, Any], tmp_path: Path, times: int, request: pytest.FixtureRequest
) -> None:
    table = case.use(request)

    @of_so_many(times * examples(table))
    @given(drifting())
    def check(sequence: list[list[Any]]) -> None:
        numbers = itertools.count()
        put: dict[int, Any] = {}
        with a_stream(table, tmp_path, **options) as (home, stream):
            for values in sequence:
                rows = [{"number": next(numbers), "v": value} for value in values]
                put |= {row["number"]: row["v"] for row in rows}
                stream.q.put(rows)
        found = {"number": [], **table.read(home)}
        rejected = [row["number"] for row in rejected_rows(home, table.stream_type)]
        assert sorted([*found["number"], *rejected]) == sorted(put)
        held_values = found.get("v", [None] * len(put))
        is_of_numbers = all(each is None or isinstance(each, (int, float, Decimal)) for each in held_values)
        extra = found.get("_extra", [None] * len(found["number"]))
        for number, held, odd in zip(found["number"], held_values, extra, strict=False):
            value = json.loads(odd, parse_float=Decimal)["v"] if isinstance(odd, str) else odd["v"] if odd else held
            is_same = _same(table, value, put[number], is_of_numbers=is_of_numbers and odd is None)
            assert is_same, (put[number], held, odd)

    check()


def _same(table: TargetCase, held: Any, put: Any, *, is_of_numbers: bool) -> bool:
    """Whether it is that value, as a column of that class or as JSON has it.

    A column of numbers takes text that is exactly one of them: docs/streams.md, Text and lists into columns of other
    types. Anywhere else, text that was put is text.
    """
    if put == "" and not table.types.has_empty_text:
        put = None
    if held is None or put is None:
        return held is None and put is None
    if isinstance(held, float) and isinstance(put, Decimal) and float(put) == held:
        return Decimal(repr(held)) == put or table.types.reads(pa.decimal128(18, 3)) == "the float nearest to it"
    if isinstance(held, str) and not isinstance(put, str):
        return held == encode_cell(put) or json.loads(held, parse_float=Decimal) == json.loads(
            encode_cell(put), parse_float=Decimal
        )
    if isinstance(held, (int, float, Decimal)) and not isinstance(held, bool) and isinstance(put, str):
        return is_of_numbers and put in TEXTS_OF_NUMBERS and _number(held) == _number(put)
    if isinstance(held, int) and isinstance(put, float) and held == put:
        return True  # SQLite keeps a whole float as that integer, with all its digits: 40149094650819792, not …790
    if isinstance(held, (int, float, Decimal)) and isinstance(put, (int, float, Decimal)):
        return _number(held) == _number(put)
    return held in (put, encode_cell(put)) or held == json.loads(encode_cell(put))


def _number(value: Any) -> Fraction | None:
    """A number by its digits, as api2db.frames has it."""
    try:
        return Fraction(str(int(value) if isinstance(value, bool) else value))
    except ValueError:
        return None
