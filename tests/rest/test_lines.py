"""A large body of lines is taken in pieces: whatever ends a poll, the next one goes on at the line."""

import copy
import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from api2db.errors import PollError
from api2db.rest import Cursor, RestApi
from api2db.rest import _hosts as hosts
from api2db.rest import _http as http
from api2db.rest import _lines as lines
from tests.kills.fork_server import ForkServer
from tests.kills.homes import Home
from tests.rest.conftest import Polled, Serve
from tests.rest.servers import Asked, Reply, Server
from tests.rest.shapes import LargeLines, rows_in, rows_of
from tests.rest.test_kills import Killing

ROWS = [{"id": number, "at": number // 10} for number in range(1000)]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0.001)


class Export:
    """A list that may change, and break off."""

    def __init__(self) -> None:
        self.rows = list(ROWS)
        self.headers: dict[str, str] = {}

    def __call__(self, asked: Asked) -> Reply:
        if "etag" in map(str.lower, self.headers) and asked.headers.get("if-none-match") == self.headers["ETag"]:
            return Reply(status=304)
        body = b"".join(json.dumps(row).encode() + b"\n" for row in self.rows)
        return Reply(gzip.compress(body), headers={"Content-Encoding": "gzip", **self.headers})


def polled(server: Server, **options: Any) -> Polled:
    return Polled(RestApi(server.url).get("/x", format="ndjson", **options))


def cut_off(found: Polled, pieces: int) -> None:
    """Poll up to a piece, as if the process was killed when it was journalled."""
    pages = found.resource(found.state)
    for _ in range(pieces):
        found.take(next(pages))
    found.state = copy.deepcopy(found.state)


def test_rows_come_before_the_body_has_ended(serve: Serve) -> None:
    taken = threading.Event()
    body = b"".join(json.dumps({"id": number, "text": "x" * 1000}).encode() + b"\n" for number in range(1000))
    found = polled(serve(lambda asked: Reply(body, midway=lambda: taken.wait(20))))
    for page in found.resource(found.state):
        found.take(page)
        taken.set()
    assert [row["id"] for row in found.rows] == list(range(1000))
    assert taken.is_set()


@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("options", [{}, {"keys": "id"}, {"cursor": Cursor("at", overlap=5)}])
def test_a_poll_that_was_cut_off_goes_on_at_the_line(serve: Serve, options: dict[str, Any], pieces: int) -> None:
    found = polled(serve(Export()), **options)
    cut_off(found, pieces)
    assert 0 < len(found.rows) < len(ROWS)
    found.poll()
    assert found.rows == ROWS
    assert found.poll() == []
    assert "poll" not in found.state


def test_a_list_that_has_grown_meanwhile_goes_on_at_the_line(serve: Serve) -> None:
    export = Export()
    found = polled(serve(export))
    cut_off(found, 3)
    export.rows.append({"id": 1000, "at": 100})
    found.poll()
    assert found.rows == export.rows


def test_a_list_that_has_changed_meanwhile_is_read_from_its_beginning(serve: Serve) -> None:
    export = Export()
    found = polled(serve(export))
    cut_off(found, 3)
    before = len(found.rows)
    export.rows[0] = {"id": 0, "at": 7}
    found.poll()
    assert found.rows[before:] == export.rows


@pytest.mark.parametrize("headers", [{}, {"ETag": '"1"'}], ids=["no ETag", "an ETag"])
def test_a_body_that_has_not_changed_is_not_loaded_again(serve: Serve, headers: dict[str, str]) -> None:
    export = Export()
    export.headers = headers
    found = polled(serve(export))
    assert found.poll() == ROWS
    assert found.poll() == []
    assert found.resource.figures.not_modified == 1
    export.rows.append({"id": 1000, "at": 100})
    export.headers = dict.fromkeys(headers, '"2"')
    assert found.poll() == export.rows


def test_a_broken_line_keeps_the_rows_before_it_and_the_next_poll_goes_on_there(serve: Serve) -> None:
    export = Export()
    body = export(Asked("GET", "/x", {}, {}, b"", "")).body
    text = gzip.decompress(body).replace(b'{"id": 700, ', b'{"id": 700 ')
    server = serve(lambda asked: Reply(text))
    found = polled(server)
    for _ in range(2):
        with pytest.raises(PollError, match="line 701: the response is not JSON"):
            found.poll()
    assert 0 < len(found.rows) <= 700
    server.answer = export
    found.poll()
    assert found.rows == ROWS


def test_a_body_that_breaks_off_is_gone_on_with(serve: Serve) -> None:
    body = gzip.decompress(Export()(Asked("GET", "/x", {}, {}, b"", "")).body) * 30
    server = serve(lambda asked: Reply(body, headers={"Content-Length": str(len(body) + 9), "Connection": "close"}))
    found = polled(server)
    with pytest.raises(PollError, match=r"broke off|failed"):
        found.poll()
    server.answer = lambda asked: Reply(body)
    found.poll()
    assert found.rows == ROWS * 30


def test_a_call_whose_lines_are_read_holds_up_no_other_call_of_its_rate(serve: Serve) -> None:
    body = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    resource = RestApi(serve(lambda asked: Reply(body)).url, rate_limit="1/s").get("/x", format="ndjson")
    pages = iter(resource({}))
    next(pages)
    assert not any(hosts.host_of(resource.endpoint.origin).pace._under_way.values())
    assert sum(1 for _ in pages) > 1


def test_the_bytes_of_a_line_are_bounded_and_not_those_of_the_body(serve: Serve) -> None:
    server = serve(Export())
    api = RestApi(server.url, max_response_bytes=2000, max_decompressed_bytes=2000)
    assert Polled(api.get("/x", format="ndjson")).poll() == ROWS
    server.answer = lambda asked: Reply({"id": 1, "text": "x" * 200_000})
    with pytest.raises(PollError, match="line 1 has more than 2000 bytes; raise max_response_bytes"):
        Polled(api.get("/x", format="ndjson")).poll()


def test_a_kill_in_the_middle_of_a_body_without_keys_loses_and_doubles_nothing(
    fork_server: ForkServer, serve: Serve, tmp_path: Path
) -> None:
    shape = LargeLines()
    shape.grow(300)
    first_rows = threading.Event()
    killing = Killing(shape)
    server, home = serve(killing), Home(tmp_path)

    def within(asked: Asked) -> Reply:
        def midway() -> None:
            first_rows.wait(1.0)  # never set: time for the rows of the first half to be journalled
            killing._wait()

        return Reply(shape(asked).body, midway=midway)

    server.answer = within
    for _ in range(2):
        killing.plan(9, "within")
        with fork_server.start("collect", home.project, shape="lines without keys", url=server.url) as child:
            assert killing.kill(child, 0)
    server.answer = shape
    fork_server.run("collect", home.project, shape="lines without keys", url=server.url)
    assert rows_in(home.path, shape) == rows_of(shape)
