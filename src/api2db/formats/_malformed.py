"""What a codec raises on a malformed file, and how a person is told."""

import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from api2db.disk.atomic import naming
from api2db.errors import Api2dbError, FormatError
from api2db.redaction import redact

# A flipped byte makes a codec ask for what is not there (AttributeError, LookupError), give a constructor what it does
# not take (TypeError, ValueError, ArithmeticError; AssertionError, NotImplementedError and SystemError of pandas and
# numpy), or go on without end (EOFError, MemoryError, RecursionError). pyarrow, pickle and struct have errors of their
# own. Not Exception itself: what is none of these is no fault of the file.
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
def malformed_is_format_error(path: Path, fmt: str) -> Iterator[None]:
    """Turn what a codec raises on a malformed file into one error; let those of the system and our own pass."""
    try:
        with naming(path):
            yield
    except Api2dbError:
        raise
    except _FAULTS as error:
        _let_the_system_speak(error)
        raise FormatError(
            f"{path} can't be read as {fmt}: {_said(error)}; restore it, move it away, or name the format that it has"
        ) from error


@contextmanager
def unwritable_is_format_error(fmt: str) -> Iterator[None]:
    """Turn what a codec raises on a frame that it can't write into one error; let the system's and our own pass."""
    try:
        yield
    except Api2dbError:
        raise
    except _FAULTS as error:
        _let_the_system_speak(error)
        advice = "change the column" if fmt == "parquet" else "change the column, or use parquet"
        raise FormatError(f"the frame can't be written as {fmt}: {_said(error)}; {advice}") from error


def _let_the_system_speak(error: BaseException) -> None:
    # Arrow raises a bare OSError for a malformed file; the system's own have a number.
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _said(error: BaseException) -> str:
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {redact(first_line)[:300]}"  # which may quote values of the file
