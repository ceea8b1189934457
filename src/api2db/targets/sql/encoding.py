"""From Arrow to what a driver takes: values that have no form there are the data's fault."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from api2db.errors import BatchRefusedError, TargetError

_Arguments = ParamSpec("_Arguments")
_Form = TypeVar("_Form")


def encoded(encode: Callable[_Arguments, _Form], *rows: _Arguments.args, **options: _Arguments.kwargs) -> _Form:
    """What a pure function makes of rows.

    Raises:
        BatchRefusedError: It raised, whatever it was: a worker that ended by one row would never get behind it.
    """
    try:
        return encode(*rows, **options)
    except TargetError:
        raise
    except Exception as error:
        raise BatchRefusedError(f"a value can't be sent to the database: {error}") from error
