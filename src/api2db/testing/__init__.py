"""Tools for tests of your own collectors: a local API server with faults, and recorded responses of real APIs.

``pytest_plugins = ["api2db.testing.fixtures"]`` in a ``conftest.py`` provides the fixtures ``api_server`` and
``cassette``.

``_server`` is the server, ``_faults`` adds faults to its answers, and ``_cassette`` records and replays responses.
"""

from api2db.testing._cassette import Cassette, Mode
from api2db.testing._faults import (
    bad_utf8,
    cut_gzip,
    dripping,
    endless,
    fail_first,
    pages_of,
    rate_limited,
    repeating,
    slow,
    with_etag,
)
from api2db.testing._server import Answer, ApiServer, Call, Reply

__all__ = [
    "Answer",
    "ApiServer",
    "Call",
    "Cassette",
    "Mode",
    "Reply",
    "bad_utf8",
    "cut_gzip",
    "dripping",
    "endless",
    "fail_first",
    "pages_of",
    "rate_limited",
    "repeating",
    "slow",
    "with_etag",
]
