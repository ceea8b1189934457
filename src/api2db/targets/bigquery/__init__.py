"""BigQuery: rows as Arrow over the Storage Write API at offsets; load jobs and MERGE where that cannot be used.

``target`` appends and replaces, ``keyed`` merges by key in a transaction with the ledger. ``_stream`` sends rows to a
write stream, ``_jobs`` loads them as a file. ``table`` and ``columns`` read and change the table. ``_client`` signs in
and sorts Google's errors. Google's library is an extra and takes a second to import, so modules that need it are
imported where they are first used.
"""

import re

__all__ = ["is_address"]

_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@?#]+)(:\d{1,5})?/?")


def is_address(text: str) -> bool:
    """Whether it is the HTTP address of a server, with its scheme."""
    return _ADDRESS.fullmatch(text) is not None
