"""Set-up of OpenTelemetry in the processes of a run, by its standard environment variables."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from api2db.texts import redact

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger("api2db.app")
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_LAST_SPANS_S: Final = 2.0
_MOST_SAID: Final = 100


@contextmanager
def traced() -> Iterator[None]:
    """Export spans while the block runs, where the environment names an exporter and the program has set none up.

    At the end of the block the last spans get two seconds to leave.
    """
    provider = _set_up() if _is_wanted() else None
    try:
        yield
    finally:
        if provider is not None:
            last = threading.Thread(target=provider.force_flush, name="api2db-last-spans", daemon=True)
            last.start()
            last.join(_LAST_SPANS_S)


def _is_wanted() -> bool:
    given = os.environ.get("OTEL_TRACES_EXPORTER", "").lower()
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or given not in {"", "otlp"}:
        return False
    return given == "otlp" or any(os.environ.get(name) for name in _ENDPOINTS)


def _set_up() -> "TracerProvider | None":
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter()
    except ImportError as error:
        logger.warning("the environment names an exporter of traces, but %s; pip install 'api2db[otel]'", error)
        return None
    present = trace.get_tracer_provider()
    if not isinstance(present, trace.ProxyTracerProvider):
        return present if isinstance(present, TracerProvider) else None
    resource = Resource({"service.name": "api2db"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=Resource.create().merge(resource), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    theirs = logging.getLogger("opentelemetry")
    theirs.addHandler(_SaidOnce())
    theirs.propagate = False
    return provider


class _SaidOnce(logging.Handler):
    """Logs each problem of the exporter once: while its endpoint is away it would say so every few seconds."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(record.msg)
            logger.warning("traces: %s", redact(record.getMessage()))


def _exporter() -> Any:
    """Return the exporter of the protocol that the environment names; it reads its other variables itself."""
    protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "http/protobuf")
    if protocol == "grpc":
        return import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter").OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
