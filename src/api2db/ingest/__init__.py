"""Collectors: what is polled, how often, and where its frames go.

A collector describes, and a runner polls. Each poll runs in its own thread. The pages that it yields are journalled in
groups, each with the state that belongs to it, so that a cursor and its rows stay together.
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
