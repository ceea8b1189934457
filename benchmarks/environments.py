"""The environments of peers: each has its own, which is made the first time and kept."""

import subprocess
import sys
from pathlib import Path
from typing import Final

_PEERS: Final = Path("build/peers")


def interpreter_of(name: str, *requirements: str) -> str:
    """Return the interpreter of an environment in which these requirements are installed."""
    folder = _PEERS.absolute() / name
    python, ready = folder / "bin" / "python", folder / "requirements"
    wanted = "\n".join(requirements)
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)], check=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
        subprocess.run([*pip, "install", *requirements], check=True)
        ready.write_text(wanted)
    return str(python)
