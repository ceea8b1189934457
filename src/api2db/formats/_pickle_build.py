"""Builds the DataFrame that a pickle describes, from inert parts, with constructors that check their arguments.

pandas, numpy and pyarrow trust the state that they restore an object from. A flipped byte in it (a dtype's flags, the
code of a category, the offset of a text) could make them read foreign memory. So their own restoring is not used.

A name in a pickle selects a function of this module and is never imported. Therefore only its top-level package counts:
pandas and numpy move their classes between modules from version to version.
"""

import datetime
import decimal
import re
import uuid
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

_datetime64: Callable[[int, str], Any] = np.datetime64  # type: ignore[assignment] # typed for literal units alone
_timedelta64: Callable[[int, str], Any] = np.timedelta64  # type: ignore[assignment]
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, bytearray})
_DTYPE_CODE = re.compile(r"[biufSU]\d*|[mM]8|O8?")
_UNITS = {7: "s", 8: "ms", 9: "us", 10: "ns"}


class Part:
    """A name in a pickle, or a call of a name. It holds the arguments and the state, and calls nothing.

    Attributes:
        args: The arguments of the call; None for the name itself.
    """

    def __init__(self, name: str, args: tuple[Any, ...] | None = None) -> None:
        self.name = name
        self.args: Any = args
        self.state: Any = None
        self.items: list[tuple[Any, Any]] = []

    def __call__(self, *args: object) -> "Part":
        return Part(self.name, args) if self.args is None else Part(f"{self.name}()", (*self.args, *args))

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.items.append((key, value))


class _Builder:
    """Builds each value once, however often it is referred to. A value that contains itself raises RecursionError."""

    def __init__(self) -> None:
        self._built: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return value
        if id(value) not in self._built:
            self._built[id(value)] = self._build(value)
        return self._built[id(value)]

    def _build(self, value: Any) -> Any:
        if type(value) in (list, tuple, set, frozenset):
            return type(value)([self(item) for item in value])
        if type(value) is dict:
            return {self(key): self(item) for key, item in value.items()}
        if value.args is None:
            _expect(value.name == "pandas.NA", f"{value.name} is in the place of a value")
            return pd.NA
        if value.name in _FUNCTIONS:
            return _FUNCTIONS[value.name](*[self(arg) for arg in value.args])
        _expect(value.name in _BUILDERS, f"{value.name} is in the place of a value")
        return _BUILDERS[value.name](value, self)


def build_frame(root: Any) -> pd.DataFrame:
    """Build the DataFrame that a pickle holds.

    Raises:
        Exception: The parts don't make one. The type depends on the constructor that refused them.
    """
    _expect(isinstance(root, Part) and root.name == "pandas.DataFrame", "it holds no DataFrame")
    build = _Builder()
    blocks, axes = root.state["_mgr"].args
    columns, rows = (build(axis) for axis in axes)
    arrays = _columns_of(blocks, len(columns), build)
    _expect(all(len(array) == len(rows) for array in arrays), "columns are of different lengths")
    series = {place: pd.Series(array, dtype=array.dtype, copy=False) for place, array in enumerate(arrays)}
    frame = pd.DataFrame(series, copy=False) if arrays else pd.DataFrame(index=rows)
    frame.index, frame.columns = rows, columns
    frame.attrs = build(root.state.get("attrs", {}))
    return frame


def _columns_of(blocks: Any, count: int, build: _Builder) -> list[Any]:
    arrays: dict[int, Any] = {}
    for block in blocks:
        values, where = (build(arg) for arg in block.args[:2])
        places = range(count)[where] if isinstance(where, slice) else [range(count)[place] for place in where]
        rows = values if isinstance(values, list) or getattr(values, "ndim", 1) == 2 else [values]
        for place, row in zip(places, rows, strict=True):
            _expect(place not in arrays, "two columns have the same place")
            arrays[place] = row
    return [arrays[place] for place in range(count)]


def _expect(condition: bool, what: str) -> None:  # noqa: FBT001
    if not condition:
        raise ValueError(what)


def _as_bytes(value: Any) -> Any:
    # From a number, bytearray makes that many bytes. From an array of objects, py_buffer makes their addresses.
    _expect(isinstance(value, (bytes, bytearray)), "bytes were expected")
    return value


def _latin1(text: str, encoding: str) -> bytes:
    _expect(encoding == "latin1", "the encoding of a text is unknown")
    return str.encode(text, "latin1")


def _checked(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Make a date or time. Python does not check one made from bytes, but checks its copy."""
    return lambda *args: kind(*args).replace()


def _zone_of_attribute(part: Part, build: _Builder) -> zoneinfo.ZoneInfo:
    """``getattr(ZoneInfo, "_unpickle")(key, from_cache)``, which is how a ZoneInfo is pickled."""
    owner, attribute, key = part.args[:3]
    _expect(owner.name == "zoneinfo.ZoneInfo" and attribute == "_unpickle", "an unknown attribute is called")
    return zoneinfo.ZoneInfo(build(key))


def _as_pandas_has_it(zone: Any) -> Any:
    # Older pandas makes its own kind of time zone from a name, and that equals no other kind. A text could name a file.
    _expect(isinstance(zone, datetime.tzinfo), "a time zone was expected")
    return zone.key if isinstance(zone, zoneinfo.ZoneInfo) else zone


def _zoned_dtype(unit: Any, zone: Any) -> pd.DatetimeTZDtype:
    return pd.DatetimeTZDtype(unit, _as_pandas_has_it(zone))


def _timestamp(value: int, _: None, zone: Any, unit: int = 10) -> Any:
    timestamp = pd.Timestamp(_datetime64(value, _UNITS[unit]))
    return timestamp if zone is None else timestamp.tz_localize("UTC").tz_convert(_as_pandas_has_it(zone))


def _timedelta(value: int, unit: int = 10) -> pd.Timedelta:
    return pd.Timedelta(_timedelta64(value, _UNITS[unit]))


def _dtype(part: Part, build: _Builder) -> np.dtype[Any]:
    code, state = part.args[0], build(part.state)
    _expect(isinstance(code, str) and _DTYPE_CODE.fullmatch(code) is not None, f"the dtype {code!r} is unknown")
    if code[0] in "mM":
        unit, count = state[-1][1][:2]
        code = f"{code}[{count}{unit.decode()}]"
    dtype: np.dtype[Any] = np.dtype(code)
    return dtype.newbyteorder(">") if state is not None and state[1] == ">" else dtype


def _array_of_state(part: Part, build: _Builder) -> np.ndarray[Any, Any]:
    _, shape, dtype, by_columns, content = build(part.state)
    return _array(content, dtype, shape, "F" if by_columns else "C")


def _array(content: Any, dtype: Any, shape: Any, order: Any, _: Any = None) -> np.ndarray[Any, Any]:
    _expect(isinstance(dtype, np.dtype) and isinstance(shape, tuple), "a dtype or a shape is missing")
    _expect(all(isinstance(length, int) and length >= 0 for length in shape), "the shape of an array is invalid")
    if dtype.kind == "O":
        _expect(isinstance(content, list), "the cells of an array are not a list")
        flat = np.fromiter(content, dtype=object, count=len(content))
    else:
        flat = np.frombuffer(_as_bytes(content), dtype) if content else np.empty(0, dtype)
    if dtype.kind == "b":
        flat = flat.view(np.uint8) != 0  # numpy counts a true more than once if it is not 1
    if dtype.kind == "U":
        flat.tolist()  # an invalid character raises here, not when the cell is used
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any) -> Any:
    _expect(isinstance(dtype, np.dtype) and dtype.kind != "O", "the dtype of a number is invalid")
    return _array(content, dtype, (1,), "C")[0] if content else dtype.type()


def _backed_by_numpy(part: Part, build: _Builder) -> Any:
    state = part.state if part.state is not None else part.args[2]
    # The third item is pandas' cache and the frequency.
    first, second = (build(item) for item in state[:2])
    values, dtype = (first, second) if isinstance(first, np.ndarray) else (second, first)
    if part.args[0].name == "pandas.Categorical":
        return pd.Categorical.from_codes(values, dtype=dtype)
    return _array_of_dtype(values, dtype) if values.ndim == 1 else [_array_of_dtype(row, dtype) for row in values]


def _array_of_dtype(values: np.ndarray[Any, Any], dtype: Any) -> Any:
    if not isinstance(dtype, pd.DatetimeTZDtype):
        return pd.array(values, dtype=dtype)
    _expect(values.dtype.kind == "M", "times were expected")
    return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(dtype.tz).array


def _text_dtype(part: Part, build: _Builder) -> Any:
    state, args = build(part.state) or {}, build(part.args)
    storage = args[0] if args else state.get("storage", state.get("_storage", "python"))
    by_nan = storage == "pyarrow_numpy" or (len(args) > 1 and args[1] is not pd.NA)
    if not by_nan:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype("python" if storage == "python" else "pyarrow", na_value=np.nan)
    except TypeError:
        return pd.api.types.pandas_dtype("string[pyarrow_numpy]")  # the form of pandas 2.2


def _arrow_texts(dtype: Any, array: Any) -> Any:
    _expect(isinstance(dtype, pd.StringDtype), "the dtype of texts is invalid")
    return dtype.__from_arrow__(array)


def _of_state(function: Callable[..., Any], *keys: str) -> Callable[[Part, _Builder], Any]:
    return lambda part, build: function(*(build(part.state[key]) for key in keys))


def _arrow_array(state: Any) -> pa.Array:
    type_, length, nulls, offset, buffers, children, dictionary = state
    _expect(
        all(isinstance(number, int) for number in (length, nulls, offset)),
        "the type or length of an Arrow array is invalid",
    )
    _expect(
        length >= 0 and offset >= 0 and isinstance(type_, pa.DataType),
        "the type or length of an Arrow array is invalid",
    )
    if isinstance(type_, pa.DictionaryType):
        indices = _arrow_array((type_.index_type, length, nulls, offset, buffers, (), None))
        return pa.DictionaryArray.from_arrays(indices, _arrow_array(dictionary), ordered=type_.ordered)
    below = [_arrow_array(child) for child in children]
    # Arrow aborts the process if a child has another type, or a pair is null. ``validate`` checks the buffers.
    _expect(
        [child.type for child in below] == [type_.field(n).type for n in range(type_.num_fields)],
        "a child has another type",
    )
    _expect(not pa.types.is_map(type_) or below[0].null_count == 0, "a pair of a map is null")
    array = pa.Array.from_buffers(type_, length, buffers, -1, offset, below or None)
    array.validate(full=True)
    return array


def _index(part: Part, build: _Builder) -> Any:
    state = {key: build(value) for key, value in part.args[1].items() if key != "freq"}
    match part.args[0].name:
        case "pandas.RangeIndex":
            return pd.RangeIndex(state["start"], state["stop"], state["step"], name=state["name"])
        case "pandas.MultiIndex":
            return pd.MultiIndex(state["levels"], state["codes"], names=state["names"])
    return pd.Index(state["data"], dtype=state["data"].dtype, name=state["name"])


_AS_THEY_ARE: Final = (
    *(set, frozenset, slice, datetime.timedelta, datetime.timezone, decimal.Decimal),
    *(pa.chunked_array, pa.decimal128, pa.decimal256, pa.dictionary, pa.field, pa.large_list, pa.list_, pa.map_),
    *(pa.struct, pa.timestamp, pa.lib.type_for_alias),
)

# Functions of the arguments, which are built before.
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **{f"{function.__module__.partition('.')[0]}.{function.__name__}": function for function in _AS_THEY_ARE},
    **{f"datetime.{kind.__name__}": _checked(kind) for kind in (datetime.date, datetime.datetime, datetime.time)},
    "_codecs.encode": _latin1,
    "builtins.bytearray": lambda *content: bytearray(*map(_as_bytes, content)),
    "numpy._frombuffer": _array,
    "numpy.scalar": _scalar,
    "pandas._nat_unpickle": lambda *_: pd.NaT,
    "pandas.__nat_unpickle": lambda *_: pd.NaT,
    **dict.fromkeys(("pandas._timedelta_unpickle", "pandas.Timedelta"), _timedelta),
    **dict.fromkeys(("pandas._unpickle_timestamp", "pandas.Timestamp"), _timestamp),
    "pyarrow._restore_array": _arrow_array,
    "pyarrow.py_buffer": lambda content: pa.py_buffer(_as_bytes(content)),
    "pytz.FixedOffset": lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)),
    "pytz._UTC": lambda: zoneinfo.ZoneInfo("UTC"),
    "pytz._p": lambda key="UTC", *_: zoneinfo.ZoneInfo(key),
}

# Functions that build those arguments and parts of the state that they need.
_BUILDERS: Final[dict[str, Callable[[Part, _Builder], Any]]] = {
    **dict.fromkeys(("pandas._new_Index", "pandas._new_DatetimeIndex", "pandas._new_TimedeltaIndex"), _index),
    **{
        f"pandas.{kind.__name__}": _of_state(kind, "_data", "_mask")
        for kind in (pd.arrays.BooleanArray, pd.arrays.FloatingArray, pd.arrays.IntegerArray)
    },
    "builtins.getattr()": _zone_of_attribute,
    "collections.OrderedDict": lambda part, build: OrderedDict((build(key), build(item)) for key, item in part.items),
    "numpy._reconstruct": _array_of_state,
    "numpy.dtype": _dtype,
    "pandas.ArrowExtensionArray": _of_state(pd.arrays.ArrowExtensionArray, "_pa_array"),
    "pandas.ArrowStringArray": _of_state(_arrow_texts, "_dtype", "_pa_array"),
    "pandas.ArrowStringArrayNumpySemantics": _of_state(_arrow_texts, "_dtype", "_pa_array"),
    "pandas.CategoricalDtype": _of_state(pd.CategoricalDtype, "categories", "ordered"),
    "pandas.DatetimeTZDtype": _of_state(_zoned_dtype, "unit", "tz"),
    "pandas.StringDtype": _text_dtype,
    "pandas.__pyx_unpickle_NDArrayBacked": _backed_by_numpy,
    "uuid.UUID": _of_state(lambda number: uuid.UUID(int=number), "int"),
}

# Names that are read by the part that holds them, or not needed. They are never built.
_NAMES: Final = """
    builtins.getattr numpy.ndarray zoneinfo.ZoneInfo pandas.NA pandas.DataFrame pandas.BlockManager
    pandas._unpickle_block pandas.Index pandas.RangeIndex pandas.MultiIndex pandas.DatetimeIndex pandas.TimedeltaIndex
    pandas.CategoricalIndex pandas.Int64Index pandas.UInt64Index pandas.Float64Index pandas.Categorical
    pandas.DatetimeArray pandas.TimedeltaArray pandas.StringArray pandas.StringArrayNumpySemantics pandas.ArrowDtype
    pandas.BooleanDtype pandas.Float32Dtype pandas.Float64Dtype pandas.Int8Dtype pandas.Int16Dtype pandas.Int32Dtype
    pandas.Int64Dtype pandas.UInt8Dtype pandas.UInt16Dtype pandas.UInt32Dtype pandas.UInt64Dtype pandas.Day pandas.Hour
    pandas.Minute pandas.Second pandas.Milli pandas.Micro pandas.Nano pandas.Week pandas.MonthBegin pandas.MonthEnd
    pandas.YearBegin pandas.YearEnd pandas.BusinessDay
"""

ALLOWED: Final = frozenset({*_FUNCTIONS, *_BUILDERS, *_NAMES.split()})
"""Every name that a pickle may hold, after its top-level package."""
