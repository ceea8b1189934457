"""Frames with every kind of column that pandas has."""

import datetime
import decimal
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa


def every_kind(rows: int = 2) -> dict[str, "pd.Series[Any]"]:
    moments = pd.Series([pd.Timestamp("2020-01-01 01:02:03"), pd.NaT])
    spans = pd.Series(pd.to_timedelta([1, None], unit="s"))
    whole = {
        **{
            name: pd.Series([1, 2], dtype=name)
            for name in ("int8", "int32", "int64", "uint8", "float32", "float64", ">i8")
        },
        "uint64": pd.Series([2**64 - 1, 0], dtype="uint64"),
        "bool": pd.Series([True, False]),
        "nan": pd.Series([1.5, np.nan]),
        **{
            f"M8[{unit}]": moments.astype(pd.api.types.pandas_dtype(f"datetime64[{unit}]"))
            for unit in ("s", "ms", "us", "ns")
        },
        **{
            f"m8[{unit}]": spans.astype(pd.api.types.pandas_dtype(f"timedelta64[{unit}]"))
            for unit in ("s", "ms", "us", "ns")
        },
        "paris": moments.dt.tz_localize("Europe/Paris"),
        "utc": moments.dt.tz_localize("UTC"),
        "offset": moments.dt.tz_localize(datetime.timezone(datetime.timedelta(hours=2))),
        "default_text": pd.Series(["é", None]),
        "string": pd.Series(["é", None], dtype="string"),
        "object_text": pd.Series(["é", None], dtype=object),
        "Int64": pd.Series([2**60 + 1, None], dtype="Int64"),
        "Float64": pd.Series([0.5, None], dtype="Float64"),
        "boolean": pd.Series([True, None], dtype="boolean"),
        "arrow_int": pd.Series([1, None], dtype=pd.ArrowDtype(pa.int32())),
        "arrow_list": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        "category": pd.Series(["a", None], dtype="category"),
        "category_of_intervals": pd.Series(pd.cut([1, 9], [0, 5, 10])),
        "category_of_nothing": pd.Series(pd.Categorical([None, None])),
        "period": pd.Series(pd.PeriodIndex(["2020-01", None], freq="M")),
        "interval": pd.Series(pd.interval_range(0, 2)),
        "sparse": pd.Series(pd.arrays.SparseArray([0, 1])),
        "decimal": objects(decimal.Decimal("1.50"), None),
        "date": objects(datetime.date(2020, 1, 1), None),
        "time": objects(datetime.time(1, 2, 3), None),
        "bytes": objects(b"\xff", None),
        "uuid": objects(uuid.UUID(int=5), None),
        "int_and_none": objects(2**60 + 1, None),
        "dict": objects({"a": [1]}, None),
        "array": objects(np.array([1.5, 2]), None),
        "mixed": objects("x", 1),
        "nothing": objects(None, None),
    }
    return {name: series.iloc[:rows] for name, series in whole.items()}


def objects(*values: object) -> "pd.Series[Any]":
    cells = np.empty(len(values), object)
    for place, value in enumerate(values):
        cells[place] = value
    return pd.Series(cells, dtype=object)
