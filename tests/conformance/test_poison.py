"""Values that some target has no place for: their row is rejected with the reason that the table of types has.

Their neighbours are loaded, and where the table knows no limit the value is held exactly.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api2db.frames import JSON, is_json
from tests.conformance.clients import LONG, TABLES, TargetCase
from tests.conformance.limits import reasons_of
from tests.stream.databases import COLLECTOR


def _json(*texts: str) -> pa.Array:
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts))


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


POISONS: dict[str, pa.Array] = {
    "NUL": pa.array(["a", "b\0c", "d"]),
    "NUL in JSON": _json('["a"]', '{"a": "b\\u0000"}', "[]"),
    "a backslash before u0000": _json('["a"]', '["\\\\u0000"]', "[]"),
    "infinite": pa.array([1.0, float("inf"), 2.0]),
    "infinite float32": pa.array([1.0, float("-inf"), 2.0], pa.float32()),
    "year 0": pa.array([0, -62_167_219_200, 1], pa.timestamp("s")),
    "year 10000": pa.array([0, 253_402_300_800, 1], pa.timestamp("s")),
    "year 10000 zoned": pa.array([0, 253_402_300_800_000_000, 1], pa.timestamp("us", "UTC")),
    "year -5000": pa.array([0, -219_990_000_000, 1], pa.timestamp("s")),
    "farthest": pa.array([0, 2**63 - 1, 1], pa.timestamp("us")),
    "earliest": pa.array([0, -(2**63) + 1, 1], pa.timestamp("us")),
    "first moment of all": pa.array([0, -(2**63), 1], pa.timestamp("us")),
    "day of year 10000": pa.array([0, 2_932_897, 1], pa.date32()),
    "day of year -5000": pa.array([0, -2_546_200, 1], pa.date32()),
    "farthest day": pa.array([0, 2**31 - 1, 1], pa.date32()),
    "first day of all": pa.array([0, -(2**31), 1], pa.date32()),
    **{f"smallest int{width}": pa.array([0, -(2 ** (width - 1)), 1], f"int{width}") for width in (8, 16, 32, 64)},
    **{
        f"smallest normal float{width}": pa.array(
            [0, float(np.finfo(f"float{width}").smallest_normal), 1], f"float{width}"
        )
        for width in (32, 64)
    },
    "longest text": pa.array(["a", "x" * 32_767, "b"]),
    "longer text": pa.array(["a", "é" * 16_384, "b"]),
    "large number in JSON": _json("[1]", '{"a": 123456789012345678901234567890}', "[2]"),
    "fine number in JSON": _json("[1]", "[1.00000000000000000001]", "[2]"),
    "numbers in JSON": _json("[18446744073709551615]", "[-9223372036854775808]", "[5e-324]"),
    **{f"JSON of {depth} levels": _json("[1]", _nested(depth), "[2]") for depth in (31, 32, 100, 101, 500, 501, 900)},
    "brackets in JSON": _json("[1]", json.dumps(["[" * 200]), "[2]"),
    "a number beside lists": _json("[1]", "1", "{}"),
    "a boolean beside lists": _json("[1]", "true", "{}"),
}


@pytest.fixture(params=[*TABLES, *LONG], ids=lambda case: case.types.target)
def case(request: pytest.FixtureRequest) -> TargetCase:
    chosen: TargetCase = request.param
    return chosen.use(request)


def test_what_a_target_has_no_place_for_is_rejected_with_the_reason_and_all_else_is_held(
    case: TargetCase, tmp_path: Path
) -> None:
    with case.stream(tmp_path) as stream:
        for name, values in POISONS.items():
            stream.stream(pa.table({"number": [0, 1, 2], name: values}))
    reasons = rejected_reasons(tmp_path, case.stream_type)
    for name, values in POISONS.items():
        first, said, last = reasons_of(case.types, values)
        assert (first, last) == (None, None)
        assert reasons.get(name, []) == ([said] if said else []), name
        held = [0, 2] if said else [0, 1, 2]
        assert held_by(case, tmp_path, name, values.type) == [meant(values[place]) for place in held], name


def rejected_reasons(home: Path, stream_type: str) -> dict[str, list[str]]:
    """By column; read with Arrow, for pandas knows no day of the year 10000."""
    reasons: dict[str, list[str]] = {}
    for path in sorted((home / "STORE" / "rejected" / COLLECTOR / stream_type).glob("[0-9]*.parquet")):
        table = pq.read_table(path)
        [name] = set(table.column_names) - {"number", "_api2db_reason", "_api2db_frame_ns"}
        assert table.column("number").to_pylist() == [1], table.column("_api2db_reason").to_pylist()
        for reason in table.column("_api2db_reason").to_pylist():
            column, _, said = reason.partition("': ")
            assert column.removeprefix("'") in {name, f"{name}_t"}
            reasons.setdefault(name, []).append(said)
    return reasons


def meant(value: pa.Scalar) -> Any:
    type_ = value.type
    if is_json(type_):
        return json.loads(value.as_py() if isinstance(value.as_py(), str) else str(value.value))
    if pa.types.is_timestamp(type_):
        ticks = value.cast(pa.int64()).as_py()
        return ticks * {"s": 10**6, "us": 1}[type_.unit]
    return value.cast(pa.int32()).as_py() if pa.types.is_date(type_) else value.as_py()


def held_by(case: TargetCase, home: Path, name: str, type_: pa.DataType) -> list[Any]:
    values = case.column(home, name, type_)
    if case.types.reads(type_) == "shortest digits of a float32":
        return [float(np.float32(value)) for value in values]
    return [json.loads(value) for value in values] if case.types.reads(type_) == "JSON text" else values
