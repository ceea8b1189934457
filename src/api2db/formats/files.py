"""Reads and writes frames and tables in any of the four formats."""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import pandas as pd
import pyarrow as pa

from api2db.disk.atomic import replacing
from api2db.errors import ConfigurationError
from api2db.formats import _csv_text, _json_table, _parquet, _pickled
from api2db.formats._malformed import malformed_is_format_error, unwritable_is_format_error
from api2db.formats.folder_types import types_that_hold
from api2db.frames import to_batch, to_pandas

Format = Literal["parquet", "json", "csv", "pickle"]
FORMATS: tuple[Format, ...] = get_args(Format)
_CODECS = {"parquet": _parquet, "json": _json_table, "csv": _csv_text, "pickle": _pickled}


def check_format(fmt: object) -> Format:
    """Check the name of a format.

    Raises:
        ConfigurationError: It is not one of the four.
    """
    if isinstance(fmt, str) and fmt in FORMATS:
        return fmt
    raise ConfigurationError(f"there is no format {fmt!r}; choose one of {', '.join(FORMATS)}")


def write(table: pa.Table | pa.RecordBatch, file: BinaryIO, fmt: str, known: pa.Schema | None = None) -> None:
    """Write a table into an open file.

    Args:
        table: The rows.
        file: The file to write to.
        fmt: The format.
        known: The types of the folder that the file is for. Parquet is written in them, so that plain readers can
            read the folder. ``read`` returns the rows as they are here.

    Raises:
        ConfigurationError: There is no such format.
        FormatError: The format can't store a column.
        FrameError: Two columns have the same name, which only CSV allows.
        OSError: The file can't be written.
    """
    codec = _CODECS[check_format(fmt)]
    with unwritable_is_format_error(fmt):
        whole = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        if codec is _parquet:
            _parquet.write(whole, file, known)
        else:
            codec.write(whole, file)


def read(path: Path, fmt: str, types: pa.Schema | None = None) -> pa.Table:
    """Read a file as a table. Parquet, JSON and pickle are exact; CSV is read with the types that its folder keeps.

    See ``_csv_text`` for how CSV is read if the folder keeps no types.

    Args:
        path: The file.
        fmt: Its format.
        types: The types to read CSV with, instead of those that the folder keeps now.

    Raises:
        ConfigurationError: There is no such format.
        FormatError: The file is not in that format, or damaged.
        UnsafePickleError: A pickle names something that is not part of a DataFrame; none of it was run.
        OSError: The file can't be opened or read; FileNotFoundError if there is none.
    """
    check_format(fmt)
    with path.open("rb") as file:
        return read_open(file, path, fmt, types)


def read_open(
    file: BinaryIO, path: Path, fmt: str, types: pa.Schema | None = None, said: str | None = None
) -> pa.Table:
    """Read an open file as a table; raises as ``read`` does.

    Args:
        file: The file.
        path: Its path, or for a file elsewhere the one that stands for it, beside which its folder keeps the types.
        fmt: Its format.
        types: The types to read CSV with, instead of those that the folder keeps now.
        said: The file's name for errors; by default the path.
    """
    codec = _CODECS[check_format(fmt)]
    with malformed_is_format_error(said or path, fmt):
        if codec is not _csv_text:
            return codec.read(file)
        return _csv_text.read(file, types_that_hold(path, fmt) if types is None else types)


def decode(content: bytes, path: Path, fmt: str) -> pa.Table:
    """Decode the content of a Parquet, JSON or pickle file; raises as ``read`` does.

    Args:
        content: The bytes.
        path: The name of the file, for errors.
        fmt: Its format.
    """
    with malformed_is_format_error(path, fmt):
        return _CODECS[check_format(fmt)].read(BytesIO(content))


def as_read(table: pa.Table, fmt: str) -> pa.Table:
    """Return a table as it would be read after it has been written; for CSV, types are inferred from the values.

    Raises:
        Api2dbError: As ``write``.
    """
    file = BytesIO()
    write(table, file, fmt)
    file.seek(0)
    return _CODECS[check_format(fmt)].read(file)


def write_frame(df: pd.DataFrame, path: Path, fmt: str) -> None:
    """Write a DataFrame to a file of its own: complete, durable and private, or not at all.

    A pickle keeps the DataFrame as it is. In the other formats an index with a name becomes the leading columns. One
    without a name becomes the column ``index``, or is dropped if it holds only ints. Nested cells are JSON.

    Raises:
        ConfigurationError: There is no such format.
        FormatError: The format can't store a column or a cell.
        FrameError: It is not a frame, or it can't be stored without loss.
        OSError: The file can't be written.
    """
    if check_format(fmt) == "pickle":
        with unwritable_is_format_error(fmt):
            content = _pickled.dump(df)
        with replacing(path) as file:
            file.write(content)
        return
    batch = to_batch(df)
    with replacing(path) as file:
        write(batch, file, fmt)


def read_frame(path: Path, fmt: str) -> pd.DataFrame:
    """Read a file as a DataFrame; raises as ``read`` does."""
    if check_format(fmt) == "pickle":
        with path.open("rb") as file, malformed_is_format_error(path, fmt):
            return _pickled.load(file)
    table = read(path, fmt)
    with malformed_is_format_error(path, fmt):
        return to_pandas(table)
