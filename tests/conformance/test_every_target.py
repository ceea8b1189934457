"""A frame with every type goes through every target and is read back by the target's own client: it is the same.

What a target can't hold exactly is what the table of types says, and nothing else.
"""

import datetime
import logging
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db import Stream
from api2db.frames import is_json, is_text, to_batch
from api2db.targets.types import KINDS
from api2db.targets.types._rules import Reading
from tests.conformance.clients import (
    BQEMULATOR,
    BUCKETS,
    CASES,
    GENERAL,
    GENERAL_IN_SHORT,
    LAKES,
    LIVE,
    LOAD_JOBS,
    Columns,
    TargetCase,
)
from tests.conformance.columns import COLUMNS, Told, bits, frame_of, moment
from tests.conformance.limits import reasons_of
from tests.conformance.seen import seen
from tests.stream.cases import rejected_rows
from tests.stream.databases import COLLECTOR, query

KIND = {kind.name: kind for kind in KINDS}
BATCH = to_batch(frame_of(COLUMNS))
SCHEMA = BATCH.schema
NEAREST: Reading = "the float nearest to it"


LONG = [pytest.param(case, marks=pytest.mark.torture) for case in GENERAL if case not in GENERAL_IN_SHORT]


@pytest.fixture(params=[*CASES, *LAKES, *BUCKETS, *GENERAL_IN_SHORT, *LONG, *LIVE], ids=lambda case: case.types.target)
def case(request: pytest.FixtureRequest) -> TargetCase:
    chosen: TargetCase = request.param
    return chosen.use(request)


@pytest.fixture
def load_jobs(request: pytest.FixtureRequest) -> TargetCase:
    return LOAD_JOBS.use(request)


def expected(case: TargetCase, told: Told) -> list[Any]:
    """The values, but for what the table of types says is lost."""
    type_ = SCHEMA.field(told.name).type
    if case.types.cuts_nanoseconds(type_):
        return [None if value is None else value // 1000 * 1000 for value in told.values]
    if reading_of(case, told) == NEAREST:
        return [None if value is None else Decimal(repr(float(value))) for value in told.values]
    if told.kind in {"float32", "float64"} and not case.types.signs_zero:
        unsigned = {bits(-0.0, width): bits(0.0, width) for width in (32, 64)}
        return [unsigned.get(value, value) for value in told.values]
    if not case.types.has_empty_text and not is_json(type_):
        return [None if value in {"", b""} else value for value in told.values]
    return told.values


def nulls_of_csv(case: TargetCase, wanted: list[Any], found: list[Any]) -> list[Any]:
    """The csv module gives an empty text for a null: it looks at no quotes."""
    if case.types.client != "csv":
        return found
    return [None if value == "" and was is None else value for value, was in zip(found, wanted, strict=True)]


def reading_of(case: TargetCase, told: Told) -> Reading:
    """As the table says for the very type, which for a decimal has digits of its own."""
    return case.types.reads(SCHEMA.field(told.name).type)


def held_by(case: TargetCase) -> list[Told]:
    """All columns but those with a value that the table of types has no place for there: those are poison."""
    held = [told for told in COLUMNS if not any(reasons_of(case.types, BATCH.column(told.name)))]
    assert all(told in held or told.name.startswith("smallest ") or told.name.endswith("mixed") for told in COLUMNS)
    return held


def test_every_type_comes_back_as_it_was_and_goes_into_the_same_columns_again(
    case: TargetCase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = held_by(case)
    with case.stream(tmp_path) as stream:
        for _ in range(2):
            stream.stream(frame_of(columns))
    assert [row["_api2db_reason"] for row in rejected_rows(tmp_path, case.stream_type)] == []
    assert faults(case, columns, case.read(tmp_path), times=2) == []
    for told in columns:
        if reading_of(case, told) == NEAREST:
            kept = [value for value in told.values if value is not None]
            assert case.column(tmp_path, told.name, SCHEMA.field(told.name).type) == kept * 2
    assert said_to_be_cut(caplog) == sorted(told.name for told in columns if is_cut(case, told))
    if case.is_table:
        assert declared(stream) == {told.name: column_of(case, told) for told in columns if told.kind != "nothing"}
    if case.dialect:
        assert query(tmp_path, case.dialect, "SELECT * FROM _api2db_schema_changes") == []


@pytest.mark.parametrize("kept", [lambda _: True, lambda told: told.kind != "JSON"], ids=["JSON lines", "Parquet"])
def test_load_jobs_of_bigquery_carry_the_same(load_jobs: TargetCase, tmp_path: Path, kept: Any) -> None:
    columns = [told for told in held_by(load_jobs) if kept(told)]
    with load_jobs.stream(tmp_path) as stream:
        stream.stream(frame_of(columns))
    assert rejected_rows(tmp_path, load_jobs.stream_type) == []
    assert faults(load_jobs, columns, load_jobs.read(tmp_path)) == []
    assert declared(stream) == {told.name: column_of(load_jobs, told) for told in columns if told.kind != "nothing"}


def test_an_emulator_that_others_wrote_gives_the_same(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    emulator = BQEMULATOR.use(request)
    # DEVIATIONS of tests.servers.emulators: it has no BIGNUMERIC.
    columns = [told for told in held_by(emulator) if column_of(emulator, told) != "bignumeric"]
    with emulator.stream(tmp_path) as stream:
        for _ in range(2):
            stream.stream(frame_of(columns))
    assert rejected_rows(tmp_path, emulator.stream_type) == []
    assert faults(emulator, columns, emulator.read(tmp_path), times=2) == []
    assert declared(stream) == {told.name: column_of(emulator, told) for told in columns if told.kind != "nothing"}


def is_cut(case: TargetCase, told: Told) -> bool:
    return case.is_table and case.types.cuts_nanoseconds(SCHEMA.field(told.name).type)


def said_to_be_cut(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The columns, each as often as it was said."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return sorted(text.partition("' is truncated")[0].removeprefix("'") for text in said if "to microseconds" in text)


def declared(stream: Stream) -> dict[str, str]:
    """The types of the table's columns, as its own catalogue has them, by the names that they had in the frame."""
    target: Any = stream._target()
    columns = target.columns() or ()
    target.close()
    suffix = "_t" if stream.stream_type == "omnisci" else ""
    return {column.name.removesuffix(suffix): column.declared.lower() for column in columns}


def column_of(case: TargetCase, told: Told) -> str:
    return str(case.types.column(SCHEMA.field(told.name).type)).lower()


def faults(case: TargetCase, columns: Sequence[Told], found: Columns, times: int = 1) -> list[str]:
    return [fault for told in columns if (fault := fault_of(case, told, found, times))]


def fault_of(case: TargetCase, told: Told, found: Columns, times: int) -> str | None:
    wanted = expected(case, told) * times
    cells = nulls_of_csv(case, told.values * times, found.get(told.name, [None] * len(wanted)))
    if case.is_table and any(isinstance(cell, float) and math.isnan(cell) for cell in cells):
        return f"{told.name}: a NULL is a NaN in {cells}"
    if told.kind == "nothing":
        return None if all(pd.isna(cell) for cell in cells) else f"{told.name} is {cells}"
    try:
        values = [seen(value, KIND[told.kind].type, reading_of(case, told)) for value in cells]
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        return f"{told.name}: {error!r} of {cells}"
    return None if values == wanted else f"{told.name}: {cells} is {values}, not {wanted}"


OTHERS: dict[pa.DataType, Any] = {
    pa.float16(): 1.5,
    pa.date64(): datetime.date(2026, 1, 1),
    pa.time32("s"): datetime.time(1, 2, 3),
    pa.time32("ms"): datetime.time(1, 2, 3, 4000),
    pa.timestamp("s"): datetime.datetime(2026, 1, 1),  # noqa: DTZ001
    pa.timestamp("ms", "Europe/Berlin"): datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    pa.duration("ms"): datetime.timedelta(milliseconds=5),
    pa.decimal128(20, 12): Decimal("1.000000000001"),
    pa.decimal256(60, 2): Decimal("9" * 50),
    pa.binary(3): b"abc",
    pa.large_binary(): b"abc",
    pa.large_string(): "x",
    pa.list_(pa.int32()): [1, 2],
    pa.struct([("a", pa.int32())]): {"a": 1},
    pa.map_(pa.string(), pa.int32()): [("a", 1)],
    pa.dictionary(pa.int8(), pa.string()): "x",
}


def test_other_arrow_types_are_delivered_too_and_nothing_is_rejected(case: TargetCase, tmp_path: Path) -> None:
    names = {f"c{place}": (type_, value) for place, (type_, value) in enumerate(OTHERS.items())}
    rows = pa.table({name: pa.array([value, None], type_) for name, (type_, value) in names.items()})
    with case.stream(tmp_path) as stream:
        for first in (0, 2):
            stream.stream(rows.append_column("number", [[first, first + 1]]))
    assert [row["_api2db_reason"] for row in rejected_rows(tmp_path, case.stream_type)] == []
    found = case.read(tmp_path)
    for name, (type_, _) in names.items():
        one, none, again, nothing = found[name]
        assert one == again, type_
        assert [cell in {None, ""} if isinstance(cell, str) else pd.isna(cell) for cell in (none, nothing)] == [
            True
        ] * 2
        assert one is not None, type_


def test_every_kind_of_the_table_is_in_the_frame_and_becomes_the_type_that_it_says() -> None:
    assert {told.kind for told in COLUMNS} == set(KIND)
    for told in COLUMNS:
        found, kind = SCHEMA.field(told.name).type, KIND[told.kind].type
        assert _family(found) == _family(kind), told.name


def _family(type_: pa.DataType) -> str:
    if pa.types.is_decimal(type_):
        return f"decimal{type_.bit_width}"
    if is_text(type_):
        return "text"
    zone = getattr(type_, "tz", None)
    unit = getattr(type_, "unit", "")
    return f"{type_.id} {zone and 'zoned'} {'ns' if unit == 'ns' else 'coarser'}"


def test_a_nan_beside_nulls_stays_where_the_table_says_so(case: TargetCase, tmp_path: Path) -> None:
    with case.stream(tmp_path) as stream:
        stream.stream(pa.table({"number": [0, 1, 2], "x": pa.array([float("nan"), None, 0.5])}))
    held = {"nan", ""} if case.types.client == "csv" else {"nan", "NaN", "None"}
    first, second, third = (str(value) for value in case.read(tmp_path)["x"])
    assert first in (held - {"None", ""} if case.types.has_nan else {"None"})
    assert second in {"None", "", "nan"}
    assert third == "0.5"
    assert [row["_api2db_reason"] for row in rejected_rows(tmp_path, case.stream_type)] == []


NAIVE = pa.timestamp("us")


def one_place(case: TargetCase, home: Path) -> Stream:
    """A stream into a table, or into a file that gets all rows."""
    fmt = case.types.target.split()[0].lower()
    in_one_file = {"mode": "update", "path": f"STORE/{COLLECTOR}/{fmt}/all.{fmt}"}
    return case.stream(home, **({} if case.is_table else in_one_file))


@pytest.mark.parametrize("together", ["frame by frame", "in one load", "in one frame"])
def test_dates_and_then_times_widen_the_column_and_each_value_stays(
    case: TargetCase, tmp_path: Path, together: str
) -> None:
    # Arrow's reader tells no type from a far date beside a fraction, so in CSV these are text.
    first, last = ("1970-01-01", "2199-12-31") if case.types.client == "csv" else ("0001-01-01", "9999-12-31")
    days = [datetime.date(2026, 1, 2), None, datetime.date.fromisoformat(last)]
    times = [datetime.datetime(2026, 1, 2, 3, 4, 5, 6), datetime.date.fromisoformat(first)]  # noqa: DTZ001
    frames: list[list[dict[str, Any]]] = [
        [{"number": 0, "day": days[0]}, {"number": 1, "day": days[1]}, {"number": 2, "day": days[2]}],
        [{"number": 3, "day": times[0]}],
        [{"number": 4, "day": times[1]}],
    ]
    with one_place(case, tmp_path) as stream:
        for frame in [[row for each in frames for row in each]] if together == "in one frame" else frames:
            stream.q.put(frame)
            if together == "frame by frame":
                stream.flush()
    assert [row["_api2db_reason"] for row in rejected_rows(tmp_path, case.stream_type)] == []
    read = case.read(tmp_path)
    found = dict(zip((int(number) for number in read["number"]), read["day"], strict=True))
    wanted = ["2026-01-02", None, last, "2026-01-02 03:04:05.000006", first]
    reading = case.types.reads(NAIVE)
    cells = [None if found[row] == "" else found[row] for row in range(5)]
    assert [seen(cell, NAIVE, reading) for cell in cells] == [None if text is None else moment(text) for text in wanted]


NOTHING_YET = {
    "float64": [float("nan")] * 2,
    "category": pd.Categorical([None, None]),
    "category with categories": pd.Categorical([None, None], ["a"]),
    "object": [None, None],
}


@pytest.mark.parametrize("missing", NOTHING_YET.values(), ids=NOTHING_YET)
def test_a_column_of_missing_values_alone_fixes_no_type(case: TargetCase, tmp_path: Path, missing: Any) -> None:
    later = {"t": "x", "n": 2**53 + 1, "d": datetime.date(2026, 1, 2), "j": {"a": 1}}
    with one_place(case, tmp_path) as stream:
        stream.stream(pd.DataFrame({"number": [0, 1], **dict.fromkeys(later, missing)}))
        stream.q.put([{"number": 2, **later}])
    assert [row["_api2db_reason"] for row in rejected_rows(tmp_path, case.stream_type)] == []
    found = case.read(tmp_path)
    for name, value in later.items():
        type_ = to_batch([{name: value}]).schema.field(name).type
        cells = [None if isinstance(cell, str) and not cell else cell for cell in found[name]]
        *nulls, last = [seen(cell, type_, case.types.reads(type_)) for cell in cells]
        assert nulls == [None, None], name
        assert last == (20_455 if name == "d" else value), name
