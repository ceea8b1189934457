"""What a child says to the test that started it, a line at a time."""

import sys


def say(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
