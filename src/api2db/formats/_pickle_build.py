"""The second half of reading a pickle: a DataFrame from inert parts, by constructors that check what they are given.

Nothing is restored the way pandas, numpy and pyarrow do it themselves: they trust the state, and a flipped byte in it
(the flags of a dtype, the code of a category, the offset of a text) could read memory that is not theirs.
"""

import datetime
import decimal
import re
import uuid
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.formats._pickle_parts import GlobalName, Part

_datetime64: Callable[[int, str], Any] = np.datetime64  # type: ignore[assignment] # typed for literal units alone
_timedelta64: Callable[[int, str], Any] = np.timedelta64  # type: ignore[assignment]
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, bytearray})
_DTYPE_CODE = re.compile(r"[biufSU]\d*|[mM]8|O8?")
_UNITS = {7: "s", 8: "ms", 9: "us", 10: "ns"}


class _Builder:
    """Builds each part once, however often it is referred to."""

    def __init__(self) -> None:
        self.built: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return value
        if id(value) not in self.built:
            self.built[id(value)] = _Unfinished()
            self.built[id(value)] = self._build(value)
        return self.built[id(value)]

    def _build(self, value: Any) -> Any:
        if type(value) in (list, tuple, set, frozenset):
            return type(value)([_finished(self(item)) for item in value])
        if type(value) is dict:
            return {self(key): _finished(self(item)) for key, item in value.items()}
        if isinstance(value, Part):
            return _part(value, self)
        if isinstance(value, type) and issubclass(value, Part) and value.name in _CONSTANTS:
            return _CONSTANTS[value.name]
        raise ValueError(f"a {_named(value)} stands where a value should")


class _Unfinished:
    """Stands for a container while it is built."""


def _finished(value: Any) -> Any:
    if isinstance(value, _Unfinished):
        raise ValueError("a cell holds itself")  # noqa: TRY004 - the pickle is at fault, not a type here
    return value


def _named(value: Any) -> str:
    return ".".join(value.name) if isinstance(value, type) and issubclass(value, Part) else type(value).__name__


def _part(part: Part, build: _Builder) -> Any:
    if part.made_by is not None:
        return _time_zone(part, build)
    builder = _BUILDERS.get(part.name)
    if builder is None:
        raise ValueError(f"{'.'.join(part.name)} stands where a value should")
    return builder(part, build)


def _expect(condition: bool, what: str) -> None:  # noqa: FBT001
    if not condition:
        raise ValueError(what)


def _class_name(value: Any) -> str:
    _expect(isinstance(value, type) and issubclass(value, Part), "a class is missing")
    return str(value.name[1])


def _time_zone(part: Part, build: _Builder) -> zoneinfo.ZoneInfo:
    made_by = part.made_by
    _expect(made_by is not None and made_by.name[1] == "getattr" and len(made_by.args) == 2, "an attribute is called")
    owner, attribute = made_by.args if made_by is not None else (None, None)
    _expect(_class_name(owner) == "ZoneInfo" and attribute == "_unpickle", "an attribute is called")
    return zoneinfo.ZoneInfo(build(part.args[0]))


def _named_time_zone(part: Part, build: _Builder) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(build(part.args[0]) if part.args else "UTC")


def _fixed_offset(part: Part, build: _Builder) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(minutes=build(part.args[0])))


def _called(function: Callable[..., Any]) -> Callable[[Part, _Builder], Any]:
    return lambda part, build: function(*(build(arg) for arg in part.args))


def _latin1(part: Part, build: _Builder) -> bytes:
    text, encoding = (build(arg) for arg in part.args)
    _expect(encoding == "latin1" and isinstance(text, str), "text is encoded in an unusual way")
    return bytes(text, "latin1")


def _uuid(part: Part, _: _Builder) -> uuid.UUID:
    return uuid.UUID(int=part.state["int"])


def _ordered_dict(part: Part, build: _Builder) -> dict[Any, Any]:
    return OrderedDict((build(key), _finished(build(item))) for key, item in part.items)


def _timestamp(part: Part, build: _Builder) -> pd.Timestamp:
    value, _, zone, *unit = part.args
    timestamp = pd.Timestamp(_datetime64(value, _UNITS[unit[0] if unit else 10]))
    return timestamp if zone is None else timestamp.tz_localize("UTC").tz_convert(_as_pandas_has_it(build(zone)))


def _timedelta(part: Part, _: _Builder) -> pd.Timedelta:
    value, *unit = part.args
    return pd.Timedelta(_timedelta64(value, _UNITS[unit[0] if unit else 10]))


def _dtype(part: Part, build: _Builder) -> np.dtype[Any]:
    code = part.args[0]
    _expect(isinstance(code, str) and _DTYPE_CODE.fullmatch(code) is not None, f"there is a dtype {code!r}")
    state = build(part.state)
    if code[0] in "mM":
        unit, count = state[-1][1][:2]
        code = f"{code}[{count}{unit.decode()}]"
    dtype: np.dtype[Any] = np.dtype(code)
    return dtype.newbyteorder(">") if state is not None and state[1] == ">" else dtype


def _array_of_state(part: Part, build: _Builder) -> np.ndarray[Any, Any]:
    _, shape, dtype, by_columns, content = build(part.state)
    return _shaped(content, dtype, shape, "F" if by_columns else "C")


def _array_of_buffer(part: Part, build: _Builder) -> np.ndarray[Any, Any]:
    content, dtype, shape, order = (build(arg) for arg in part.args[:4])
    return _shaped(content, dtype, shape, order)


def _shaped(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    _expect(isinstance(dtype, np.dtype) and isinstance(shape, tuple), "an array has no shape")
    _expect(all(isinstance(length, int) and length >= 0 for length in shape), "an array has no length")
    if dtype.kind == "O":
        _expect(isinstance(content, list), "the cells are no list")
        flat = np.fromiter(content, dtype=object, count=len(content))
    elif not content:
        flat = np.empty(0, dtype)
    else:
        _expect(isinstance(content, (bytes, bytearray)), "the numbers are no bytes")
        flat = np.frombuffer(content, dtype)
    if dtype.kind == "U":
        flat.tolist()  # what is no character raises here, not where the cell is used
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(part: Part, build: _Builder) -> Any:
    dtype, content = (build(arg) for arg in part.args)
    _expect(isinstance(dtype, np.dtype) and dtype.kind != "O", "a number has no dtype")
    return np.frombuffer(content, dtype, 1)[0] if content else dtype.type()


def _backed_by_numpy(part: Part, build: _Builder) -> Any:
    state = part.state if part.state is not None else part.args[2]
    # A third item is pandas' own cache, and what it knows of a frequency.
    first, second = (build(item) for item in state[:2])
    values, dtype = (first, second) if isinstance(first, np.ndarray) else (second, first)
    convert = _BACKED_BY_NUMPY[_class_name(part.args[0])]
    return convert(values, dtype) if values.ndim == 1 else [convert(row, dtype) for row in values]


def _datetimes(values: np.ndarray[Any, Any], dtype: Any) -> Any:
    _expect(values.dtype.kind == "M", "the times are no times")
    index = pd.DatetimeIndex(values)
    return index.array if isinstance(dtype, np.dtype) else index.tz_localize("UTC").tz_convert(dtype.tz).array


def _timedeltas(values: np.ndarray[Any, Any], _: Any) -> Any:
    _expect(values.dtype.kind == "m", "the durations are no durations")
    return pd.TimedeltaIndex(values).array


def _zoned_dtype(part: Part, build: _Builder) -> pd.DatetimeTZDtype:
    return pd.DatetimeTZDtype(build(part.state["unit"]), _as_pandas_has_it(build(part.state["tz"])))


def _as_pandas_has_it(zone: Any) -> Any:
    # Older pandas gives a name its own kind of time zone, which equals no other.
    return zone.key if isinstance(zone, zoneinfo.ZoneInfo) else zone


def _categorical_dtype(part: Part, build: _Builder) -> pd.CategoricalDtype:
    state = build(part.state)
    return pd.CategoricalDtype(state["categories"], state["ordered"])


def _text_dtype(part: Part, build: _Builder) -> Any:
    state = build(part.state) or {}
    args = [build(arg) for arg in part.args]
    storage = args[0] if args else state.get("storage", state.get("_storage", "python"))
    by_nan = storage == "pyarrow_numpy" or (len(args) > 1 and args[1] is not pd.NA)
    if not by_nan:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype("python" if storage == "python" else "pyarrow", na_value=np.nan)
    except TypeError:
        return pd.api.types.pandas_dtype("string[pyarrow_numpy]")  # as pandas 2.2 has it


def _masked(kind: Callable[..., Any]) -> Callable[[Part, _Builder], Any]:
    def make(part: Part, build: _Builder) -> Any:
        return kind(build(part.state["_data"]), build(part.state["_mask"]))

    return make


def _arrow_text(part: Part, build: _Builder) -> Any:
    return build(part.state["_dtype"]).__from_arrow__(build(part.state["_pa_array"]))


def _arrow_extension(part: Part, build: _Builder) -> Any:
    return pd.arrays.ArrowExtensionArray(build(part.state["_pa_array"]))


def _arrow_array(part: Part, build: _Builder) -> pa.Array:
    array = _arrow_array_of(build(part.args[0]))
    array.validate(full=True)
    return array


def _arrow_array_of(state: Any) -> pa.Array:
    type_, length, nulls, offset, buffers, children, dictionary = state
    _expect(all(isinstance(number, int) for number in (length, nulls, offset)), "an Arrow array has no length")
    _expect(length >= 0 and offset >= 0 and isinstance(type_, pa.DataType), "an Arrow array has no length")
    if isinstance(type_, pa.DictionaryType):
        indices = pa.Array.from_buffers(type_.index_type, length, buffers, -1, offset)
        indices.validate(full=True)
        values = _arrow_array_of(dictionary)
        values.validate(full=True)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=type_.ordered)
    below = [_arrow_array_of(child) for child in children]
    return pa.Array.from_buffers(type_, length, buffers, -1, offset, below or None)


def _index(part: Part, build: _Builder) -> Any:
    kind = _class_name(part.args[0])
    state = {key: build(value) for key, value in part.args[1].items() if key != "freq"}
    match kind:
        case "RangeIndex":
            return pd.RangeIndex(state["start"], state["stop"], state["step"], name=state["name"])
        case "MultiIndex":
            return pd.MultiIndex(state["levels"], state["codes"], names=state["names"])
    return pd.Index(state["data"], dtype=state["data"].dtype, name=state["name"])


def build_frame(root: Any) -> pd.DataFrame:
    """Build the DataFrame that a pickle holds.

    Raises:
        Exception: The parts don't make one; of whatever kind the constructor in question raises.
    """
    _expect(isinstance(root, Part) and root.name[1] == "DataFrame", "it holds no DataFrame")
    build = _Builder()
    blocks, axes = root.state["_mgr"].args
    columns, rows = (build(axis) for axis in axes)
    arrays = _columns_of(blocks, len(columns), build)
    _expect(all(len(array) == len(rows) for array in arrays), "columns are of different lengths")
    frame = _joined(arrays, rows)
    frame.columns = columns
    frame.attrs = build(root.state.get("attrs", {}))
    return frame


def _columns_of(blocks: Any, count: int, build: _Builder) -> list[Any]:
    arrays: dict[int, Any] = {}
    for block in blocks:
        values, places = build(block.args[0]), _places(build(block.args[1]), count)
        rows = values if isinstance(values, list) or getattr(values, "ndim", 1) == 2 else [values]
        _expect(not arrays.keys() & set(places), "two columns have one place")
        arrays.update(zip(places, rows, strict=True))
    return [arrays[place] for place in range(count)]


def _places(places: Any, count: int) -> list[int]:
    return list(range(count)[places]) if isinstance(places, slice) else [range(count)[place] for place in places]


def _joined(arrays: list[Any], rows: Any) -> pd.DataFrame:
    if not arrays:
        return pd.DataFrame(index=rows)
    series = {place: pd.Series(array, dtype=array.dtype, copy=False) for place, array in enumerate(arrays)}
    frame = pd.DataFrame(series, copy=False)
    frame.index = rows
    return frame


def _ways(builder: Callable[[Part, _Builder], Any], name: str, *modules: str) -> dict[GlobalName, Any]:
    return dict.fromkeys(((module, name) for module in modules), builder)


_BUILTINS = ("builtins", "__builtin__")
_NUMPY = ("numpy._core.multiarray", "numpy.core.multiarray")
_TIMESTAMPS = ("pandas._libs.tslibs.timestamps",)
_TIMEDELTAS = ("pandas._libs.tslibs.timedeltas",)
_INDEXES = "pandas.core.indexes"
_ARRAYS = "pandas.core.arrays"
_DTYPES = "pandas.core.dtypes.dtypes"

_BACKED_BY_NUMPY: dict[str, Callable[[np.ndarray[Any, Any], Any], Any]] = {
    "DatetimeArray": _datetimes,
    "TimedeltaArray": _timedeltas,
    "Categorical": lambda codes, dtype: pd.Categorical.from_codes(codes, dtype=dtype),
    "StringArray": lambda texts, dtype: pd.array(texts, dtype=dtype),
    "StringArrayNumpySemantics": lambda texts, dtype: pd.array(texts, dtype=dtype),
}

_CONSTANTS: dict[GlobalName, Any] = {("pandas", "NA"): pd.NA, ("pandas._libs.missing", "NA"): pd.NA}

_BUILDERS: dict[GlobalName, Callable[[Part, _Builder], Any]] = {
    **_ways(_called(set), "set", *_BUILTINS),
    **_ways(_called(frozenset), "frozenset", *_BUILTINS),
    **_ways(_called(slice), "slice", *_BUILTINS),
    **_ways(lambda part, build: bytearray(*map(_as_bytes, map(build, part.args))), "bytearray", *_BUILTINS),
    **_ways(_latin1, "encode", "_codecs"),
    **_ways(_ordered_dict, "OrderedDict", "collections"),
    **_ways(_called(datetime.date), "date", "datetime"),
    **_ways(_called(datetime.time), "time", "datetime"),
    **_ways(_called(datetime.datetime), "datetime", "datetime"),
    **_ways(_called(datetime.timedelta), "timedelta", "datetime"),
    **_ways(_called(datetime.timezone), "timezone", "datetime"),
    **_ways(_called(decimal.Decimal), "Decimal", "decimal", "_decimal"),
    **_ways(_uuid, "UUID", "uuid"),
    **_ways(_named_time_zone, "_p", "pytz"),
    **_ways(_named_time_zone, "_UTC", "pytz"),
    **_ways(_fixed_offset, "FixedOffset", "pytz"),
    **_ways(_dtype, "dtype", "numpy"),
    **_ways(_array_of_state, "_reconstruct", *_NUMPY),
    **_ways(_array_of_buffer, "_frombuffer", "numpy._core.numeric", "numpy.core.numeric"),
    **_ways(_scalar, "scalar", *_NUMPY),
    **_ways(_timestamp, "_unpickle_timestamp", *_TIMESTAMPS),
    **_ways(_timedelta, "_timedelta_unpickle", *_TIMEDELTAS),
    **_ways(lambda _part, _build: pd.NaT, "_nat_unpickle", "pandas._libs.tslibs.nattype"),
    **_ways(lambda _part, _build: pd.NaT, "__nat_unpickle", "pandas._libs.tslibs.nattype"),
    **_ways(_backed_by_numpy, "__pyx_unpickle_NDArrayBacked", "pandas._libs.arrays"),
    **_ways(_zoned_dtype, "DatetimeTZDtype", "pandas", _DTYPES),
    **_ways(_categorical_dtype, "CategoricalDtype", "pandas", _DTYPES),
    **_ways(_text_dtype, "StringDtype", "pandas", f"{_ARRAYS}.string_"),
    **_ways(_masked(pd.arrays.IntegerArray), "IntegerArray", "pandas.arrays", f"{_ARRAYS}.integer"),
    **_ways(_masked(pd.arrays.FloatingArray), "FloatingArray", "pandas.arrays", f"{_ARRAYS}.floating"),
    **_ways(_masked(pd.arrays.BooleanArray), "BooleanArray", "pandas.arrays", f"{_ARRAYS}.boolean"),
    **_ways(_arrow_text, "ArrowStringArray", "pandas.arrays", f"{_ARRAYS}.string_arrow"),
    **_ways(_arrow_text, "ArrowStringArrayNumpySemantics", f"{_ARRAYS}.string_arrow"),
    **_ways(_arrow_extension, "ArrowExtensionArray", "pandas.arrays", f"{_ARRAYS}.arrow.array"),
    **_ways(_index, "_new_Index", f"{_INDEXES}.base"),
    **_ways(_index, "_new_DatetimeIndex", f"{_INDEXES}.datetimes"),
    **_ways(_index, "_new_TimedeltaIndex", f"{_INDEXES}.timedeltas"),
    **_ways(_arrow_array, "_restore_array", "pyarrow.lib"),
    **_ways(_called(pa.chunked_array), "chunked_array", "pyarrow.lib"),
    **_ways(_called(pa.py_buffer), "py_buffer", "pyarrow.lib"),
    **_ways(_called(pa.field), "field", "pyarrow.lib"),
    **_ways(_called(pa.lib.type_for_alias), "type_for_alias", "pyarrow.lib"),
    **_ways(_called(pa.timestamp), "timestamp", "pyarrow.lib"),
    **_ways(_called(pa.decimal128), "decimal128", "pyarrow.lib"),
    **_ways(_called(pa.decimal256), "decimal256", "pyarrow.lib"),
    **_ways(_called(pa.list_), "list_", "pyarrow.lib"),
    **_ways(_called(pa.large_list), "large_list", "pyarrow.lib"),
    **_ways(_called(pa.struct), "struct", "pyarrow.lib"),
    **_ways(_called(pa.map_), "map_", "pyarrow.lib"),
    **_ways(_called(pa.dictionary), "dictionary", "pyarrow.lib"),
}


def _as_bytes(value: Any) -> bytes:
    # A number would reserve as much memory as it says.
    _expect(isinstance(value, (bytes, bytearray)), "bytes are no bytes")
    return bytes(value)


def _names(module: str, *names: str) -> set[GlobalName]:
    return {(module, name) for name in names}


_SIZES = ("8", "16", "32", "64")
_NAMED_BUT_NEVER_BUILT: set[GlobalName] = {
    *_names("pandas", "DataFrame", "Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex"),
    *_names("pandas", "CategoricalIndex", "Categorical", "ArrowDtype", "BooleanDtype", "Float32Dtype", "Float64Dtype"),
    *_names("pandas", *(f"Int{size}Dtype" for size in _SIZES), *(f"UInt{size}Dtype" for size in _SIZES)),
    *_names("pandas.arrays", "DatetimeArray", "TimedeltaArray", "StringArray"),
    *_names("pandas.core.frame", "DataFrame"),
    *_names("pandas.core.internals.managers", "BlockManager"),
    *_names("pandas._libs.internals", "_unpickle_block"),
    *_names(f"{_INDEXES}.base", "Index"),
    *_names(f"{_INDEXES}.range", "RangeIndex"),
    *_names(f"{_INDEXES}.multi", "MultiIndex"),
    *_names(f"{_INDEXES}.datetimes", "DatetimeIndex"),
    *_names(f"{_INDEXES}.timedeltas", "TimedeltaIndex"),
    *_names(f"{_INDEXES}.category", "CategoricalIndex"),
    *_names(f"{_ARRAYS}.datetimes", "DatetimeArray"),
    *_names(f"{_ARRAYS}.timedeltas", "TimedeltaArray"),
    *_names(f"{_ARRAYS}.categorical", "Categorical"),
    *_names(f"{_ARRAYS}.string_", "StringArray", "StringArrayNumpySemantics"),
    *_names(f"{_ARRAYS}.integer", *(f"Int{size}Dtype" for size in _SIZES), *(f"UInt{size}Dtype" for size in _SIZES)),
    *_names(f"{_ARRAYS}.floating", "Float32Dtype", "Float64Dtype"),
    *_names(f"{_ARRAYS}.boolean", "BooleanDtype"),
    *_names(_DTYPES, "ArrowDtype"),
    *_names("pandas._libs.tslibs.offsets", "Day", "Hour", "Minute", "Second", "Milli", "Micro", "Nano", "Week"),
    *_names("pandas._libs.tslibs.offsets", "MonthBegin", "MonthEnd", "YearBegin", "YearEnd", "BusinessDay"),
    *_names("numpy", "ndarray"),
    *_names("zoneinfo", "ZoneInfo"),
    *_names("builtins", "getattr"),
    *_names("__builtin__", "getattr"),
}
"""What is read by the part that holds it. ``getattr`` is how a ZoneInfo names its constructor."""

ALLOWED: frozenset[GlobalName] = frozenset({*_BUILDERS, *_CONSTANTS, *_NAMED_BUT_NEVER_BUILT})
"""Every name that a pickle may hold; none of them is imported from the pickle or called as it says."""
