"""Text of foreign errors, without the secrets that often stand in it."""

import re
import traceback
from pathlib import Path

__all__ = ["masked", "told"]

_MASK = "***"
_GUARDED = "key|token|password|passwd|pwd|secret|signature|sig|credential|auth"
_VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s,;&'")}\]]+)"""
_PATTERNS = [
    (re.compile(r"(?<=://)[^/\s@]+@"), f"{_MASK}@"),
    (re.compile(r"\?[^\s'\"<>()?=]+=[^\s'\"<>()]*"), f"?{_MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {_MASK}"),
    (re.compile(rf"(\b[\w-]*(?:{_GUARDED})s?['\"]?\s*[=:]\s*){_VALUE}", re.IGNORECASE), rf"\1{_MASK}"),
]
_LONGEST = 500


def masked(text: str) -> str:
    """Replace passwords of URLs, query strings, and values that are named like secrets."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def told(error: BaseException) -> str:
    """Say an error on one line: its kind, what it says without secrets, and where it was raised."""
    said = " ".join(masked(str(error)).split())
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    return f"{type(error).__name__}{f': {said}' if said else ''}{_place(error)}"


def _place(error: BaseException) -> str:
    """The innermost line outside of libraries, which is the one that a user can mend."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_foreign(frame.filename)]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""


def _is_foreign(file: str) -> bool:
    path = Path(file)
    ours = Path(__file__).parents[1]
    library = Path(traceback.__file__).parent
    return ours in path.parents or library in path.parents or "site-packages" in path.parts or file.startswith("<")
