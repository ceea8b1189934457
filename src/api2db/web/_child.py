"""The page's process beside a run: ends when its standard input closes, which happens however the run ends.

It is started with ``python -m``, which warns of a module that its own package imports, such as ``_serve``.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

from api2db.errors import Api2dbError
from api2db.web._serve import serve


def _until_input_closes(end: Callable[[], None]) -> None:
    """Call a function when standard input closes."""

    def watch() -> None:
        sys.stdin.read()
        end()

    threading.Thread(target=watch, name="api2db-parent", daemon=True).start()


def main() -> int:
    """Serve the page of the project in the first argument, at the address in the second one."""
    home, address = sys.argv[1:3]
    try:
        serve(Path(home), address, _say, _until_input_closes)
    except Api2dbError as error:
        _say(f"the page can't be shown: {error}")
        return 2
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
