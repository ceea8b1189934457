"""A frame with every type goes through every target and is read back by the target's own client: it is the same.

What a target can't hold exactly is what the table of types says, and nothing else.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db import Stream
from api2db.frames import to_batch
from api2db.targets.sql import SqlTarget
from api2db.targets.types import KINDS
from api2db.targets.types.rules import Reading, is_text
from tests.conformance.clients import WAYS, Columns, Way
from tests.conformance.columns import COLUMNS, Told, bits, every_column
from tests.conformance.seen import seen
from tests.stream.ways import rejected_rows

KIND = {kind.name: kind for kind in KINDS}
SCHEMA = to_batch(every_column()).schema


@pytest.fixture(params=WAYS, ids=lambda way: way.types.target)
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    return chosen.use(request)


def expected(way: Way, told: Told) -> list[Any]:
    """The values, but for what the table of types says is lost."""
    type_ = KIND[told.kind].type
    if way.types.cuts_nanoseconds(type_):
        return [None if value is None else value // 1000 * 1000 for value in told.values]
    if told.kind in {"float32", "float64"} and not way.types.signs_zero:
        unsigned = {bits(-0.0, width): bits(0.0, width) for width in (32, 64)}
        return [unsigned.get(value, value) for value in told.values]
    return told.values


def nulls_of_csv(way: Way, told: Told, found: list[Any]) -> list[Any]:
    """The csv module gives an empty text for a null: it looks at no quotes."""
    if way.types.client != "csv":
        return found
    return [None if value == "" and was is None else value for value, was in zip(found, told.values, strict=True)]


def reading_of(way: Way, told: Told) -> Reading:
    """As the table says for the very type, which for a decimal has digits of its own."""
    return way.types.reads(SCHEMA.field(told.name).type)


def test_every_type_comes_back_as_it_was(way: Way, tmp_path: Path) -> None:
    with way.stream(tmp_path) as stream:
        stream.stream(every_column())
    assert rejected_rows(tmp_path, way.stream_type) == []
    found = way.read(tmp_path)
    wrong = [fault for told in COLUMNS if (fault := fault_of(way, told, found))]
    assert wrong == []
    if way.dialect:
        assert declared(stream) == {told.name: column_of(way, told) for told in COLUMNS if told.kind != "nothing"}


def declared(stream: Stream) -> dict[str, str]:
    """The types of the table's columns, as its own catalogue has them."""
    target = stream._target()
    if not isinstance(target, SqlTarget):
        return {}
    columns = target.columns() or ()
    target.close()
    return {column.name: column.declared.lower() for column in columns}


def column_of(way: Way, told: Told) -> str:
    return str(way.types.column(SCHEMA.field(told.name).type)).lower()


def fault_of(way: Way, told: Told, found: Columns) -> str | None:
    type_ = KIND[told.kind].type
    if told.kind == "nothing":
        cells = nulls_of_csv(way, told, found.get(told.name, [None] * 3))
        return None if all(pd.isna(cell) for cell in cells) else f"{told.name} is {cells}"
    cells = nulls_of_csv(way, told, found[told.name])
    try:
        values = [seen(value, type_, reading_of(way, told)) for value in cells]
    except (AssertionError, ValueError, KeyError, TypeError) as error:
        return f"{told.name}: {error!r} of {cells}"
    wanted = expected(way, told)
    return None if values == wanted else f"{told.name}: {cells} is {values}, not {wanted}"


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


def test_a_nan_beside_nulls_stays_where_the_table_says_so(way: Way, tmp_path: Path) -> None:
    with way.stream(tmp_path) as stream:
        stream.stream(pa.table({"number": [0, 1, 2], "x": pa.array([float("nan"), None, 0.5])}))
    held = {"nan", ""} if way.types.client == "csv" else {"nan", "NaN", "None"}
    first, second, third = (str(value) for value in way.read(tmp_path)["x"])
    assert first in (held - {"None", ""} if way.types.has_nan else {"None"})
    assert second in {"None", "", "nan"}
    assert third == "0.5"
    assert rejected_rows(tmp_path, way.stream_type) == []
