"""Paths as part of a stream's identity: inside the project relative to it, so that a project may be moved."""

from pathlib import Path


def relative_to_home(path: Path, home: Path) -> str:
    """A path without the project's folder in front, where it is inside."""
    resolved, base = path.resolve(), home.resolve()
    return str(resolved.relative_to(base)) if resolved.is_relative_to(base) else str(resolved)
