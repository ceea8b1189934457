"""What a test needs of its machine: where that is missing it is skipped with the reason, but never in CI."""

import os
import shutil

import pytest

NOT_TESTED = "NOT TESTED"


def need(*programs: str, root: bool = False) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if root and os.geteuid() != 0:
        missing.append("root")
    if missing:
        lack(f"needs {', '.join(missing)}")


def lack(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI must have it")
    pytest.skip(reason)
