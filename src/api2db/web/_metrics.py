"""The figures for Prometheus, in its own names and units."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api2db.app.figures import CollectorFigures, read_figures
from api2db.ingest import CollectorStatus
from api2db.journal import StreamOverview, journal_store

_BY_STREAM = ("collector", "target")
_BY_COLLECTOR = ("collector",)


def exposition(home: Path, accept: str) -> tuple[bytes, str]:
    """Return the figures of a project in the text format that a scraper accepts, and its media type."""
    registry = CollectorRegistry()
    registry.register(_Project(home))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Project(Collector):
    def __init__(self, home: Path) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        """Yield all figures as of now."""
        collectors, store = read_figures(self._home), journal_store(self._home)
        yield from _of_collectors(collectors)
        yield from _of_streams(collectors)
        latency = HistogramMetricFamily(
            "api2db_delivery_latency_seconds",
            "From the put of a frame until its rows are visible in the target, since the process was started.",
            labels=_BY_STREAM,
        )
        age = GaugeMetricFamily(
            "api2db_last_visible_timestamp_seconds", "When rows became visible in the target last.", labels=_BY_STREAM
        )
        for collector in collectors:
            for identity, said in store.details(collector.name).items():
                labels = (collector.name, identity)
                if said.get("visible_at"):
                    age.add_metric(labels, said["visible_at"])
                if "latency" in said:
                    latency.add_metric(labels, _buckets(said["latency"]), said["latency"]["sum_s"])
        yield latency
        yield age


def _buckets(latency: dict[str, list[float]]) -> list[tuple[str, float]]:
    total, found = 0.0, []
    for bound, count in zip([*map(str, latency["bounds_s"]), "+Inf"], latency["counts"], strict=True):
        total += count
        found.append((bound, total))
    return found


def _of_collectors(collectors: list[CollectorFigures]) -> Iterator[Metric]:
    up = GaugeMetricFamily("api2db_collector_running", "Whether a process runs the collector.", labels=_BY_COLLECTOR)
    polled = GaugeMetricFamily("api2db_last_poll_timestamp_seconds", "When the last poll began.", labels=_BY_COLLECTOR)
    counters = {
        name: CounterMetricFamily(f"api2db_{name}", text, labels=_BY_COLLECTOR)
        for name, (text, _) in _COLLECTOR_COUNTERS.items()
    }
    for collector in collectors:
        up.add_metric((collector.name,), float(collector.running))
        status = collector.status
        if status is None:
            continue
        if status.polled_at is not None:
            polled.add_metric((collector.name,), status.polled_at)
        for name, (_, read) in _COLLECTOR_COUNTERS.items():
            if (value := read(status)) is not None:
                counters[name].add_metric((collector.name,), value)
    yield from (up, polled, *counters.values())


def _of_streams(collectors: list[CollectorFigures]) -> Iterator[Metric]:
    counters = {
        name: CounterMetricFamily(f"api2db_{name}", text, labels=_BY_STREAM)
        for name, (text, _) in _STREAM_COUNTERS.items()
    }
    gauges = {
        name: GaugeMetricFamily(f"api2db_{name}", text, labels=_BY_STREAM) for name, (text, _) in _STREAM_GAUGES.items()
    }
    for collector in collectors:
        for stream in collector.streams:
            labels = (collector.name, stream.identity)
            for name, (_, read) in _STREAM_COUNTERS.items():
                counters[name].add_metric(labels, read(stream))
            for name, (_, read) in _STREAM_GAUGES.items():
                gauges[name].add_metric(labels, read(stream))
    yield from (*counters.values(), *gauges.values())


def _counted_by_itself(name: str) -> Callable[[CollectorStatus], float | None]:
    return lambda status: (status.figures or {}).get(name)


_COLLECTOR_COUNTERS: Mapping[str, tuple[str, Callable[[CollectorStatus], float | None]]] = {
    "polls": ("Polls begun since the process was started.", lambda status: status.polls),
    "polls_failed": ("Polls that failed since the process was started.", lambda status: status.failed),
    "polls_late": ("Ticks that came while a poll ran, since the process was started.", lambda status: status.late),
    "rows_journalled": ("Rows journalled since the process was started.", lambda status: status.rows),
    "http_calls": ("Calls to the API since the process was started.", _counted_by_itself("calls")),
    "http_not_modified": ("Calls that were answered by 304.", _counted_by_itself("not_modified")),
    "http_retries": ("Calls that were repeated.", _counted_by_itself("retried")),
    "http_limited_seconds": ("Time waited for rate limits.", _counted_by_itself("waited_s")),
}
_STREAM_COUNTERS: Mapping[str, tuple[str, Callable[[StreamOverview], float]]] = {
    "rows_delivered": ("Rows in the target since the stream was registered.", lambda stream: stream.rows_delivered),
    "frames_delivered": ("Frames delivered since then.", lambda stream: stream.frames_delivered),
    "rows_superseded": ("Rows that a newer frame replaced.", lambda stream: stream.rows_superseded),
    "duplicates_dropped": ("Rows dropped because they repeat others.", lambda stream: stream.duplicates_dropped),
}
_STREAM_GAUGES: Mapping[str, tuple[str, Callable[[StreamOverview], float]]] = {
    "rows_waiting": ("Rows in the journal that are not delivered.", lambda stream: stream.rows_waiting),
    "frames_waiting": ("Frames in the journal that are not delivered.", lambda stream: stream.frames_waiting),
    "waiting_bytes": ("Their size.", lambda stream: stream.bytes_waiting),
    "rows_rejected": ("Rows that are set aside as rejected.", lambda stream: stream.rows_rejected),
    "rows_parked": ("Rows of a batch whose retries ran out.", lambda stream: stream.rows_parked),
    "delivery_lag_seconds": ("The age of the oldest waiting frame.", lambda stream: stream.lag_s),
    "stream_running": ("Whether a worker delivers the stream.", lambda stream: float(stream.running)),
    "stream_failing": ("Whether its last error stands.", lambda stream: float(stream.last_error is not None)),
}
