"""A frame with every type that there is, in every form that a frame may have it, and what each value is.

What a value is, is said without any library's classes: an instant is a count of nanoseconds, a float its bits.
"""

import datetime
import enum
import fractions
import ipaddress
import pathlib
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

NS_OF_A_SECOND, NS_OF_A_DAY = 10**9, 86_400 * 10**9
DATE, TIME, MOMENT, DELTA = datetime.date, datetime.time, datetime.datetime, datetime.timedelta
BERLIN = "Europe/Berlin"


class Status(enum.StrEnum):
    OPEN = "open"


class Colour(enum.Enum):
    RED = "red"
    NONE = None


class Level(enum.IntEnum):
    LOW = 1


class Letters(str):
    """A text that gives itself out as another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another"


class Number(int):
    def __repr__(self) -> str:
        return "another"


class Fields(dict[str, object]):
    pass


class Items(list[object]):
    pass


class Pair(NamedTuple):
    left: object
    right: object


class Moment(datetime.datetime):
    def isoformat(self, *_: object, **__: object) -> str:
        return "another"


class Day(datetime.date):
    def isoformat(self) -> str:
        return "another"


@dataclass(frozen=True)
class Told:
    """One column: the kind that it is of, how it stands in the frame, and what its values are."""

    name: str
    kind: str
    cells: Any
    values: list[Any]


def bits(number: float, width: int = 64) -> str:
    """A float as its bits."""
    return struct.pack(">d" if width == 64 else ">f", number).hex()


def moment(text: str) -> int:
    """An instant or a moment, in nanoseconds since 1970."""
    whole, _, fraction = text.partition(".")
    return int(np.datetime64(whole, "s").astype(np.int64)) * NS_OF_A_SECOND + int(fraction.ljust(9, "0"))


def seconds_of(stamp: pd.Timestamp) -> int:
    return int(stamp.asm8.astype("datetime64[s]").astype(np.int64))


def objects(*cells: object) -> "pd.Series[Any]":
    held = np.empty(len(cells), object)
    held[:] = list(cells)
    return pd.Series(held, dtype=object)


def _arrays(*cells: object) -> "pd.Series[Any]":
    held = np.empty(len(cells), object)
    for place, cell in enumerate(cells):
        held[place] = cell
    return pd.Series(held, dtype=object)


def _ints() -> list[Told]:
    told = []
    for sign in ("", "u"):
        for width in (8, 16, 32, 64):
            bounds = np.iinfo(f"{sign}int{width}")
            ends = [int(bounds.min) + (not sign), int(bounds.max), 0]
            name = f"{sign}int{width}"
            told.append(Told(name, name, pd.Series(ends, dtype=name), ends))
            if not sign:
                smallest = [int(bounds.min), 0, 1]
                told.append(Told(f"smallest {name}", name, pd.Series(smallest, dtype=name), smallest))
            nullable = name.replace("uint", "UInt").replace("int", "Int", 1)
            told.append(
                Told(
                    f"nullable {name}",
                    name,
                    pd.Series([*ends[:2], None], dtype=pd.api.types.pandas_dtype(nullable)),
                    [*ends[:2], None],
                )
            )
    beyond = [2**53 + 1, None, -(2**53) - 1]
    return [
        *told,
        Told("int and None", "int64", objects(*beyond), beyond),
        Told("int and NA", "int64", objects(2**53 + 1, pd.NA, -(2**53) - 1), beyond),
        Told("arrow int", "int64", pd.Series(beyond, dtype=pd.ArrowDtype(pa.int64())), beyond),
        Told("unsigned objects", "uint64", objects(2**63 + 1, None, 2**64 - 1), [2**63 + 1, None, 2**64 - 1]),
        Told("large int", "large int", objects(10**37 + 1, None, -(10**37)), [10**37 + 1, None, -(10**37)]),
    ]


def _floats() -> list[Told]:
    doubles = [0.1 + 0.2, 5e-324, None, -0.0, 1.7976931348623157e308, -2.5e-8]
    singles = [float(np.float32(number)) for number in (0.1, 1e-45, 3.4028235e38, -0.0, 16777215.0, 1e-38)]
    normal = {width: float(np.finfo(f"float{width}").smallest_normal) for width in (32, 64)}
    as_bits = [None if number is None else bits(number) for number in doubles]
    nan = [float("nan") if number is None else number for number in doubles]
    return [
        Told("float32", "float32", pd.Series(singles[:3], dtype="float32"), [bits(n, 32) for n in singles[:3]]),
        Told("more float32", "float32", pd.Series(singles[3:], dtype="float32"), [bits(n, 32) for n in singles[3:]]),
        *(
            Told(
                f"smallest normal float{width}",
                f"float{width}",
                pd.Series([number, 0.5, 1.5], dtype=f"float{width}"),
                [bits(each, width) for each in (number, 0.5, 1.5)],
            )
            for width, number in normal.items()
        ),
        Told(
            "nullable float32",
            "float32",
            pd.array([singles[0], None, 1.5], "Float32"),
            [bits(singles[0], 32), None, bits(1.5, 32)],
        ),
        Told("float64", "float64", pd.Series(nan[:3]), as_bits[:3]),
        Told("more float64", "float64", pd.Series(nan[3:]), as_bits[3:]),
        Told("nullable float64", "float64", pd.array(doubles[:3], "Float64"), as_bits[:3]),
        Told("float and None", "float64", objects(*doubles[:3]), as_bits[:3]),
        Told("float and int", "float64", objects(0.5, 2, float("nan")), [bits(0.5), bits(2.0), None]),
    ]


def _texts() -> list[Told]:
    texts = ["", "é😀\u2028\"',\r\n\t\\N", None]
    digits = ["001", "1e5", "NULL"]
    some = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    return [
        Told("objects of text", "text", objects(*texts), texts),
        Told("digits", "text", objects(*digits), digits),
        Told("spaces", "text", objects(" a ", " ", "nan"), [" a ", " ", "nan"]),
        Told("str", "text", pd.Series(texts), texts),
        Told("string", "text", pd.Series(texts, dtype="string"), texts),
        Told("string python", "text", pd.Series(texts, dtype="string[python]"), texts),
        Told("string pyarrow", "text", pd.Series(texts, dtype="string[pyarrow]"), texts),
        Told("arrow text", "text", pd.Series(texts, dtype=pd.ArrowDtype(pa.large_string())), texts),
        Told("category", "category", pd.Categorical(["x", "y", None], ["y", "unused", "x"]), ["x", "y", None]),
        Told("ordered", "category", pd.Categorical(["x", "y", None], ["y", "x"], ordered=True), ["x", "y", None]),
        Told("category of ints", "category of ints", pd.Categorical([10, -20, None]), [10, -20, None]),
        Told("bytes", "bytes", objects(b"\x00\xff\\\n,'\"", b"", None), [b"\x00\xff\\\n,'\"", b"", None]),
        Told("bytearray", "bytes", objects(bytearray(b"x"), None, b"y"), [b"x", None, b"y"]),
        Told("UUID", "UUID", objects(some, None, uuid.UUID(int=0)), [str(some), None, str(uuid.UUID(int=0))]),
        Told("period", "period", pd.PeriodIndex(["2020-01", None, "2021-02"], freq="M"), ["2020-01", None, "2021-02"]),
    ]


def _numbers() -> list[Told]:
    usual = [Decimal("1234567890.12"), None, Decimal("-0.01")]
    eighteen = [Decimal("9" * 16 + ".99"), None, Decimal("-0.01")]
    most = [Decimal("9" * 38), None, Decimal(-1)]
    wide = [Decimal("9" * 44 + ".12345"), None, Decimal("-0.00001")]
    return [
        Told("flag", "bool", pd.Series([True, False, True]), [True, False, True]),
        Told("boolean", "bool", pd.array([True, False, None], "boolean"), [True, False, None]),
        Told("bool and None", "bool", objects(True, None, False), [True, None, False]),
        Told("decimal", "decimal", objects(*usual), usual),
        Told("18 digits", "decimal", objects(*eighteen), eighteen),
        Told("38 digits", "decimal", objects(*most), most),
        Told(
            "30 behind the point", "decimal", objects(Decimal("1e-30"), Decimal(1), None), [Decimal("1e-30"), 1, None]
        ),
        Told("wide decimal", "wide decimal", objects(*wide), wide),
    ]


def _times() -> list[Told]:
    fine, coarse = "2026-02-28 01:02:03.123456789", "2026-02-28 01:02:03.123456"
    far = [MOMENT(1, 1, 1), MOMENT(9999, 12, 31, 23, 59, 59, 999999), None]
    dates = [DATE(1, 1, 1), DATE(9999, 12, 31)]
    clock = TIME(23, 59, 59, 999999)
    stamps = pd.Series([pd.Timestamp(fine), pd.Timestamp("1700-01-01"), pd.NaT])
    zoned = pd.Series([pd.Timestamp(fine), pd.Timestamp("1969-12-31"), pd.NaT]).dt.tz_localize("UTC")
    instants = [moment(fine), moment("1969-12-31"), None]
    span = [DELTA(days=1), DELTA(microseconds=-1), None]
    return [
        Told("date", "date", objects(*dates, None), [(day - DATE(1970, 1, 1)).days for day in dates] + [None]),
        Told("time", "time", objects(TIME(1, 2, 3, 4), clock, None), [_clock(TIME(1, 2, 3, 4)), _clock(clock), None]),
        Told(
            "time ns",
            "time of nanoseconds",
            _nanoseconds(1_001, None, 86_399_999_999_999),
            [1_001, None, 86_399_999_999_999],
        ),
        Told("naive", "naive", objects(*far), [moment("0001-01-01"), moment("9999-12-31 23:59:59.999999"), None]),
        Told(
            "naive us",
            "naive",
            pd.Series([coarse, "1500-01-01", None], dtype="datetime64[us]"),
            [moment(coarse), moment("1500-01-01"), None],
        ),
        Told(
            "naive s",
            "naive",
            pd.Series(["2026-02-28", None, "1969-12-31"], dtype="datetime64[s]"),
            [moment("2026-02-28"), None, moment("1969-12-31")],
        ),
        Told(
            "naive ns",
            "naive of nanoseconds",
            stamps.astype("datetime64[ns]"),
            [moment(fine), moment("1700-01-01"), None],
        ),
        Told(
            "zoned ns",
            "zoned of nanoseconds",
            zoned.dt.tz_convert(BERLIN).astype(f"datetime64[ns, {BERLIN}]"),
            instants,
        ),
        Told("utc", "zoned", zoned.astype("datetime64[us, UTC]"), [moment(coarse), instants[1], None]),
        Told(
            "zoned objects",
            "zoned",
            objects(
                MOMENT(2100, 7, 1, 12, tzinfo=datetime.timezone(DELTA(hours=-3))),
                None,
                MOMENT(1800, 1, 1, tzinfo=datetime.UTC),
            ),
            [moment("2100-07-01 15:00"), None, moment("1800-01-01")],
        ),
        Told(
            "fold",
            "zoned",
            pd.Series(
                pd.DatetimeIndex(["2025-10-26 00:30", "2025-10-26 01:30", None], dtype="datetime64[us]")
                .tz_localize("UTC")
                .tz_convert(BERLIN)
            ),
            [moment("2025-10-26 00:30"), moment("2025-10-26 01:30"), None],
        ),
        Told("timedelta", "timedelta", objects(*span), [NS_OF_A_DAY, -1000, None]),
        Told("timedelta us", "timedelta", pd.Series(span, dtype="timedelta64[us]"), [NS_OF_A_DAY, -1000, None]),
        Told(
            "timedelta ns",
            "timedelta of nanoseconds",
            pd.Series(pd.to_timedelta([NS_OF_A_DAY + 1001, -1000, None], unit="ns")).astype("timedelta64[ns]"),
            [NS_OF_A_DAY + 1001, -1000, None],
        ),
    ]


def _nanoseconds(*counts: int | None) -> "pd.Series[Any]":
    times = pa.array(counts, pa.int64()).cast(pa.time64("ns"))
    return pd.Series(pd.arrays.ArrowExtensionArray(times))


def _clock(time: datetime.time) -> int:
    return ((time.hour * 60 + time.minute) * 60 + time.second) * NS_OF_A_SECOND + time.microsecond * 1000


def _nested() -> list[Told]:
    deep = {"a": [1, 2.5, None, 0.1 + 0.2], "é": {"b": True}, "": 'x\n"\\'}
    return [
        Told("dict", "JSON", objects(deep, {}, None), [deep, {}, None]),
        Told("list", "JSON", _arrays([1, 2**53 + 1], [], None), [[1, 2**53 + 1], [], None]),
        Told("nested lists", "JSON", _arrays([[1], [], [None, "x"]], [[]], None), [[[1], [], [None, "x"]], [[]], None]),
        Told("dict then list", "JSON", _arrays({"a": 1}, [1], None), [{"a": 1}, [1], None]),
        Told("arrays", "JSON", _arrays(np.array([1.5, 2]), np.array([[1, 2]]), None), [[1.5, 2.0], [[1, 2]], None]),
        Told("mixed", "JSON", objects("x", 1, None), ["x", 1, None]),
        Told("more mixed", "JSON", objects(True, 0.1 + 0.2, "1"), [True, 0.1 + 0.2, "1"]),
        Told(
            "arrow lists",
            "JSON",
            pd.Series([[1, None], [], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            [[1, None], [], None],
        ),
        Told("nothing", "nothing", objects(None, None, None), [None] * 3),
        Told("missing", "nothing", objects(pd.NA, pd.NaT, float("nan")), [None] * 3),
    ]


def _subclasses() -> list[Told]:
    """Objects whose class stands on another one, or which have one obvious text."""
    deep = Fields(status=Status.OPEN, all=Items([Letters("x"), Level.LOW, Colour.RED, Pair(Number(5), np.str_("y"))]))
    as_value = {"status": "open", "all": ["x", 1, "red", [5, "y"]]}
    written = {"file": pathlib.PurePosixPath("a/b"), "at": [Moment(2026, 1, 2, 3), Day(2026, 1, 2)]}
    address = ipaddress.ip_address("10.0.0.1")
    return [
        Told("str subclass", "text", objects(Status.OPEN, None, Letters("x")), ["open", None, "x"]),
        Told("enum", "text", objects(Colour.RED, Colour.NONE, "x"), ["red", None, "x"]),
        Told("int subclass", "int64", objects(Level.LOW, None, Number(5)), [1, None, 5]),
        Told("float subclass", "float64", objects(np.float64(0.5), None, np.float64(2)), [bits(0.5), None, bits(2.0)]),
        Told(
            "datetime subclass", "naive", objects(Moment(1970, 1, 2), None, Moment(1970, 1, 1)), [NS_OF_A_DAY, None, 0]
        ),
        Told("date subclass", "date", objects(Day(1970, 1, 2), None, Day(1970, 1, 1)), [1, None, 0]),
        Told("dict subclass", "JSON", objects(deep, None, Fields()), [as_value, None, {}]),
        Told("list subclass", "JSON", objects(Items([Status.OPEN]), None, Items()), [["open"], None, []]),
        Told(
            "tuple subclass",
            "JSON",
            objects(Pair(Status.OPEN, {"a": Level.LOW}), None, ()),
            [["open", {"a": 1}], None, []],
        ),
        Told(
            "written within",
            "JSON",
            objects(written, None, [address, fractions.Fraction(1, 3)]),
            [{"file": "a/b", "at": ["2026-01-02T03:00:00", "2026-01-02"]}, None, ["10.0.0.1", "1/3"]],
        ),
        Told("path", "written", objects(pathlib.PurePosixPath("a/b"), None, "x"), ["a/b", None, "x"]),
        Told(
            "address",
            "written",
            objects(address, None, ipaddress.ip_network("10.0.0.0/8")),
            ["10.0.0.1", None, "10.0.0.0/8"],
        ),
        Told("period in objects", "period", objects(pd.Period("2020-01"), None, "x"), ["2020-01", None, "x"]),
    ]


COLUMNS = [
    Told("number", "int64", [0, 1, 2], [0, 1, 2]),
    *_ints(),
    *_floats(),
    *_texts(),
    *_numbers(),
    *_times(),
    *_nested(),
    *_subclasses(),
]


def frame_of(columns: Sequence[Told]) -> pd.DataFrame:
    return pd.DataFrame({told.name: told.cells for told in columns})
