"""Paths as part of a stream's identity: relative inside the project, so that the project can be moved."""

from pathlib import Path


def relative_to_home(path: Path, home: Path) -> str:
    """Return a path relative to the project's folder if it is inside, else as it is."""
    resolved, base = path.resolve(), home.resolve()
    return str(resolved.relative_to(base)) if resolved.is_relative_to(base) else str(resolved)
