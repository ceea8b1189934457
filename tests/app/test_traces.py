"""Traces: a poll, what it journals, and the load that links to it, in OpenTelemetry's own SDK."""

import json
import logging
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from api2db import Collector, Stream2Sql, tracing
from api2db.app._tracing import traced
from api2db.app.logs import JsonFormatter
from api2db.errors import PollError
from api2db.ingest import Runner
from api2db.journal import Entry, ReadLimit, StreamIdentity, journal_store

ROWS = pd.DataFrame({"id": [1, 2]})
EVERYTHING = ReadLimit(1 << 40, 1 << 40)


class Spans:
    """The spans that have ended."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Trace as a program does that has set up the SDK, until the test has ended."""
    found, provider = Spans(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(found.memory))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return found


def context(span: ReadableSpan) -> tuple[int, int]:
    found = span.get_span_context()
    assert found is not None
    return found.trace_id, found.span_id


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def cities(home: Path) -> Stream2Sql:
    return Stream2Sql("cities", "cities.sqlite", "sqlite", home=home)


def poll_once(home: Path, import_target: Any) -> None:
    runner = Runner(Collector("cities", 60, import_target, [cities(home)]))
    runner.start(polling=False)
    try:
        runner.poll_once()
        assert runner.flush(20)
    finally:
        runner.stop(5)


def test_a_poll_has_what_it_journals_below_it_and_the_load_links_to_that(tmp_path: Path, spans: Spans) -> None:
    poll_once(tmp_path, lambda: [{"id": 1}, {"id": 2}])
    poll, journal, load = spans.one("poll"), spans.one("journal"), spans.one("load")
    assert poll.attributes == {"api2db.collector": "cities", "api2db.rows": 2, "api2db.frames": 1}
    assert journal.parent is not None
    assert (journal.parent.trace_id, journal.parent.span_id) == context(poll)
    assert links(load) == [context(journal)]
    assert context(load)[0] != context(poll)[0]
    said: dict[str, Any] = dict(load.attributes or {})
    assert (said["api2db.rows"], said["api2db.rejected"], len(said["api2db.position"])) == (2, 0, 2)
    assert str(said["api2db.target"]).startswith("sqlite:")
    assert (journal.kind, load.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)


def test_an_async_poll_is_the_parent_of_what_its_function_traces(tmp_path: Path, spans: Spans) -> None:
    async def pages() -> Any:
        with trace.get_tracer("user").start_as_current_span("call"):
            pass
        yield [{"id": 1}]

    poll_once(tmp_path, pages)
    call, poll = spans.one("call"), spans.one("poll")
    assert call.parent is not None
    assert call.parent.span_id == context(poll)[1]


def test_a_poll_that_fails_is_an_error_without_secrets(tmp_path: Path, spans: Spans) -> None:
    def fails() -> None:
        raise OSError("no route to postgresql://me:hunter2@db.example.org/rows")

    with pytest.raises(PollError):
        poll_once(tmp_path, fails)
    poll = spans.one("poll")
    assert not poll.status.is_ok
    assert "no route" in str(poll.status.description)
    assert "hunter2" not in poll.to_json()


@pytest.mark.disk_journal
def test_a_load_after_a_restart_links_to_the_put_before_it(tmp_path: Path, spans: Spans) -> None:
    stream = cities(tmp_path)
    with trace.get_tracer("user").start_as_current_span("request"):
        stream.q.put(ROWS)
        stream.q.put(ROWS)
    stream.stop()
    with cities(tmp_path) as again:
        assert again.flush(20)
    assert links(spans.one("load")) == [context(journal) for journal in spans.named("journal")]
    request = spans.one("request")
    assert {context(journal)[0] for journal in spans.named("journal")} == {context(request)[0]}


@pytest.mark.disk_journal
@pytest.mark.parametrize("rows", [1, 140_000], ids=["small", "sliced"])
def test_frames_with_and_without_a_context_are_read_in_any_order(
    tmp_path: Path, spans: Spans, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    frames = [pa.record_batch({"id": range(number * rows, (number + 1) * rows)}) for number in range(4)]
    provider = trace.get_tracer_provider()
    handle = journal_store(tmp_path).open("cities")
    _, reader = handle.journal.attach(StreamIdentity("a", "b"))
    for number, frame in enumerate(frames):
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider if number % 2 else None)
        handle.journal.append([frame])
    entries = reader.read(EVERYTHING, 0)
    by_frame = {number: [each for each in entries if _number_of(each, rows) == number] for number in range(4)}
    assert [sum(each.batch.num_rows for each in found) for found in by_frame.values()] == [rows] * 4
    contexts = [{each.trace for each in found} for found in by_frame.values()]
    assert contexts[0] == contexts[2] == {None}
    assert [len(contexts[number]) for number in (1, 3)] == [1, 1]
    assert contexts[1] != contexts[3]
    handle.release()


def test_what_is_not_sampled_leaves_no_bytes_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    assert tracing.begin("journal").context is None


def test_without_the_sdk_nothing_is_made(tmp_path: Path) -> None:
    assert tracing.begin("journal") is tracing.begin("load", links=_never_asked())
    with cities(tmp_path) as stream:
        stream.q.put(ROWS)
        assert stream.flush(20)


def _never_asked() -> Iterator[bytes]:
    raise AssertionError
    yield b""


def test_a_failed_load_is_an_error_and_its_log_lines_name_the_frame(
    tmp_path: Path, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    handler = Handler()
    logging.getLogger("api2db").addHandler(handler)
    stream = Stream2Sql("cities", "cities.sqlite", "sqlite", home=tmp_path, schema="freeze")
    try:
        with stream:
            stream.q.put(ROWS)
            assert stream.flush(20)
            stream.q.put(pd.DataFrame({"id": ["x"]}))
            assert stream.flush(20)
    finally:
        logging.getLogger("api2db").removeHandler(handler)
    [file] = (tmp_path / "STORE" / "rejected").glob("*/*/*.parquet")
    [line] = [line for line in lines if "refused" in line["message"]]
    assert (line["collector"], line["stream"], line["frame"]) == ("cities", stream.identity, file.stem)
    assert [(span.attributes or {})["api2db.rejected"] for span in spans.named("load")] == [0, 1]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    """A receiver of OTLP over HTTP, which the environment names, in a program that has set nothing up."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", type(trace._TRACER_PROVIDER_SET_ONCE)())
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        yield taken
        provider = trace.get_tracer_provider()
        if isinstance(provider, TracerProvider):
            provider.shutdown()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("given", "name"), [({}, b"api2db"), ({"OTEL_SERVICE_NAME": "own"}, b"own")])
def test_a_run_exports_its_spans_to_the_endpoint_of_the_environment(
    endpoint: Sequence[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch, given: dict[str, str], name: bytes
) -> None:
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    with traced(), tracing.begin("poll", collector="cities"):
        pass
    [(path, body)] = endpoint
    assert path == "/v1/traces"
    assert b"poll" in body
    assert name in body


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_environment_can_turn_traces_off(
    endpoint: Sequence[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch, off: dict[str, str]
) -> None:
    for variable, value in off.items():
        monkeypatch.setenv(variable, value)
    with traced():
        assert tracing.begin("poll").context is None
    assert not endpoint


def test_a_missing_extra_is_said_and_stops_nothing(
    endpoint: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with traced():
        assert tracing.begin("poll").context is None
    assert "pip install 'api2db[otel]'" in caplog.text


def _number_of(entry: Entry, rows: int) -> int:
    return int(entry.batch.column(0)[0].as_py()) // rows
