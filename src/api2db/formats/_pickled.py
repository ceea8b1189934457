"""Pickles that ``pandas.read_pickle`` reads; only DataFrames are read here, and nothing in a file is run.

A pickle is a program. It is read in two halves: first into inert parts, where a name that no DataFrame is made of ends
the reading; then a DataFrame is built from these parts by public constructors. Cells may hold text, numbers, bytes,
dicts, lists, tuples, sets, dates and times, decimals, UUIDs and numpy's arrays and numbers. Periods, intervals and
sparse columns are refused, and an index forgets its frequency.
"""

import pickle
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa

from api2db.errors import FormatError, UnsafePickleError
from api2db.formats._pickle_build import ALLOWED, build_frame
from api2db.formats._pickle_parts import ForbiddenNameError, parse
from api2db.frames import to_batch, to_pandas


def write(table: pa.Table, file: BinaryIO) -> None:
    """Write a table as the DataFrame it stands for.

    Raises:
        FormatError: A cell is of a type that would not be read again.
    """
    file.write(dump(to_pandas(table)))


def read(file: BinaryIO) -> pa.Table:
    """Read a DataFrame as a table.

    Raises:
        UnsafePickleError: It names what no DataFrame is made of; nothing of it was run.
    """
    return pa.Table.from_batches([to_batch(load(file))])


def dump(df: pd.DataFrame) -> bytes:
    """Pickle a DataFrame as it is, once it is known that it can be read again.

    Raises:
        FormatError: A cell or dtype is of a type that would not be read again.
    """
    content = pickle.dumps(df, protocol=5)
    try:
        build_frame(parse(content, ALLOWED))
    except ForbiddenNameError as error:
        raise FormatError(
            f"the frame holds {error}, which would not be read again from a pickle; turn it into text or numbers first"
        ) from error
    return content


def load(file: BinaryIO) -> pd.DataFrame:
    """Read a DataFrame.

    Raises:
        UnsafePickleError: It names what no DataFrame is made of; nothing of it was run.
    """
    try:
        parts: Any = parse(file.read(), ALLOWED)
    except ForbiddenNameError as error:
        raise UnsafePickleError(
            f"{getattr(file, 'name', 'the pickle')} names {error}, which no DataFrame is made of; "
            "nothing of it was run; if you trust the file, read it with pandas and store it anew"
        ) from error
    return build_frame(parts)
