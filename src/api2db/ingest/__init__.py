"""Runs collectors: polls their APIs, journals what the polls yield, and runs their streams and stores.

A ``Collector`` describes what to poll; a runner polls it. The clock of the process starts polls and rounds of stores.
Each has a thread while it runs, so that none delays another. What a poll yields is journalled in groups together with
their state, so that a cursor and its rows are never separated.
"""

import typing

from api2db import importing

if typing.TYPE_CHECKING:
    from api2db.ingest._collector import (
        Collector,
        PeriodicStore,
        RunnableStream,
        home_of,
        home_of_collector,
        registered,
    )
    from api2db.ingest.runner import Runner
    from api2db.ingest.status import CollectorStatus, PollRecord, read_polls, read_status

__all__ = [
    "Collector",
    "CollectorStatus",
    "PeriodicStore",
    "PollRecord",
    "RunnableStream",
    "Runner",
    "home_of",
    "home_of_collector",
    "read_polls",
    "read_status",
    "registered",
]

# ``api2db status`` only reads figures, and imports no more than that takes.
__getattr__, __dir__ = importing.on_demand(
    __name__,
    {
        "Collector": "api2db.ingest._collector",
        "CollectorStatus": "api2db.ingest.status",
        "PeriodicStore": "api2db.ingest._collector",
        "PollRecord": "api2db.ingest.status",
        "RunnableStream": "api2db.ingest._collector",
        "Runner": "api2db.ingest.runner",
        "home_of": "api2db.ingest._collector",
        "home_of_collector": "api2db.ingest._collector",
        "read_polls": "api2db.ingest.status",
        "read_status": "api2db.ingest.status",
        "registered": "api2db.ingest._collector",
    },
)
