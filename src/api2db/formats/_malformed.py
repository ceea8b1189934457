"""Errors of codecs on malformed files and frames, turned into ``FormatError``."""

import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from api2db.disk.atomic import naming
from api2db.errors import Api2dbError, FormatError
from api2db.redaction import redact

# A flipped byte makes a codec access what does not exist (AttributeError, LookupError), give a constructor a wrong
# value (TypeError, ValueError, ArithmeticError; in pandas and numpy AssertionError, NotImplementedError, SystemError),
# or read without end (EOFError, MemoryError, RecursionError). pyarrow, pickle and struct have their own errors.
# Exception itself is not listed: any other error is not caused by the file.
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
    """Turn a codec's error on a malformed file into a FormatError; errors of the system and of api2db pass through."""
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
    """Turn a codec's error on a frame that it can't write into a FormatError; other errors pass through."""
    try:
        yield
    except Api2dbError:
        raise
    except _FAULTS as error:
        _let_the_system_speak(error)
        advice = "change the column" if fmt == "parquet" else "change the column, or use parquet"
        raise FormatError(f"the frame can't be written as {fmt}: {_said(error)}; {advice}") from error


def _let_the_system_speak(error: BaseException) -> None:
    # Arrow raises an OSError without a number for a malformed file; errors of the system have one.
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _said(error: BaseException) -> str:
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {redact(first_line)[:300]}"  # The message may quote values of the file.
