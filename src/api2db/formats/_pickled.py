"""The codec for pickle files: written for ``pandas.read_pickle``, and read without running anything in them.

A pickle is a program. It is read in two steps. The first makes only inert parts, and stops at any name that is not part
of a DataFrame. The second builds a DataFrame from these parts with public constructors. Cells may hold text,
numbers, bytes, dicts, lists, tuples, sets, dates and times, decimals, UUIDs and numpy's arrays and numbers. Periods,
intervals and sparse columns are refused, and an index loses its frequency.
"""

import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO, ClassVar

import pandas as pd
import pyarrow as pa

from api2db.errors import FormatError, UnsafePickleError
from api2db.formats._pickle_build import ALLOWED, Part, build_frame
from api2db.frames import to_batch, to_pandas

_PACKAGES = {"__builtin__": "builtins", "_decimal": "decimal"}


def write(table: pa.Table, file: BinaryIO) -> None:
    """Write a table as the DataFrame that it represents.

    Raises:
        FormatError: A cell has a type that could not be read again.
    """
    file.write(dump(to_pandas(table)))


def read(file: BinaryIO) -> pa.Table:
    """Read a DataFrame as a table.

    Raises:
        UnsafePickleError: The pickle names something that is not part of a DataFrame; nothing in it was run.
    """
    return pa.Table.from_batches([to_batch(load(file))])


def dump(df: pd.DataFrame) -> bytes:
    """Pickle a DataFrame as it is, and check that it can be read again.

    Raises:
        FormatError: A cell or column has a type that could not be read again.
    """
    content = pickle.dumps(df, protocol=5)
    try:
        build_frame(_Parser(content).load())
    except _ForbiddenNameError as error:
        raise FormatError(
            f"the frame holds {error}, which could not be read again from a pickle; turn it into text or numbers first"
        ) from error
    return content


def load(file: BinaryIO) -> pd.DataFrame:
    """Read a DataFrame.

    Raises:
        UnsafePickleError: The pickle names something that is not part of a DataFrame; nothing in it was run.
    """
    try:
        root = _Parser(file.read()).load()
    except _ForbiddenNameError as error:
        raise UnsafePickleError(
            f"{getattr(file, 'name', 'the pickle')} names {error}, which is not part of a DataFrame; nothing in it was "
            "run; if you trust the file, read it with pandas and store it again"
        ) from error
    return build_frame(root)


class _ForbiddenNameError(Exception):
    """A pickle names something that is not allowed."""


class _Parser(pickle._Unpickler):  # noqa: SLF001 - the one in C reserves as much memory as a pickle claims
    """Reads a pickle as plain values and parts. A part records the call of a class, which is never imported."""

    read: Callable[[int], bytes]
    append: Callable[[object], None]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # noqa: SLF001

    def __init__(self, content: bytes) -> None:
        super().__init__(BytesIO(content))

    def find_class(self, module: str, name: str) -> Any:
        package = module.partition(".")[0]
        allowed = f"{_PACKAGES.get(package, package)}.{name}"
        if allowed not in ALLOWED:
            raise _ForbiddenNameError(f"{module}.{name}")
        return Part(allowed)

    def load_bytearray8(self) -> None:
        # The original reserves as much memory as the pickle claims before it reads what follows.
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.NEWOBJ[0]] = dispatch[pickle.REDUCE[0]]  # both make a part
    for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX):
        del dispatch[code[0]]  # other ways to a class, which no DataFrame needs
    del code
