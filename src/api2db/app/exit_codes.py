"""The exit codes of commands, which ``api2db --help`` explains."""

from typing import Final

FAILED: Final = 1
UNUSABLE: Final = 2
UNHEALTHY: Final = 3
