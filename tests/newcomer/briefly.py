"""Run a command such as ``api2db run`` until a collector has polled three times, then end it by Ctrl-C.

As a program, with a command as its arguments. It needs only the standard library.
"""

import json
import signal
import subprocess
import sys
import time

_POLLS = 3
_LONGEST_S = 60


def main(command: list[str]) -> int:
    """Return the exit code of the command."""
    with subprocess.Popen(command) as running:
        deadline = time.monotonic() + _LONGEST_S
        while running.poll() is None and time.monotonic() < deadline and not _has_polled():
            pass
        running.send_signal(signal.SIGINT)
        return running.wait(timeout=_LONGEST_S)


def _has_polled() -> bool:
    """Whether a collector of a run in this folder has polled often enough; asking takes a second."""
    told = subprocess.run(["api2db", "status", "--json"], capture_output=True, check=False)
    collectors = json.loads(told.stdout or b'{"collectors": []}')["collectors"]
    return any(each["running"] and (each["status"] or {}).get("polls", 0) >= _POLLS for each in collectors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
