"""Collectors: what is polled, how often, and where its frames go.

A collector describes; a runner polls. The clock of the process begins polls and rounds of stores. Each has a thread
while it is under way, so that none delays another. What a poll yields is journalled in groups together with the state
that belongs to them, so that a cursor and its rows never part.
"""

from api2db.ingest._collector import Collector, PeriodicStore, RunnableStream, registered
from api2db.ingest.runner import Runner
from api2db.ingest.status import CollectorStatus, read_status

__all__ = [
    "Collector",
    "CollectorStatus",
    "PeriodicStore",
    "RunnableStream",
    "Runner",
    "read_status",
    "registered",
]
