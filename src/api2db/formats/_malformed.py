"""The errors that a codec raises on a malformed file, and their messages for people."""

import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from api2db.disk.atomic import naming
from api2db.errors import Api2dbError, FormatError
from api2db.texts import redact

# A flipped byte can make a codec look for something missing (AttributeError, LookupError), pass a constructor a wrong
# argument (TypeError, ValueError, ArithmeticError; AssertionError, NotImplementedError and SystemError in pandas and
# numpy), or continue without end (EOFError, MemoryError, RecursionError). pyarrow, pickle and struct have their own
# errors. Not Exception itself: any other error is not a fault of the file.
_FAULTS = (
    pa.ArrowException,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RecursionError,
    SystemError,
    TypeError,
    ValueError,
    pickle.PickleError,
    struct.error,
)


@contextmanager
def malformed_is_format_error(path: Path | str, fmt: str) -> Iterator[None]:
    """Turn a codec's error about a malformed file into one error; system errors and api2db's own pass through."""
    try:
        with naming(path):
            yield
    except Api2dbError:
        raise
    except _FAULTS as error:
        _let_the_system_speak(error)
        raise FormatError(
            f"{path} can't be read as {fmt}: {_said(error)}; restore it, move it away, or name its actual format"
        ) from error


@contextmanager
def unwritable_is_format_error(fmt: str) -> Iterator[None]:
    """Turn a codec's error about a frame that it can't write into one error; system errors and api2db's own pass."""
    try:
        yield
    except Api2dbError:
        raise
    except _FAULTS as error:
        _let_the_system_speak(error)
        advice = "change the column" if fmt == "parquet" else "change the column, or use parquet"
        raise FormatError(f"the frame can't be written as {fmt}: {_said(error)}; {advice}") from error


def _let_the_system_speak(error: BaseException) -> None:
    # Arrow raises a bare OSError for a malformed file; system errors have a number.
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _said(error: BaseException) -> str:
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {redact(first_line)[:300]}"  # which may quote values of the file
