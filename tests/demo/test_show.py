"""The demo itself, as the command line runs it."""

import subprocess
import sys
from pathlib import Path


def test_the_demo_ends_with_every_row_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "api2db", "demo", "--seconds", "3", "--home", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "kill -9" in ended.stdout
    assert "Exactly once" in ended.stdout
