"""System calls that fail, kill, or are counted, by strace."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.needs import need

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Traced:
    """How a traced child ended, and the calls that were seen."""

    returncode: int
    output: str
    errors: str
    calls: list[str]

    def count(self, name: str) -> int:
        return sum(bool(re.search(rf"\b{name}\(", call)) for call in self.calls)

    @property
    def injected(self) -> int:
        return sum("(INJECTED)" in call for call in self.calls)


def traced(
    module: str, arguments: Sequence[str], log: Path, *, calls: str, inject: Sequence[str] = (), timeout_s: float = 60
) -> Traced:
    """Run a module of the tests under strace.

    Args:
        calls: Which system calls are logged, comma-separated.
        inject: Faults, as strace's ``-e inject=`` has them.
    """
    need("strace")
    command = ["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-e", f"trace={calls}", "-o", str(log)]
    command += [part for fault in inject for part in ("-e", f"inject={fault}")]
    command += [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Traced(done.returncode, done.stdout, done.stderr, log.read_text(errors="replace").splitlines())
