"""Texts for people: without secrets, an error on one line, a number with its noun."""

import re
import traceback
from collections.abc import Mapping
from pathlib import Path

_LONGEST_ERROR = 500
_MASK = "***"
_SHORTEST_SECRET = 4
# Values of these options of an object store are not secret; any other value is masked in messages.
_PUBLIC = ("region", "endpoint", "url", "allow", "bucket", "container", "name", "retries", "timeout", "put", "imds")
_GUARDED = "key|token|password|passwd|pwd|secret|signature|sig|credential|auth|authorization|cookie"
_VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s,;&'")}\]]+)"""
_PATTERNS = [
    (re.compile(r"(?<=://)[^/\s'\"<>]+@"), f"{_MASK}@"),  # up to the last @: a password may hold one as it is
    (re.compile(r"\?[^\s'\"<>()?=]+=[^\s'\"<>()]*"), f"?{_MASK}"),
    (re.compile(r"(\bauthorization\s*[=:]\s*)(?!\*)[^\s,;'\"]+\s+[^\s,;'\"]+", re.IGNORECASE), rf"\1{_MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {_MASK}"),
    (re.compile(rf"(\b[\w-]*(?:{_GUARDED})s?['\"]?\s*[=:]\s*){_VALUE}", re.IGNORECASE), rf"\1{_MASK}"),
]


def redact(text: str) -> str:
    """Replace passwords of URLs, query strings, and values that are named like secrets."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def without_secrets(text: str, options: Mapping[str, str]) -> str:
    """Redact a text, and mask the values of an object store's options that may be secret."""
    for name, value in options.items():
        if len(value) >= _SHORTEST_SECRET and not any(part in name.lower() for part in _PUBLIC):
            text = text.replace(value, _MASK)
    return redact(text)


def describe_error(error: BaseException, hint: str = "") -> str:
    """Describe an error of users' code on one line: its class, its message without secrets, and where it was raised.

    Args:
        error: The error.
        hint: Stands behind its message.
    """
    said = " ".join(redact(f"{error}{hint}").split())
    said = said if len(said) <= _LONGEST_ERROR else f"{said[:_LONGEST_ERROR]}…"
    return f"{type(error).__name__}{f': {said}' if said else ''}{_place(error)}"


def _place(error: BaseException) -> str:
    """Return the innermost line outside of libraries, which is the one that a user can fix."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_foreign(frame.filename)]
    if not frames:
        return ""
    function = "" if frames[-1].name == "<module>" else f" in {frames[-1].name}"
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}{function})"


def _is_foreign(file: str) -> bool:
    path = Path(file)
    ours = Path(__file__).parent
    library = Path(traceback.__file__).parent
    return ours in path.parents or library in path.parents or "site-packages" in path.parts or file.startswith("<")


def counted(number: int, thing: str) -> str:
    """Return a number with its noun: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
