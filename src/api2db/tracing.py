"""Spans for OpenTelemetry, and the fields of log lines: which collector and stream the running code works for.

There are spans of polls, journalled groups and loads. They are made only in a program that has set up OpenTelemetry's
SDK, as a run does where an exporter is configured. Otherwise the functions for them do nothing, and the library is not
imported.

A load happens later than the put of its frames, often in another process. So the journal stores the context of the put
with each record, and a load's span has a link to each put whose frames it carries.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Literal, Self

from api2db.texts import redact

CONTEXT_BYTES: Final = 25  # of W3C Trace Context: trace id, span id, flags
_TRACE_ID_BYTES: Final = 16
_MOST_LINKS: Final = 128  # what OpenTelemetry's SDK keeps by default
_PREFIX: Final = "api2db."
_PACKAGE: Final = "opentelemetry.trace"
Kind = Literal["internal", "producer", "consumer"]
_NO_FIELDS: Final[Mapping[str, str]] = {}
_fields: ContextVar[Mapping[str, str]] = ContextVar("api2db_log_fields", default=_NO_FIELDS)


class Span:
    """A span that has begun; as a context manager it is the current span, and ends with the block.

    Args:
        span: OpenTelemetry's; None where nothing is traced.
    """

    __slots__ = ("_made_current", "_span")

    def __init__(self, span: Any) -> None:
        self._span = span
        self._made_current: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        if self._span is not None:
            self._made_current = self.current()
            self._made_current.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made_current is not None:
            self._made_current.__exit__(None, None, None)
            self.end(error)

    @property
    def context(self) -> bytes | None:
        """The span's context in 25 bytes; None if nothing is traced, or this span was not sampled."""
        if self._span is None:
            return None
        found = self._span.get_span_context()
        if not found.trace_flags.sampled:
            return None
        trace_id, span_id = found.trace_id.to_bytes(_TRACE_ID_BYTES, "big"), found.span_id.to_bytes(8, "big")
        return bytes([*trace_id, *span_id, found.trace_flags])

    def current(self) -> AbstractContextManager[None]:
        """Make it the parent of the spans that begin within a block, in this thread."""
        return nullcontext() if self._span is None else _current(self._span)

    def set(self, **figures: object) -> None:
        """Set attributes, each named ``api2db.<name>``."""
        if self._span is not None:
            self._span.set_attributes(_attributes(figures))

    def end(self, error: BaseException | None = None) -> None:
        """End it, with the status of an error if there is one."""
        if self._span is None:
            return
        if error is not None:
            trace = sys.modules[_PACKAGE]
            said = redact(str(error)) or type(error).__name__
            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR, said))
        self._span.end()


_NO_SPAN: Final = Span(None)


def begin(name: str, kind: Kind = "internal", links: Iterable[bytes | None] = (), **figures: object) -> Span:
    """Begin a span below the current one.

    Args:
        name: What happens.
        kind: Its kind; a consumer continues what producers began.
        links: The contexts of the producers; equal ones give one link, and 128 links are made at most.
        figures: Its first attributes; see ``Span.set``.
    """
    tracer = _tracer()
    if tracer is None:
        return _NO_SPAN
    trace = sys.modules[_PACKAGE]
    made = [trace.Link(_context_of(each)) for each in _first_different(links)]
    span = tracer.start_span(name, kind=trace.SpanKind[kind.upper()], links=made, attributes=_attributes(figures))
    return Span(span)


def is_on() -> bool:
    """Whether spans are made; if not, ``begin`` does nothing."""
    return _tracer() is not None


_known: tuple[Any, Any] = (None, None)


def _tracer() -> Any:
    """Return the tracer of the program's provider; None if the program has set no provider."""
    global _known  # noqa: PLW0603 - the tracer of the last provider, of which a program has one
    trace = sys.modules.get(_PACKAGE)
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    if provider is not _known[0]:
        is_set = not isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
        _known = provider, provider.get_tracer("api2db") if is_set else None
    return _known[1]


@contextmanager
def _current(span: Any) -> Iterator[None]:
    with sys.modules[_PACKAGE].use_span(span, record_exception=False, set_status_on_exception=False):
        yield


def _attributes(figures: dict[str, object]) -> dict[str, object]:
    return {f"{_PREFIX}{name}": value for name, value in figures.items()}


def _first_different(contexts: Iterable[bytes | None]) -> list[bytes]:
    found: dict[bytes, None] = {}
    for context in contexts:
        if context is not None:
            found[context] = None
            if len(found) == _MOST_LINKS:
                break
    return list(found)


def _context_of(packed: bytes) -> Any:
    trace = sys.modules[_PACKAGE]
    return trace.SpanContext(
        trace_id=int.from_bytes(packed[:_TRACE_ID_BYTES], "big"),
        span_id=int.from_bytes(packed[_TRACE_ID_BYTES:-1], "big"),
        is_remote=True,
        trace_flags=trace.TraceFlags(packed[-1]),
    )


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Add fields to the lines that this thread logs within the block."""
    before = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(before)


def add_log_field(name: str, value: str) -> None:
    """Add a field until the end of the block of ``log_fields`` that this is called in."""
    _fields.set({**_fields.get(), name: value})


def current_log_fields() -> Mapping[str, str]:
    """Return the fields of the lines that this thread logs now."""
    return _fields.get()
