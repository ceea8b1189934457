"""The program ``api2db``. Its command line is in ``program``; a plain ``api2db status`` is answered without it.

People and scripts ask for the status often, and typer takes longer to import than the status takes to read.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

from api2db.errors import Api2dbError

_WITH_VALUE: Final = frozenset({"--only", "--home"})


class _Asked(NamedTuple):
    """The options of ``api2db status``, as in ``command_line``."""

    json: bool = False
    only: str | None = None
    home: str | None = None


def main() -> NoReturn:
    """Run the command line, then exit with its code."""
    asked = _plain_status(sys.argv[1:])
    if asked is not None:
        with suppress(Api2dbError):  # which the command line meets too, and shows
            _exit_with_status(asked)
    from api2db.program import main as run_program

    run_program()


def _plain_status(arguments: Sequence[str]) -> _Asked | None:
    """The options if a status is asked for; None for all else, such as ``--help`` and mistakes."""
    if arguments[:1] != ["status"] or "API2DB_CLUSTER" in os.environ:
        return None
    is_json, values, left = False, dict[str, str](), list(arguments[1:])
    while left:
        name, is_joined, value = left.pop(0).partition("=")
        if name == "--json" and not is_joined:
            is_json = True
        elif name in _WITH_VALUE and (is_joined or (left and left[0] and not left[0].startswith("-"))):
            values[name] = value if is_joined else left.pop(0)
        else:
            return None
    return _Asked(is_json, values.get("--only"), values.get("--home"))


def _exit_with_status(asked: _Asked) -> NoReturn:
    from api2db.app._status import print_status
    from api2db.app.exit_codes import UNHEALTHY
    from api2db.disk.folders import project_home

    is_healthy = print_status(project_home(asked.home), as_json_text=asked.json, only=asked.only)
    sys.exit(0 if is_healthy else UNHEALTHY)


if __name__ == "__main__":
    main()
