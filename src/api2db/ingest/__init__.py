"""Runs collectors: polls their APIs, journals what the polls yield, and runs their streams and stores.

A ``Collector`` describes what to poll; a runner polls it. The clock of the process starts polls and rounds of stores.
Each has a thread while it runs, so that none delays another. What a poll yields is journalled in groups together with
their state, so that a cursor and its rows are never separated.
"""

from api2db.ingest._collector import Collector, PeriodicStore, RunnableStream, registered
from api2db.ingest.runner import Runner
from api2db.ingest.status import CollectorStatus, PollRecord, read_polls, read_status

__all__ = [
    "Collector",
    "CollectorStatus",
    "PeriodicStore",
    "PollRecord",
    "RunnableStream",
    "Runner",
    "read_polls",
    "read_status",
    "registered",
]
