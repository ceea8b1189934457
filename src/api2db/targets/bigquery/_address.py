"""Where a local server stands in for Google's."""

import re

_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@?#]+)(:\d{1,5})?/?")


def is_address(text: str) -> bool:
    """Whether it is one of HTTP, with its scheme."""
    return _ADDRESS.fullmatch(text) is not None
