"""Text that others wrote, without the secrets that often stand in it."""

import re

_MASK = "***"
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
