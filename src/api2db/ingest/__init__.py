"""Collectors: what is polled, how often, and where its frames go.

A collector describes; a runner polls. Each poll runs in a thread of its own, and what it yields is journalled in
groups together with the state that belongs to them, so that a cursor and its rows never part.
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
